"""Stream the raw records of a source from local files, URLs, files of a package, or a dataset of the hub."""

from __future__ import annotations

import glob
import lzma
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePath
from typing import Any, get_args

from pipelines.core import storage
from pipelines.core.errors import UserError, one_line, unreadable
from pipelines.core.hub import commit
from pipelines.core.storage import SCHEMES, Place, Url, is_url
from pipelines.datasets.arrow_values import decoded
from pipelines.datasets.code import code
from pipelines.datasets.delimited import read_delimited
from pipelines.datasets.expressions import evaluate
from pipelines.datasets.hub_rows import read_hub
from pipelines.datasets.json_records import Read, read_document, read_range, read_records
from pipelines.datasets.opened import binary, plain_name
from pipelines.datasets.part import Part
from pipelines.datasets.sheets import read_sheets
from pipelines.datasets.spec import DatasetSpec, FileFormat, Hub, RawRecord, Table, function

SUFFIXES: dict[str, FileFormat] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
}
PACKAGE = "package:"
BATCH = 256  # rows read at once from a parquet file


@dataclass(frozen=True)
class Input:
    """What one read task reads: a file, all files of a loader, or a hub dataset; or a part of one.

    Attributes:
        number: position among the inputs of its source.
        name: shown in messages.
        path: the file, local or behind a URL; None for the hub.
        more: further files, which a loader reads together with `path`.
        fetched: whether it is the hub's own parquet, which `openselene fetch` has put under data_root.
        part: what of it; None for all.
    """

    number: int
    name: str
    path: Place | None
    more: tuple[Place, ...] = ()
    fetched: bool = False
    part: Part | None = None


def read_raw(spec: DatasetSpec, data_root: Place | None) -> Iterator[RawRecord]:
    """All raw records of a source, in order.

    Raises:
        UserError: a file is missing, cannot be read as its format, or the hub cannot be reached.
    """
    for source in inputs(spec, data_root):
        yield from read_input(spec, source, data_root)


def read_input(spec: DatasetSpec, source: Input, data_root: Place | None) -> Iterator[RawRecord]:
    """The raw records of one input, numbered as in the whole of it.

    Raises:
        UserError: it cannot be read as its format.
    """
    tables = {name: _table(spec, name, data_root) for name in spec.tables}
    part = source.part
    if source.path is None:
        assert spec.hub is not None
        records = read_hub(spec.hub, spec.files, part)
    elif spec.loader and not source.fetched:
        records = function(spec.loader)([source.path, *source.more])
    else:
        known, expression = source_format(spec, source), None if source.fetched else spec.records
        records = read_file(source.path, known, expression, spec.encoding, spec.sheets, part)
    stem = plain_name(source.path).stem if source.path else ""
    for index, (where, value, problem) in enumerate(records, start=part.first if part else 0):
        yield RawRecord(
            position=f"{source.number:04d}.{index:09d}",
            where=f"{source.name} {where}",
            value=value,
            file=stem,
            problem=problem,
            tables=tables,
        )


def inputs(spec: DatasetSpec, data_root: Place | None) -> list[Input]:
    """The files a source names, sorted within each glob; its hub dataset where they do not exist.

    Raises:
        UserError: a glob matches nothing and no hub dataset is named; code that it names cannot be imported.
    """
    for name in filter(None, (spec.python, spec.loader)):
        function(name)  # now, and not on the first row
    found: list[tuple[str, Place]] = []
    for pattern in spec.files:
        matches = _matches(pattern, data_root)
        if not matches and spec.hub is not None:
            return _hub_inputs(spec.hub, data_root)
        if not matches:
            raise _not_found(spec, pattern, data_root)
        found += matches
    if not spec.files:
        assert spec.hub is not None
        return _hub_inputs(spec.hub, data_root)
    unique = dict.fromkeys(found)  # a file that two globs name is read once
    if spec.loader:
        (name, first), *others = unique
        return [Input(0, name, first, tuple(path for _, path in others))]
    return [Input(number, name, path) for number, (name, path) in enumerate(unique)]


def contents(spec: DatasetSpec, data_root: Place | None) -> list[str]:
    """Name and content digest of every file that a source reads or runs, side tables included, in order.

    Of a hub dataset, the commit that its revision is at.

    Raises:
        UserError: a file is missing.
    """
    found: list[tuple[str, Place]] = []
    more = code(spec)
    for source in inputs(spec, data_root):
        if source.path is None and spec.hub:
            more.append(f"{spec.hub.id} {commit(spec.hub.id, 'dataset', spec.hub.revision)}")
        if source.path:
            found += [(source.name, source.path), *((path.name, path) for path in source.more)]
    for side in spec.tables.values():
        found += _table_files(spec, side, data_root)
    return [*(f"{name} {storage.content_digest(path)}" for name, path in found), *more]


def data_files(folder: str) -> list[str] | None:
    """A glob for each data file of a local folder and of those below it, sorted; None where it is no folder.

    Names that begin with a dot or an underscore are drafts and notes, and are left out.
    """
    if is_url(folder) and folder.partition(":")[0] not in SCHEMES:
        return None
    root: Place = Url(folder.rstrip("/")) if is_url(folder) else Path(folder)
    if not storage.is_folder(root):
        return None
    found = [path for path in storage.all_files(root) if plain_name(path).suffix.lower() in SUFFIXES]
    own = (path for path in found if not any(part[0] in "._" for part in storage.path_in(path, root).split("/")))
    return [glob.escape(str(path)) for path in own]


def format_of(path: Place, stated: FileFormat | None = None) -> FileFormat | None:
    """The format a file is read as: the stated one, or else that of its suffix; None if that tells none."""
    return stated or SUFFIXES.get(plain_name(path).suffix.lower())


def source_format(spec: DatasetSpec, source: Input) -> FileFormat:
    """The format that an input of a source is read as.

    Raises:
        UserError: its suffix tells none.
    """
    assert source.path is not None
    return "parquet" if source.fetched else _format(spec, source.path, spec.format)


def read_file(
    path: Place,
    file_format: FileFormat,
    records: str | None = None,
    encoding: str | None = None,
    sheets: Sequence[str] | None = None,
    part: Part | None = None,
) -> Read:
    """(where, value, problem) of each record of a file, compressed or not.

    Args:
        path: the file.
        file_format: what it is read as.
        records: expression for the records of a JSON document.
        encoding: of a text, in place of UTF-8.
        sheets: of a workbook.
        part: of a file of lines, or a parquet file.

    Raises:
        UserError: the file as a whole cannot be read as its format.
    """
    try:
        if part and file_format != "parquet":
            yield from read_range(path, encoding, part.start, part.end, part.line)
        elif part:
            yield from _read_parquet(path, part)
        else:
            yield from _reader(path, file_format, records, encoding, sheets)
    except (EOFError, OSError, UnicodeError, zlib.error, lzma.LZMAError) as exc:
        raise unreadable(path, file_format, exc) from None


def _reader(
    path: Place, file_format: FileFormat, records: str | None, encoding: str | None, named: Sequence[str] | None
) -> Read:
    if records is not None and file_format != "json":
        raise UserError(f"`records` is for JSON, this file is read as {file_format}", where=str(path))
    match file_format:
        case "json" | "jsonl":
            if records is not None:
                return read_document(path, records, encoding)
            return read_records(path, encoding, lines=file_format == "jsonl")
        case "csv" | "tsv":
            return read_delimited(path, "," if file_format == "csv" else "\t", encoding)
        case "xlsx":
            return read_sheets(path, named)
        case "parquet":
            return _read_parquet(path)


def hub_folder(hub: Hub) -> str:
    """Where under data_root `openselene fetch` puts a dataset of the hub."""
    return f"hub/{hub.id}/{hub.config or 'default'}/{hub.split}"


def _hub_inputs(hub: Hub, data_root: Place | None) -> list[Input]:
    fetched = _matches(f"{hub_folder(hub)}/*.parquet", data_root)
    if not fetched:
        return [Input(0, f"hub dataset {hub.id}", None)]
    return [Input(number, name, path, fetched=True) for number, (name, path) in enumerate(fetched)]


def _matches(pattern: str, data_root: Place | None) -> list[tuple[str, Place]]:
    if pattern.startswith(PACKAGE):
        package, _, name = pattern.removeprefix(PACKAGE).partition("/")
        try:
            path = Path(str(resources.files(package) / name))
        except ModuleNotFoundError:
            return []
        return [(pattern, path)] if path.is_file() else []
    if is_url(pattern):
        return [(str(path), path) for path in _urls(pattern)]
    if isinstance(data_root, Url) and not Path(pattern).is_absolute():
        return [(_shown(path, data_root), path) for path in _urls(str(data_root / pattern))]
    if data_root is None and not Path(pattern).is_absolute():
        return []
    # The root may itself hold characters that mean something in a glob.
    root = glob.escape(str(data_root or ""))
    paths = sorted(Path(match) for match in glob.glob(str(Path(root, pattern)), recursive=True))
    return [(_shown(path, data_root), path) for path in paths if path.is_file()]


def _urls(pattern: str) -> list[Url]:
    """The files that a URL with wildcards names, on any store that fsspec knows (s3, gs, https, file, ...)."""
    try:
        return storage.matching(Url(pattern))
    except UserError:
        raise
    except Exception as exc:  # no network, no access, no bucket: every store has errors of its own
        why = f"{type(exc).__name__}: {one_line(exc)}"
        raise UserError(
            f"cannot be listed ({why})", where=pattern, fix="check the URL, the network and access"
        ) from None


def _shown(path: Place, data_root: Place | None) -> str:
    inside = data_root is not None and (path == data_root or data_root in path.parents)
    return storage.path_in(path, data_root) if data_root is not None and inside else str(path)


def _not_found(spec: DatasetSpec, pattern: str, data_root: Place | None) -> UserError:
    where = f"source '{spec.name}'"
    if pattern.startswith(PACKAGE) or is_url(pattern) or Path(pattern).is_absolute():
        return UserError(f"no such file: {pattern}", where=where)
    if data_root is not None and not storage.is_folder(data_root):
        return UserError(f"data_root {data_root} is not a folder", where=where, fix="correct it")
    if data_root is None:
        fix = "set data_root, or the variable OPENSELENE_DATA_ROOT, to the folder that holds it"
        return UserError(f"no data_root to find {pattern} under", where=where, fix=fix)
    return UserError(f"no such file: {pattern}", where=where, fix=f"data_root is {data_root}")


def _format(spec: DatasetSpec, path: Place, stated: FileFormat | None) -> FileFormat:
    known = format_of(path, stated)
    if known is None:
        if {".tar", ".tgz", ".rar", ".7z"} & set(PurePath(path.name).suffixes):
            raise UserError("an archive of files, and it is read as one", where=str(path), fix="unpack it")
        fix = f"set `format` in the YAML file of {spec.name}; known: {', '.join(get_args(FileFormat))}"
        raise UserError("cannot tell the format from the suffix", where=str(path), fix=fix)
    return known


def _table(spec: DatasetSpec, name: str, data_root: Place | None) -> dict[Any, Any]:
    side, table = spec.tables[name], dict[Any, Any]()
    for _, path in _table_files(spec, side, data_root):
        known = _format(spec, path, side.format)
        for where, value, problem in read_file(path, known, side.records, side.encoding, side.sheets):
            if problem:
                raise UserError(f"{problem.replace('_', ' ')} in a side table", where=f"{path} {where}")
            try:
                # Nothing is known of a record without a key, least of all that it belongs to rows without one.
                if (key := evaluate(side.key, {"record": value})) is not None and key == key:
                    table.setdefault(key, value)
            except Exception as exc:  # whatever the user's expression raises
                raise UserError(f"the key of table '{name}' fails: {exc}", where=f"{path} {where}") from None
    return table


def _table_files(spec: DatasetSpec, side: Table, data_root: Place | None) -> list[tuple[str, Place]]:
    if not (matches := _matches(side.file, data_root)):
        raise _not_found(spec, side.file, data_root)
    return matches


def row_groups(path: Place) -> list[tuple[int, int]]:
    """Rows, and bytes when unpacked, of each row group of a parquet file, by its footer."""
    import pyarrow.parquet as pq

    with binary(path) as raw, pq.ParquetFile(raw) as file:
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        return [(group.num_rows, group.total_byte_size) for group in groups]


def _read_parquet(path: Place, part: Part | None = None) -> Read:
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = part.first if part else 0
    groups = list(range(part.start, part.end)) if part else None
    try:
        with binary(path, whole=True) as raw, pq.ParquetFile(raw) as file:
            names = file.schema_arrow.names
            if twice := [name for number, name in enumerate(names) if name in names[:number]]:
                raise UserError(f"the column '{twice[0]}' is there twice", where=str(path))
            for batch in file.iter_batches(batch_size=BATCH, row_groups=groups):
                for value, problem in decoded(batch):
                    yield f"row {index}", value, problem
                    index += 1
    except pa.ArrowException as exc:
        raise unreadable(path, "parquet", exc) from None

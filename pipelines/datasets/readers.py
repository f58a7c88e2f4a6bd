"""Stream the raw records of a source from local files, URLs, files of a package, or a dataset of the hub."""

from __future__ import annotations

import glob
import lzma
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

from pipelines.core import storage
from pipelines.core.errors import UserError, one_line, unreadable
from pipelines.core.hub import commit
from pipelines.datasets.code import code
from pipelines.datasets.delimited import read_delimited
from pipelines.datasets.expressions import evaluate
from pipelines.datasets.json_records import Read, read_document, read_records
from pipelines.datasets.opened import binary, plain_name
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
    """What one read task reads: a file, all files of a loader, or a hub dataset.

    Attributes:
        number: position among the inputs of its source.
        name: shown in messages.
        path: the file, local or behind a URL; None for the hub.
        more: further files, which a loader reads together with `path`.
    """

    number: int
    name: str
    path: Path | None
    more: tuple[Path, ...] = ()


def read_raw(spec: DatasetSpec, data_root: Path | None) -> Iterator[RawRecord]:
    """All raw records of a source, in order.

    Raises:
        UserError: a file is missing, cannot be read as its format, or the hub cannot be reached.
    """
    for source in inputs(spec, data_root):
        yield from read_input(spec, source, data_root)


def read_input(spec: DatasetSpec, source: Input, data_root: Path | None) -> Iterator[RawRecord]:
    """The raw records of one input.

    Raises:
        UserError: it cannot be read as its format.
    """
    tables = {name: _table(spec, name, data_root) for name in spec.tables}
    if source.path is None:
        assert spec.hub is not None
        records = _read_hub(spec.hub, spec.files)
    elif spec.loader:
        records = function(spec.loader)([source.path, *source.more])
    else:
        known = _format(spec, source.path, spec.format)
        records = read_file(source.path, known, spec.records, spec.encoding, spec.sheets)
    stem = plain_name(source.path).stem if source.path else ""
    for index, (where, value, problem) in enumerate(records):
        yield RawRecord(
            position=f"{source.number:04d}.{index:09d}",
            where=f"{source.name} {where}",
            value=value,
            file=stem,
            problem=problem,
            tables=tables,
        )


def inputs(spec: DatasetSpec, data_root: Path | None) -> list[Input]:
    """The files a source names, sorted within each glob; its hub dataset where they do not exist.

    Raises:
        UserError: a glob matches nothing and no hub dataset is named; code that it names cannot be imported.
    """
    for name in filter(None, (spec.python, spec.loader)):
        function(name)  # now, and not on the first row
    found: list[tuple[str, Path]] = []
    for pattern in spec.files:
        matches = _matches(pattern, data_root)
        if not matches and spec.hub is not None:
            return [_hub_input(spec.hub)]
        if not matches:
            raise _not_found(spec, pattern, data_root)
        found += matches
    if not spec.files:
        assert spec.hub is not None
        return [_hub_input(spec.hub)]
    unique = dict.fromkeys(found)  # a file that two globs name is read once
    if spec.loader:
        (name, first), *others = unique
        return [Input(0, name, first, tuple(path for _, path in others))]
    return [Input(number, name, path) for number, (name, path) in enumerate(unique)]


def contents(spec: DatasetSpec, data_root: Path | None) -> list[str]:
    """Name and content digest of every file that a source reads or runs, side tables included, in order.

    Of a hub dataset, the commit that its revision is at.

    Raises:
        UserError: a file is missing.
    """
    found: list[tuple[str, Path]] = []
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
    if not Path(folder).is_dir():
        return None
    found = sorted(path for path in Path(folder).rglob("*") if plain_name(path).suffix.lower() in SUFFIXES)
    own = (path for path in found if not any(part[0] in "._" for part in path.relative_to(folder).parts))
    return [glob.escape(str(path)) for path in own if path.is_file()]


def format_of(path: Path, stated: FileFormat | None = None) -> FileFormat | None:
    """The format a file is read as: the stated one, or else that of its suffix; None if that tells none."""
    return stated or SUFFIXES.get(plain_name(path).suffix.lower())


def read_file(
    path: Path,
    file_format: FileFormat,
    records: str | None = None,
    encoding: str | None = None,
    sheets: Sequence[str] | None = None,
) -> Read:
    """(where, value, problem) of each record of a file, compressed or not.

    Args:
        path: the file.
        file_format: what it is read as.
        records: expression for the records of a JSON document.
        encoding: of a text, in place of UTF-8.
        sheets: of a workbook.

    Raises:
        UserError: the file as a whole cannot be read as its format.
    """
    try:
        yield from _reader(path, file_format, records, encoding, sheets)
    except (EOFError, OSError, UnicodeError, zlib.error, lzma.LZMAError) as exc:
        raise unreadable(path, file_format, exc) from None


def _reader(
    path: Path, file_format: FileFormat, records: str | None, encoding: str | None, named: Sequence[str] | None
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


def _hub_input(hub: Hub) -> Input:
    return Input(0, f"hub dataset {hub.id}", None)


def _matches(pattern: str, data_root: Path | None) -> list[tuple[str, Path]]:
    if pattern.startswith(PACKAGE):
        package, _, name = pattern.removeprefix(PACKAGE).partition("/")
        try:
            path = Path(str(resources.files(package) / name))
        except ModuleNotFoundError:
            return []
        return [(pattern, path)] if path.is_file() else []
    if "://" in pattern:
        return [(str(path), path) for path in _urls(pattern)]
    if data_root is None and not Path(pattern).is_absolute():
        return []
    # The root may itself hold characters that mean something in a glob.
    root = glob.escape(str(data_root or ""))
    paths = sorted(Path(match) for match in glob.glob(str(Path(root, pattern)), recursive=True))
    return [(_shown(path, data_root), path) for path in paths if path.is_file()]


def _urls(pattern: str) -> list[Path]:
    """The files that a URL with wildcards names, on any store that fsspec knows (s3, gs, https, file, ...)."""
    import fsspec  # type: ignore[import-untyped]
    from upath import UPath

    try:
        store, path = fsspec.core.url_to_fs(pattern)
        found = store.glob(path) if glob.has_magic(path) else [path] if store.isfile(path) else []
    except ImportError as exc:
        raise UserError(f"cannot read this kind of URL: {exc}", where=pattern) from None
    except Exception as exc:  # no network, no access, no bucket: every store has errors of its own
        why = f"{type(exc).__name__}: {one_line(exc)}"
        raise UserError(
            f"cannot be listed ({why})", where=pattern, fix="check the URL, the network and access"
        ) from None
    # A UPath has all of Path that is used here.
    return [cast("Path", UPath(store.unstrip_protocol(path))) for path in sorted(found)]


def _shown(path: Path, data_root: Path | None) -> str:
    return str(path.relative_to(data_root)) if data_root and path.is_relative_to(data_root) else str(path)


def _not_found(spec: DatasetSpec, pattern: str, data_root: Path | None) -> UserError:
    where = f"source '{spec.name}'"
    if pattern.startswith(PACKAGE) or "://" in pattern or Path(pattern).is_absolute():
        return UserError(f"no such file: {pattern}", where=where)
    if data_root is not None and not data_root.is_dir():
        return UserError(f"data_root {data_root} is not a folder", where=where, fix="correct it")
    if data_root is None:
        fix = "set data_root, or the variable OPENSELENE_DATA_ROOT, to the folder that holds it"
        return UserError(f"no data_root to find {pattern} under", where=where, fix=fix)
    return UserError(f"no such file: {pattern}", where=where, fix=f"data_root is {data_root}")


def _format(spec: DatasetSpec, path: Path, stated: FileFormat | None) -> FileFormat:
    known = format_of(path, stated)
    if known is None:
        if {".tar", ".tgz", ".rar", ".7z"} & set(path.suffixes):
            raise UserError("an archive of files, and it is read as one", where=str(path), fix="unpack it")
        fix = f"set `format` in the YAML file of {spec.name}; known: {', '.join(get_args(FileFormat))}"
        raise UserError("cannot tell the format from the suffix", where=str(path), fix=fix)
    return known


def _table(spec: DatasetSpec, name: str, data_root: Path | None) -> dict[Any, Any]:
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


def _table_files(spec: DatasetSpec, side: Table, data_root: Path | None) -> list[tuple[str, Path]]:
    if not (matches := _matches(side.file, data_root)):
        raise _not_found(spec, side.file, data_root)
    return matches


def _read_parquet(path: Path) -> Read:
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = 0
    try:
        with binary(path, whole=True) as raw, pq.ParquetFile(raw) as file:
            names = file.schema_arrow.names
            if twice := [name for number, name in enumerate(names) if name in names[:number]]:
                raise UserError(f"the column '{twice[0]}' is there twice", where=str(path))
            for batch in file.iter_batches(batch_size=BATCH):
                for value, problem in _decoded(batch):
                    yield f"row {index}", value, problem
                    index += 1
    except pa.ArrowException as exc:
        raise unreadable(path, "parquet", exc) from None


def _decoded(batch: Any) -> Iterator[tuple[Any, str | None]]:
    """(row, problem) of an Arrow batch: a row may hold bytes that are no text, or a date that Python does not have."""
    try:
        yield from ((row, None) for row in batch.to_pylist(maps_as_pydicts="strict"))
    except (ValueError, OverflowError, KeyError):  # raised before the first row: find those at fault
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist(maps_as_pydicts="strict")[0], None
            except UnicodeDecodeError:
                yield "", "invalid_utf8"
            except (ValueError, OverflowError, KeyError) as exc:
                yield "", f"unreadable_value:{one_line(exc)}"


def _read_hub(hub: Hub, files: list[str]) -> Read:
    where = f"hub dataset {hub.id}"
    missing = f"; its local form, {', '.join(files)}, is not under data_root either" if files else ""
    try:
        import datasets

        stream = datasets.load_dataset(hub.id, hub.config, split=hub.split, revision=hub.revision, streaming=True)
        for index, value in enumerate(stream):
            yield f"{hub.split} row {index}", value, None
    except ImportError:
        raise UserError("needs the package datasets", where=where, fix="pip install datasets") from None
    except Exception as exc:  # offline, unknown id, no access, bad config: datasets raises a dozen types
        fix = "check the id and the network, or download its files and name them with `files`"
        why = f"{type(exc).__name__}: {one_line(exc)}"
        raise UserError(f"cannot be read ({why}){missing}", where=where, fix=fix) from None

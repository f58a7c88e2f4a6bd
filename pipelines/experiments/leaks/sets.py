"""The rows of a training set of any form: each record with the texts in it that may be a benchmark's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from pipelines.core import sql, step
from pipelines.core.errors import UserError, one_line
from pipelines.core.progress import clock, say
from pipelines.core.records import OK, TEXT, TEXTS, Row, error
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.core.storage import Place
from pipelines.core.yaml_model import parse_model
from pipelines.curation.words import words_of
from pipelines.datasets.columns import storable
from pipelines.datasets.expressions import check, evaluate
from pipelines.datasets.readers import contents, format_of, inputs
from pipelines.datasets.reading import Reading, divided, in_scope, survey_all, write
from pipelines.datasets.spec import DatasetSpec, RawRecord
from pipelines.experiments.leaks.config import LeaksConfig
from pipelines.experiments.leaks.plain import decoded, plain
from pipelines.experiments.leaks.texts import forms, texts_in
from pipelines.judge_job.requests import files

NAME = "sets"
SET_ROW = pa.schema(
    [
        pa.field("raw_id", TEXT),  # place in the sets: unique
        pa.field("row_id", TEXT),  # the same: two equal records are two rows
        pa.field("source", TEXT),
        pa.field("file", TEXT),
        pa.field("row", TEXT),  # line or number of the record in its file
        pa.field("record", TEXT),  # as JSON
        pa.field("texts", TEXTS),
        pa.field("status", TEXT),
    ]
)


class SetSpec(DatasetSpec):
    """A training set, of which nothing is known but its files."""

    labelled: ClassVar[bool] = False


@dataclass(frozen=True)
class Adapter:
    """Makes the row of a raw record; nothing that is in the record raises.

    Attributes:
        text: expression of the config.
        least_words: of a text.
    """

    text: str | None
    least_words: int

    def __call__(self, spec: DatasetSpec, raw: RawRecord) -> list[Row]:
        """One row a record."""
        name, _, place = raw.where.rpartition(" ")
        name, _, unit = name.rpartition(" ")  # such as `pairs.jsonl line 12`
        row: Row = {"raw_id": raw.position, "row_id": raw.position, "source": spec.name, "file": name}
        row |= {"row": f"{unit} {place}", "record": None, "texts": [], "status": OK}
        if raw.problem:
            return [{**row, "record": storable(str(raw.value)[:2000])[0], "status": error(raw.problem)}]
        try:
            value = decoded(raw.value)
            row["record"] = json.dumps(plain(value), ensure_ascii=False)
        except UnicodeDecodeError:
            return [{**row, "status": error("invalid_utf8")}]
        except (ValueError, RecursionError) as exc:
            return [{**row, "status": error(f"not_json:{one_line(exc)}")}]
        try:
            row["texts"] = self._texts(value, raw.file)
        except Exception as exc:  # whatever the user's expression raises
            row["status"] = error(f"text:{type(exc).__name__}: {one_line(exc)}")
        return [row]

    def _texts(self, record: Any, file: str) -> list[str]:
        value = record if self.text is None else evaluate(self.text, {"record": record, "file": file})
        found = list(texts_in(value))
        if self.text is not None and not found and value is not None:
            raise TypeError("the expression gives no text")
        # Of the forms of a text that differ in no word one is enough.
        every: dict[tuple[str, ...], str] = {}
        for form in (form for one in found for form in forms(one)):
            every.setdefault(tuple(words_of(form)), storable(form)[0])
        return [form for words, form in every.items() if len(words) >= self.least_words]


class Sets:
    """The step that writes a row for every record of the sets.

    Args:
        run: of the job.
        config: which sets, and what of them is compared.

    Raises:
        UserError: no set is named, a folder holds no data, or the expression is none.
    """

    def __init__(self, run: Run, config: LeaksConfig) -> None:
        if not config.sets:
            raise UserError("no training set is named", where="leaks.sets", fix="--sets pairs.jsonl")
        if config.text is not None:
            try:
                check(config.text, ("record", "file"))
            except ValueError as exc:
                raise UserError(str(exc), where="leaks.text") from None
        self.settings, self.config = run, config
        spec: dict[str, Any] = {"name": "leaks.sets", "task": "classification", "license": "", "allowed": ["0", "1"]}
        spec |= {"fields": dict.fromkeys(("instruction", "responses", "verdict"), "none")}
        spec |= {"files": files(config.sets, "leaks.sets"), "format": config.format, "encoding": config.encoding}
        self.spec = parse_model(SetSpec, spec, where="leaks")

    def readings(self) -> list[Reading]:
        """What is read, a file each.

        Raises:
            UserError: a file is missing, or of no known format.
        """
        root = self.settings.data_root
        found = inputs(self.spec, root)
        for one in found:
            if one.path is not None and format_of(one.path, self.config.format) is None:
                fix = "say it, such as leaks.format=jsonl"
                raise UserError("cannot tell the format from the suffix", where=str(one.path), fix=fix)
        adapter = Adapter(self.config.text, self.config.least_words)
        return [Reading(self.spec, one, root, adapt=adapter, schema=SET_ROW) for one in found]

    def depends(self) -> step.Depends:
        """The content of the files, and what of it is compared.

        Raises:
            UserError: a file is missing.
        """
        own = self.config
        how = {"text": own.text, "least_words": own.least_words, "format": own.format, "encoding": own.encoding}
        return {**how, "files": contents(self.spec, self.settings.data_root)}

    def run(self, work: Place) -> Rows:
        """Read the sets, once.

        Raises:
            UserError: a file cannot be read, or no row of it has a text.
            LedgerError: the rows written are not the rows counted.
        """
        folder, depends = work / NAME, self.depends()
        if done := step.finished(folder, depends):
            say(f"{NAME}: already done, {done['rows']} rows")
        return Rows(folder / ROWS, step.once(folder, depends, self._write)["fingerprint"])

    def _write(self, folder: Place) -> step.Result:
        start, files = time.monotonic(), self.readings()
        readings = divided(files)
        counts, readings = in_scope(readings, survey_all(readings, None), None)
        entry = write(readings, counts, folder / ROWS, NAME, SET_ROW)
        refuse_silent(folder / ROWS, self.config.least_words)
        total, seconds = sum(count["rows"] for count in counts.values()), time.monotonic() - start
        say(f"{NAME}: {total} rows of {len(files)} files in {clock(seconds)}")
        return {
            "rows": total,
            "seconds": round(seconds, 2),
            "ledger": entry,
            "files": [one.input.name for one in files],
        }


def refuse_silent(rows: Place, least_words: int) -> None:
    """Refuse a file of which nothing would be compared: it would pass for clean.

    Args:
        rows: of all files.
        least_words: of a text.

    Raises:
        UserError: no row of a file has a text.
    """
    with sql.connect(rows=rows) as connection:
        found = connection.execute(
            """
            select file, count(*), count(*) filter (status like 'error:%'), min(status) filter (status like 'error:%')
            from rows group by file having max(len(texts)) filter (status = 'ok') is null
                or max(len(texts)) filter (status = 'ok') = 0 order by min(raw_id) limit 1
            """
        ).fetchone()
    if found:
        file, total, errors, first = found
        failed = f", {errors} of them errors such as {first.removeprefix('error:')}" if errors else ""
        fix = "leave it out, or decode what it holds" + ("" if errors else ", such as token ids")
        said = f"none of its {total} rows has a text of {least_words} words or more to compare{failed}"
        raise UserError(said, where=file, fix=fix)

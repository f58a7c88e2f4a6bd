"""The rows to be judged: raw records of any file, as requests with a status."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa

from pipelines.core import step
from pipelines.core.counts import count_entry
from pipelines.core.errors import RowFailure, UserError
from pipelines.core.ledger import check_error_share
from pipelines.core.progress import clock, say
from pipelines.core.records import OK, TEXT, TEXTS, Row, error
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.core.storage import Place
from pipelines.core.yaml_model import parse_model
from pipelines.datasets.expressions import check, evaluate
from pipelines.datasets.readers import contents, data_files, format_of, inputs
from pipelines.datasets.reading import Reading, divided, in_scope, survey_all, write
from pipelines.datasets.spec import DatasetSpec, RawRecord, adapt
from pipelines.judge_job.api_fields import FOR_ALL_ROWS, as_named, check_names, check_settings, request_of
from pipelines.judge_job.config import JudgeConfig, MappingConfig
from pipelines.judging.tasks import TASKS
from pipelines.judging.templates import TEMPLATES, identity, load

SOURCE = "judge.input"
API_TASKS = {"classify": "classification"}  # the API's words for tasks, where they are others
REQUEST = pa.schema(
    [
        pa.field("raw_id", TEXT),  # place in the input: unique
        pa.field("row_id", TEXT),  # the same: two equal requests are two rows
        pa.field("source", TEXT),
        pa.field("id", TEXT),  # the caller's
        pa.field("file", TEXT),
        pa.field("row", TEXT),  # line or number of the record in its file
        pa.field("task", TEXT),
        pa.field("instruction", TEXT),
        pa.field("context", TEXT),
        pa.field("responses", TEXTS),
        pa.field("reference", TEXT),
        pa.field("rubric", TEXT),
        pa.field("allowed", TEXTS),
        pa.field("template", TEXT),
        pa.field("status", TEXT),
    ]
)


class RequestSpec(DatasetSpec):
    """How raw records become requests of one task: a source without verdicts."""

    labelled: ClassVar[bool] = False


@dataclass(frozen=True)
class Adapter:
    """Makes the rows of one raw record, with what a source does not have: each row its own task, and no verdict.

    Attributes:
        mapping: of the config.
        template: of the config.
        specs: task -> its specification.
        for_all: settings of the config that a row may not have another way.
    """

    mapping: MappingConfig
    template: str
    specs: Mapping[str, RequestSpec]
    for_all: Mapping[str, bool]

    def __call__(self, spec: DatasetSpec, raw: RawRecord) -> list[Row]:
        """The rows of a raw record, as many as `adapt` would make; nothing that is in the record raises."""
        task, failed = "", ""
        if raw.problem is None:
            try:
                if self.mapping.fields is None and isinstance(raw.value, Mapping):
                    raw = replace(raw, value=as_named(raw.value))
                    check_names(raw.value)
                    check_settings(raw.value, self.for_all)
                task = self._task(raw)
                if self.mapping.fields is None:
                    # Other columns stay: a condition of `where` may ask for them.
                    raw = replace(raw, value={**raw.value, **request_of(raw.value, TASKS[task])})
            except RowFailure as exc:
                failed = f"request:{exc}"
            except Exception as exc:  # whatever the user's expression raises
                failed = f"mapping:task:{type(exc).__name__}: {exc}"
        rows = adapt(self.specs.get(task, spec), raw)
        name, _, place = raw.where.rpartition(" ")
        name, _, unit = name.rpartition(" ")  # such as `answers.csv line 12`
        for row in rows:
            row |= {"row_id": row["raw_id"], "file": name, "row": f"{unit} {place}", "id": row.get("id")}
            row |= {"task": task or None, "template": template_for(self.template, task) if task else None}
            if failed:
                row["status"] = error(" ".join(failed.encode("utf-8", "backslashreplace").decode().split())[:300])
                row["id"] = row["id"] if isinstance(row["id"], str) else _best_id(raw.value)
            elif row["status"] == OK and (problem := _problem(row)):
                row["status"] = error(f"request:{problem}")
        return rows

    def _task(self, raw: RawRecord) -> str:
        if self.mapping.fields and self.mapping.fields.task:
            said = evaluate(self.mapping.fields.task, {"record": raw.value, "file": raw.file, "tables": raw.tables})
        elif self.mapping.fields:
            said = self.mapping.task
        elif isinstance(raw.value, Mapping):
            said = raw.value.get("task") or self.mapping.task
        else:
            raise RowFailure("no_object", "a request is an object with named fields")
        if not said:
            raise RowFailure("no_task", "give `task`, or judge.mapping.task for all rows")
        word = said.strip().casefold() if isinstance(said, str) else ""
        task = API_TASKS.get(word, word)
        if task not in self.specs:
            raise RowFailure("unknown_task", f"{said!r}; a task is one of pairwise, absolute, classify")
        return task


def _best_id(value: Any) -> str | None:
    """The id of a record that makes no request, if it can be told."""
    found = value.get("id") if isinstance(value, Mapping) else None
    return found if isinstance(found, str) and found.isprintable() else str(found) if isinstance(found, int) else None


def _problem(row: Row) -> str | None:
    """Why a request cannot be judged; an empty response can be."""
    if not row["instruction"]:
        return "no_instruction"
    if any(response is None for response in row["responses"]):
        return "no_response"
    if (task := load(row["template"]).task) not in (row["task"], "any"):
        return f"template_is_for_{task}"
    return None


def template_for(name: str, task: str) -> str:
    """The template of a task: `original` and `compact` are short for those that begin with the task's name."""
    full = f"{task}_{name}"
    return full if full in TEMPLATES.names() else name


class Requests:
    """The step that writes every row of the input, with a status.

    Args:
        run: its data root and limit of errors.
        config: what is to be judged.

    Raises:
        UserError: no input is named, a file has no known format, or the mapping or template is unusable.
    """

    name = "requests"

    def __init__(self, run: Run, config: JudgeConfig) -> None:
        self.settings, self.config = run, config
        specs = {task: request_spec(config, task) for task in TASKS}
        self.spec = specs["pairwise"]  # all of them read the same files
        self.adapter = Adapter(
            config.mapping, config.template, specs, {name: getattr(config, name) for name in FOR_ALL_ROWS}
        )
        named = {template_for(config.template, task) for task in TASKS}
        self.templates = identity(*named)

    def readings(self) -> list[Reading]:
        """What is read, a file each.

        Raises:
            UserError: a file is missing, or of no known format.
        """
        root = self.settings.data_root
        found = inputs(self.spec, root)
        for one in found:
            if one.path is not None and format_of(one.path, self.config.mapping.format) is None:
                fix = "say it, such as judge.mapping.format=jsonl"
                raise UserError("cannot tell the format from the suffix", where=str(one.path), fix=fix)
        return [Reading(self.spec, one, root, adapt=self.adapter, schema=REQUEST) for one in found]

    def depends(self) -> step.Depends:
        """The content of the files, how it is read, and the wording of the templates.

        Raises:
            UserError: a file is missing.
        """
        return {
            "mapping": self.config.mapping.identity(),
            "templates": self.templates,
            "files": contents(self.spec, self.settings.data_root),
        }

    def run(self, work: Place) -> Rows:
        """Read the input.

        Raises:
            UserError: a file cannot be read.
            LedgerError: the rows written are not the rows counted.
            TooManyErrors: more than `max_error_share` of the rows are errors.
        """
        folder, depends = work / self.name, self.depends()
        if done := step.finished(folder, depends):
            say(f"{self.name}: already done, {done['rows']} rows")
        return Rows(folder / ROWS, step.once(folder, depends, self._write)["fingerprint"])

    def _write(self, folder: Place) -> step.Result:
        start, files = time.monotonic(), self.readings()
        readings = divided(files)
        counts, readings = in_scope(readings, survey_all(readings, None), None)
        entry = write(readings, counts, folder / ROWS, self.name, REQUEST)
        count_entry(self.name, entry)
        check_error_share(self.name, entry, self.settings.max_error_share)
        total, seconds = sum(count["rows"] for count in counts.values()), time.monotonic() - start
        say(f"{self.name}: {total} rows of {len(files)} files in {clock(seconds)}")
        return {"rows": total, "seconds": round(seconds, 2), "ledger": entry, "files": len(files)}


def request_spec(config: JudgeConfig, task: str) -> RequestSpec:
    """The specification of one task's requests.

    Raises:
        UserError: nothing is named to read, or the mapping is not well formed.
    """
    mapping = config.mapping
    if not config.input:
        raise UserError("no input is named", where="judge.input", fix="judge.input=answers.jsonl")
    fields = {"instruction": "record.instruction", "responses": "record.responses", "allowed": "record.allowed"}
    fields |= {name: f"record.{name}" for name in ("context", "reference", "rubric")}
    named_id: str | None = "record.id"
    if mapping.fields:
        fields = mapping.fields.model_dump(exclude_none=True, exclude={"id", "task"})
        named_id = mapping.fields.id
    if mapping.fields and mapping.fields.task:
        try:
            check(mapping.fields.task, ("record", "file", "tables"))
        except ValueError as exc:
            raise UserError(f"fields.task: {exc}", where="judge.mapping") from None
    spec = {
        "name": SOURCE,
        "task": task,
        "files": files(config.input),
        "license": "",
        "allowed": list(TASKS[task].verdicts),
        "fields": {"verdict": "none", **fields},
        "extra": {"id": named_id} if named_id else {},
        **mapping.model_dump(exclude={"task", "fields"}),
    }
    return parse_model(RequestSpec, spec, where="judge.mapping")


def files(named: Sequence[str], key: str = SOURCE) -> list[str]:
    """Globs of files, those of a folder in place of it.

    Args:
        named: files, globs, folders or URLs.
        key: of the config that names them, for messages.

    Raises:
        UserError: a folder holds no data file.
    """
    found: list[str] = []
    for one in named:
        inside = data_files(one)
        if inside == []:
            raise UserError("no data file in this folder", where=f"{key} {one}")
        found += [one] if inside is None else inside
    return found

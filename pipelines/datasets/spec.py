"""How the raw records of a source or a benchmark become Example rows: a YAML file each.

A field is a sandboxed Jinja expression over `record`:

    responses: "[record['response 1'], record['response 2']]"
    verdict: "{1: 'A', 2: 'B', 0: 'Tie'}[record.label]"

`each` expands a record into several rows, whose fields also see `item`, `index` and, for a mapping, `key`.
`file` is the name of the record's file without its suffix.
Looking up null in a table gives null. Quote a constant text twice: `rubric: "'Is the answer correct?'"`.

Expressions and `python` functions are the user's, and raw records may hold anything. So whatever an expression raises
on a record becomes that row's status: `adapt` never raises, and its `except Exception` clauses are meant.
"""

from __future__ import annotations

import codecs
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from pipelines.core.determinism import digest
from pipelines.core.errors import UserError, one_line
from pipelines.core.records import EXAMPLE, OK, Row, content_hash, error, filtered, group_id, row_id
from pipelines.core.registry import Named
from pipelines.core.yaml_model import OPERATIONAL, Strict
from pipelines.datasets.columns import YEARS, listed, storable, text, text_or_texts, texts, year
from pipelines.datasets.expressions import MissingValue, belongs_to, check, evaluate, require
from pipelines.datasets.filters import condition
from pipelines.judging import closed_sets
from pipelines.judging.tasks import TASKS

FileFormat = Literal["json", "jsonl", "csv", "tsv", "xlsx", "parquet"]
TEXTS = ("instruction", "context", "reference", "rubric", "verdict", "split", "license")
NAMES = ("record", "item", "index", "key", "file", "tables")
MOST_VERDICTS = 1000


def _known_encoding(name: str | None) -> str | None:
    if name is not None:
        try:
            " ".encode(name)  # what is not of text, such as base64, raises too
            return codecs.lookup(name).name
        except LookupError:
            raise ValueError("no such encoding: use Python's names, such as cp1252, latin-1 or utf-16") from None
    return None


Encoding = Annotated[str | None, AfterValidator(_known_encoding)]


class Hub(Strict):
    """A dataset of the Hugging Face hub."""

    id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    to_confirm: Annotated[str, OPERATIONAL] = ""
    """As in DatasetSpec, for the form the data has on the hub."""


class Table(Strict):
    """A small side table, held in memory: expressions look keys up in it (`tables.topic[record.id]`)."""

    file: str
    """Under data_root, or `package:`."""
    format: FileFormat | None = None
    """As for the source's own files."""
    encoding: Encoding = None
    """As for the source's own files."""
    records: str | None = None
    """As for the source's own files."""
    sheets: list[str] | None = None
    """As for the source's own files."""
    key: str
    """Expression over `record`; the first record of a key counts."""


class Fields(Strict):
    """Expressions for the columns of a row; those of the second group replace the specification's constants."""

    instruction: str
    responses: str
    """A list: two texts for pairwise, one for the other tasks."""
    verdict: str
    context: str | None = None
    reference: str | None = None
    rubric: str | None = None

    allowed: str | None = None
    published: str | None = None
    split: str | None = None
    license: str | None = None


class DatasetSpec(Named):
    """Where the raw records of one source are, and how they become rows."""

    labelled: ClassVar[bool] = True
    """Whether a row without a verdict is of no use."""
    name: str = Field(pattern=r"^[A-Za-z0-9_.\-]+$")
    task: Literal["pairwise", "absolute", "classification"]
    about: Annotated[str, OPERATIONAL] = ""
    """Where the data comes from and what its labels mean."""
    to_confirm: Annotated[str, OPERATIONAL] = ""
    """Assumptions not yet checked against the real data; a job prints them before it reads the source."""
    files: list[str] = Field(default_factory=list)
    """Globs under data_root, URLs (`s3://bucket/part-*.parquet`), or `package:pipelines.data.sample/pairwise.jsonl`."""
    format: FileFormat | None = None
    """null takes the format from the file's suffix, without that of a compression (gz, bz2, xz, zst)."""
    encoding: Encoding = None
    """Of text files that are not UTF-8 and have no byte order mark, such as cp1252."""
    loader: str | None = None
    """`module:function` in place of the readers, for records spread over several files: called with the paths of
    `files` in their order, yields (where, record, problem)."""
    hub: Hub | None = None
    """Read from the hub when none of `files` is there."""
    origins: Annotated[dict[str, str], OPERATIONAL] = Field(default_factory=dict)
    """File under data_root -> public address that `openselene fetch` takes it from."""
    by_hand: Annotated[dict[str, str], OPERATIONAL] = Field(default_factory=dict)
    """File under data_root that no command can fetch -> how a person gets it."""
    license: str
    published: int | None = Field(None, ge=YEARS[0], le=YEARS[-1])
    """Year."""
    split: str = "train"
    allowed: list[str]
    """The closed set of verdicts, in order; `1..5` is short for the five integers."""
    records: str | None = None
    """Expression over `document`, a whole JSON file, that gives its list of records."""
    sheets: list[str] | None = None
    """Of a workbook, the sheets to read; null takes the first that is not empty, if no other has the same columns."""
    each: str | None = None
    """Expression for the items a record expands into; an empty list is `filtered:no_items`."""
    python: str | None = None
    """`module:function` in place of `each`: called with the record, returns the list of items."""
    tables: dict[str, Table] = Field(default_factory=dict)
    where: dict[str, str] = Field(default_factory=dict)
    """Reason -> condition; a row that does not meet it is `filtered:<reason>`."""
    fields: Fields
    extra: dict[str, str] = Field(default_factory=dict)
    """Columns in addition to those of an Example: a benchmark's subset, or who wrote each response."""
    _compiled: tuple[list[tuple[str, Any, str]], str] | None = PrivateAttr(None)

    @field_validator("allowed", mode="before")
    @classmethod
    def _closed_set(cls, value: Any, info: ValidationInfo) -> Any:
        value = closed_sets.spread(value, MOST_VERDICTS)
        if not isinstance(value, list):
            raise ValueError("must be a list of verdicts, or a range such as 1..5")
        if any(isinstance(verdict, bool) for verdict in value):
            raise ValueError("quote 'Yes' and 'No': YAML reads the bare words as true and false")
        if None in value or len(value) > MOST_VERDICTS:
            raise ValueError(f"must be at most {MOST_VERDICTS} verdicts, and none of them null")
        if (task := TASKS.get(info.data.get("task", ""))) is None:
            return value  # the task has a complaint of its own
        try:
            labels = task.listed([text(verdict) or "" for verdict in value])
        except TypeError as exc:
            raise ValueError(str(exc)) from None
        if problem := task.problem_of_verdicts(labels):
            raise ValueError(problem)
        return labels

    @field_validator("where")
    @classmethod
    def _reasons(cls, value: dict[str, str]) -> dict[str, str]:
        for reason in value:
            if not re.fullmatch(r"[a-z0-9_]+", reason):
                raise ValueError(f"the reason '{reason}' must be lower-case words joined by _")
        return value

    @model_validator(mode="after")
    def _expressions(self) -> DatasetSpec:
        if not self.files and self.hub is None:
            raise ValueError("give files, hub or both")
        if self.each and self.python:
            raise ValueError("give each or python, not both")
        for key, name in (("python", self.python), ("loader", self.loader)):
            if name and not re.fullmatch(r"[\w.]+:\w+", name):
                raise ValueError(f"{key} must be module:function")
        if self.loader and not self.files:
            raise ValueError("a loader needs files")
        if clash := [name for name in self.extra if name in EXAMPLE.names]:
            raise ValueError(f"extra.{clash[0]} is a column of every row already")
        named = {
            **{f"fields.{name}": text for name, text in self.fields if text is not None},
            **{f"where.{name}": text for name, text in self.where.items()},
            **{f"extra.{name}": text for name, text in self.extra.items()},
        }
        wanted: list[tuple[str, str, tuple[str, ...]]] = [(key, text, NAMES) for key, text in named.items()]
        wanted += [(f"tables.{name}.key", table.key, ("record",)) for name, table in self.tables.items()]
        wanted += [("each", self.each, ("record", "file", "tables"))] if self.each else []
        for records in (self.records, *(table.records for table in self.tables.values())):
            wanted += [("records", records, ("document",))] if records else []
        for key, expression, names in wanted:
            try:
                check(expression, names)
            except ValueError as exc:
                raise ValueError(f"{key}: {exc}") from None
        return self


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record, as it is in a source.

    Attributes:
        position: `file.record`, zero-padded: text order is the order of reading.
        where: file and line or record number, for a person.
        value: the record.
        file: name of its file without the suffix.
        problem: why it could not be read (`invalid_json`, `invalid_utf8`, ...); `value` is then its text.
        tables: the specification's side tables.
    """

    position: str
    where: str
    value: Any
    file: str = ""
    problem: str | None = None
    tables: dict[str, dict[Any, Any]] = field(default_factory=dict)


def adapt(spec: DatasetSpec, raw: RawRecord) -> list[Row]:
    """The rows of one raw record: at least one, every Example column, each with a status.

    Raises:
        UserError: the specification's `python` cannot be imported; nothing else.
    """
    if raw.problem:
        shown = storable(str(raw.value)[:2000])[0]
        return [_finish(spec, raw, None, {"instruction": shown}, error(raw.problem))]
    try:
        items = expand(spec, raw)
    except UserError:  # code that cannot be imported is no row's fault
        raise
    except Exception as exc:
        name = "python" if spec.python else "each"
        return [_finish(spec, raw, None, {}, _failure(spec, name, exc, raw.value))]
    if not items:
        return [_finish(spec, raw, None, {}, filtered("no_items"))]
    expands = spec.each is not None or spec.python is not None
    return [
        _row(spec, raw, number if expands else None, {"item": item, "index": number, "key": key})
        for number, (key, item) in enumerate(items)
    ]


def expand(spec: DatasetSpec, raw: RawRecord) -> list[tuple[Any, Any]]:
    """The (key, item) pairs a record expands into; without `each` and `python` the record itself.

    Raises:
        Exception: whatever the specification's expression or function raises.
    """
    if spec.python:
        return [(None, item) for item in listed(function(spec.python)(raw.value))]
    if not spec.each:
        return [(None, raw.value)]
    items = evaluate(spec.each, {"record": raw.value, "file": raw.file, "tables": raw.tables})
    if items is None:
        return []
    if isinstance(items, Mapping):
        return list(items.items())
    return [(None, item) for item in listed(items)]


def _row(spec: DatasetSpec, raw: RawRecord, number: int | None, scope: dict[str, Any]) -> Row:
    scope = {"record": raw.value, "file": raw.file, "tables": raw.tables, **scope}
    data = (raw.value, scope["item"], raw.tables)
    values: dict[str, Any] = {}
    status = _turned_away(spec, scope, data) or OK
    columns, together = _columns(spec)
    try:
        found = evaluate(together, scope)
        for name, convert, _ in columns:
            require(found[name])
            values[name] = convert(found[name])
    except Exception:
        # Again, one by one: the quarantine shows every field that can be filled, although the row is lost.
        for name, convert, expression in columns:
            try:
                found = evaluate(_together([(name, expression)]), scope)
                require(found[name])
                values[name] = convert(found[name])
            except Exception as exc:
                status = _failure(spec, name, exc, data) if status == OK else status
    if status == OK:
        status = _settle(spec, values)
    return _finish(spec, raw, number, values, status)


def _settle(spec: DatasetSpec, values: dict[str, Any]) -> str:
    """Bring a row's own closed set and its verdict into their usual form; the row's status by them."""
    task = TASKS[spec.task]
    if spec.labelled and not (values["verdict"] or "").strip():
        return filtered("null_verdict")
    if (found := len(values["responses"])) != task.responses:
        return error(f"mapping:responses:{found} responses for a {spec.task} row")
    if "allowed" in values:
        if None in values["allowed"]:
            return error("unusable_verdicts:one is null")
        values["allowed"] = task.listed(values["allowed"])
        if problem := task.problem_of_verdicts(values["allowed"]):
            return error(f"unusable_verdicts:{storable(problem)[0]}")
    if spec.labelled:
        values["verdict"] = closed_sets.as_listed(values["verdict"], values.get("allowed", spec.allowed))
    return OK


def _columns(spec: DatasetSpec) -> tuple[list[tuple[str, Any, str]], str]:
    """(name, conversion, expression) of each column, and one expression for all: calls cost more than fields."""
    if (known := spec._compiled) is None:
        of: dict[str, Callable[[Any], Any]] = {"responses": texts, "allowed": _verdicts, "published": year}
        columns = [(name, of.get(name, text), each) for name, each in spec.fields if each is not None]
        columns += [(name, text_or_texts, each) for name, each in spec.extra.items()]
        known = spec._compiled = (
            columns,
            _together([(name, expression) for name, _, expression in columns]),
        )
    return known


def _together(named: list[tuple[str, str]]) -> str:
    """One expression for several, by the name of the column each is for: what is a label is checked as one."""
    return "{" + ", ".join(f"'{name}': ({expression}\n)" for name, expression in named) + "}"


def _verdicts(value: Any) -> list[str | None]:
    """A row's own closed set: a list, or a range such as 1..5."""
    return texts(closed_sets.spread(value, MOST_VERDICTS))


def _turned_away(spec: DatasetSpec, scope: dict[str, Any], data: Any) -> str | None:
    for reason, expression in spec.where.items():
        try:
            if not condition(evaluate(expression, scope)):
                return filtered(reason)
        except Exception as exc:
            return _failure(spec, f"where.{reason}", exc, data)
    return None


def _failure(spec: DatasetSpec, name: str, exc: Exception, data: Any) -> str:
    if isinstance(exc, MissingValue) and belongs_to(data, exc.holder):
        holder = exc.holder
        there = ", ".join(map(str, holder)) if isinstance(holder, Mapping) else f"a {type(holder).__name__}"
        where = f"fields.{name}" if name in Fields.model_fields else name
        status = error(f"missing_field:{exc.key}:{where} of source '{spec.name}' asks for it; there: {there[:200]}")
    elif isinstance(exc, MissingValue) and isinstance(exc.holder, Mapping):
        known = ", ".join(map(str, exc.holder))
        status = error(f"mapping:{name}:not_in_its_table: {exc.key!r}; the table has {known[:200]}")
    else:
        status = error(f"mapping:{name}:{type(exc).__name__}: {one_line(exc)}")
    return str(storable(" ".join(status.split()))[0])


def _finish(spec: DatasetSpec, raw: RawRecord, number: int | None, values: dict[str, Any], status: str) -> Row:
    row: Row = dict.fromkeys(EXAMPLE.names)
    row |= {"source": spec.name, "task": spec.task, "allowed": list(spec.allowed)}
    row |= {"split": spec.split, "published": spec.published, "license": spec.license, **values}
    damaged = False
    for name in ("responses", "allowed", *TEXTS, *spec.extra):
        row[name], bad = storable(row.get(name))
        damaged |= bad
    if damaged and status == OK:
        status = filtered("invalid_unicode")
    row["raw_id"] = f"{spec.name}:{raw.position}" + ("" if number is None else f":{number:04d}")
    row["content_hash"], row["group_id"] = content_hash(row), group_id(row["instruction"])
    # Rows that are not `ok` may all look alike, so their id is their place in the source.
    row["row_id"] = row_id(row, row["content_hash"]) if status == OK else digest("raw", row["raw_id"])
    row["status"] = status
    return row


@cache
def function(name: str) -> Any:
    """What `module:function` names.

    Raises:
        UserError: there is no such module or function.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as exc:  # the user's module runs when it is imported, and may raise anything
        raise UserError(f"cannot be imported ({type(exc).__name__}: {one_line(exc)})", where=name) from None

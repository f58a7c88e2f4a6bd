"""Judged rows: system, prompt, the judge's score, and here and there a label of a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.core.errors import TooManyErrors, UserError, one_line
from pipelines.core.run import Run
from pipelines.core.yaml_model import parse_model
from pipelines.datasets.expressions import MissingValue, check, evaluate
from pipelines.datasets.filters import condition
from pipelines.datasets.readers import contents, read_raw
from pipelines.datasets.spec import DatasetSpec, RawRecord
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.labels import labelled, labels_of
from pipelines.experiments.calibrate.values import Judged, given, named, number
from pipelines.judge_job.requests import files

NAMES = ("system", "prompt", "score", "label", "id")
OWN = ("gold", "verdict_probs")  # columns by which a judgment of ours is known


@dataclass(frozen=True)
class Read:
    """What a reading gave.

    Attributes:
        rows: the usable ones.
        lost: where -> why, of the others.
        fingerprint: of the files.
    """

    rows: list[Judged]
    lost: dict[str, str]
    fingerprint: list[str]

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> rows."""
        return dict(Counter(":".join(reason.split(":")[:2]) for reason in self.lost.values()))


class JudgedSpec(DatasetSpec):
    """Files of judged rows."""

    labelled: ClassVar[bool] = False


def read(run: Run, config: CalibrateConfig) -> Read:
    """All judged rows, with their labels.

    Raises:
        UserError: nothing is named, a file cannot be read, an expression is none, no row is usable, or an id of
            `labels` is unknown, comes twice, or is that of another prompt or system.
        TooManyErrors: more than `max_error_share` of the rows are errors.
    """
    spec = spec_of("calibrate.input", config.input, config)
    check_expressions(config)
    rows: list[Judged] = []
    lost: dict[str, str] = {}
    for raw in read_raw(spec, run.data_root):
        try:
            row = row_of(raw, config)
        except Exception as exc:  # whatever the user's expression raises
            lost[raw.where] = f"error:{raw.problem or type(exc).__name__}: {one_line(exc)}"
            continue
        if isinstance(row, str):
            lost[raw.where] = row
        else:
            rows.append(row)
    errors = sum(reason.startswith("error:") for reason in lost.values())
    if errors > run.max_error_share * (len(rows) + len(lost)):
        first = next(f"{where}: {reason}" for where, reason in lost.items() if reason.startswith("error:"))
        raise TooManyErrors(f"calibrate: {errors} of {len(rows) + len(lost)} rows are errors, such as {first}")
    rows = named(rows)
    if not rows:
        raise UserError("no judged row is left", where="calibrate.input", fix=f"lost: {Read(rows, lost, []).reasons}")
    found = contents(spec, run.data_root)
    if config.labels:
        people = spec_of("calibrate.labels", config.labels, config)
        rows = labelled(rows, labels_of(people, run))
        found += contents(people, run.data_root)
    return Read(rows, lost, found)


def spec_of(key: str, named: list[str], config: CalibrateConfig) -> JudgedSpec:
    """Files of the config as something that can be read.

    Raises:
        UserError: none is named, or a folder holds no data.
    """
    if not named:
        raise UserError("no file is named", where=key, fix=f"{key}=judged.jsonl")
    spec: dict[str, Any] = {"name": key, "task": "absolute", "license": "", "allowed": ["1", "5"]}
    spec |= {"fields": dict.fromkeys(("instruction", "responses", "verdict"), "none")}
    return parse_model(JudgedSpec, {**spec, "files": files(named, key), "format": config.format}, where=key)


def check_expressions(config: CalibrateConfig) -> None:
    """Refuse an expression that cannot be evaluated on any record.

    Raises:
        UserError: naming the key.
    """
    named = {f"calibrate.fields.{name}": getattr(config.fields, name) for name in NAMES}
    named |= {f"calibrate.where.{name}": text for name, text in config.where.items()}
    for key, text in named.items():
        try:
            if text is not None:
                check(text, ("record", "file"))
        except ValueError as exc:
            raise UserError(str(exc), where=key) from None


def row_of(raw: RawRecord, config: CalibrateConfig) -> Judged | str:
    """The row of a record, or why it is filtered; its id, and its prompt, are empty where the record has none.

    Raises:
        Exception: it makes no row.
    """
    if raw.problem:
        raise ValueError(raw.problem)
    if not isinstance(raw.value, Mapping):
        raise TypeError("not an object with named values")
    values = {"record": raw.value, "file": raw.file}
    for reason, text in config.where.items():
        if not condition(evaluate(text, values)):
            return f"filtered:{reason}"
    record = from_judgment(raw.value) if all(name in raw.value for name in OWN) else raw.value
    if record is None:
        return "filtered:swapped_order"
    found = {name: given(field(name, getattr(config.fields, name), record, values)) for name in NAMES}
    if found["score"] is None:
        return "filtered:no_score"
    if found["system"] is None:
        raise ValueError("no system")
    texts = {name: "" if found[name] is None else str(found[name]) for name in ("id", "system", "prompt")}
    label = None if found["label"] is None else number(found["label"])
    return Judged(texts["id"].strip(), texts["system"], texts["prompt"], number(found["score"]), label, raw.where)


def field(name: str, text: str | None, record: Mapping[str, Any], values: dict[str, Any]) -> Any:
    """A value of a record, by the config's expression or by its name."""
    if text is not None:
        return evaluate(text, values)
    if name in ("label", "id", "prompt"):
        return record.get(name)
    if name not in record:
        raise MissingValue(record, name)
    return record[name]


def from_judgment(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The names of this section in a judgment of `openselene benchmark`; None of one in the swapped order."""
    if record.get("order") not in (None, "given"):
        return None
    writers = [name for name in record.get("generators") or [] if name]
    worth = worths(record["task"], list(record["allowed"] or []))
    shares = {verdict: (record["verdict_probs"] or {}).get(verdict) or 0.0 for verdict in worth}
    total = sum(shares.values())
    score = sum(worth[verdict] * share for verdict, share in shares.items()) / total if total else None
    gold = record["gold"]
    return {
        "system": " or ".join(writers) or record.get("subset") or "all",
        "prompt": record.get("group_id"),
        "score": score,
        "label": None if gold is None else worth[gold] if gold in worth else number(gold),
        "id": record.get("judgment_id"),
    }


def worths(task: str, allowed: list[str]) -> dict[str, float]:
    """Verdict -> its value: a score itself; of pairs and classes 1 for the first, 0 for the last, a tie between."""
    if task == "absolute":
        return {verdict: float(verdict) for verdict in allowed}
    if task == "pairwise":
        return {"A": 1.0, "B": 0.0, **({"Tie": 0.5} if "Tie" in allowed else {})}
    if len(allowed) != 2:
        raise ValueError("classes have no order: give calibrate.fields.score and label")
    return {allowed[0]: 1.0, allowed[1]: 0.0}


def by_system(rows: list[Judged]) -> dict[str, list[Judged]]:
    """System -> its rows, by name."""
    found: dict[str, list[Judged]] = {}
    for row in rows:
        found.setdefault(row.system, []).append(row)
    return {name: found[name] for name in sorted(found)}


def prompts_of(rows: list[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    """Prompt -> its rows, by name."""
    found: dict[str, list[Judged]] = {}
    for row in rows:
        found.setdefault(row.prompt, []).append(row)
    yield from sorted(found.items())

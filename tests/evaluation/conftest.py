"""A run of the benchmark job without an engine: judges by rule, whose answers go through the real parser."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.determinism import choose, unit
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.evaluation.asking.benchmark_rows import write_benchmark_rows
from pipelines.evaluation.asking.judgments import JUDGMENT, write_judgments
from pipelines.evaluation.config import EvaluationConfig
from pipelines.judging.parse import parse
from pipelines.judging.tasks import TASKS

Row = dict[str, Any]
Rule = Callable[[Row], str | None]
HELDOUT = ["heldout_pairwise", "heldout_absolute", "heldout_classification"]


@dataclass
class JudgedRun:
    """A run, the rows its judges were asked about, and what they answered."""

    run: Run
    config: EvaluationConfig
    rows: Rows
    judged: dict[str, Path]
    judgments: dict[str, Path]

    @property
    def out(self) -> Path:
        return self.run.out

    @property
    def examples(self) -> Path:
        return self.rows.folder


def nearest(row: Row) -> str:
    """The right verdict; for a score between two verdicts the closest."""
    if not TASKS[row["task"]].scored:
        return str(row["gold"])
    return min(row["allowed"], key=lambda verdict: abs(float(verdict) - float(row["gold"])))


def judge(name: str, skill: float, readable: float) -> Rule:
    """A judge that knows the answer to a share of the rows and writes readable verdicts on a share."""

    def answer(row: Row) -> str:
        key = row["judgment_id"]
        guess = choose(row["allowed"], 0, f"{name}-guess", key)
        verdict = nearest(row) if unit(0, f"{name}-skill", key) < skill else guess
        if unit(0, f"{name}-readable", key) < readable:
            return f"Reasoning: so it is.\n\nResult: {verdict}"
        return f"I like {verdict}."

    return answer


def judge_all(examples: Path, rule: Rule, folder: Path) -> Path:
    """Judge the rows of a folder; None as an answer stands for an engine that failed on the row."""
    rows = [row for path in sorted(examples.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    judged = []
    for row in rows:
        if row["status"] != "ok":
            continue
        raw = rule(row)
        if raw is None:
            row["status"] = "error:judge:ValueError:prompt too long"
        else:
            parsed = parse(raw, row["allowed"])
            row |= {"raw": raw, "critique": parsed.critique, "predicted": parsed.verdict}
            row |= {"parse_status": parsed.status, "verdict_probs": [("A", 0.5)], "latency": 0.1}
        judged.append(row)
    folder.mkdir(parents=True)
    half = len(judged) // 2
    for number, part in enumerate((judged[half:], judged[:half])):
        pq.write_table(pa.Table.from_pylist(part, schema=JUDGMENT), folder / f"{number}.parquet")
    return folder


def run_maker(folder: Path) -> Callable[..., JudgedRun]:
    """Makes judged runs in a folder."""
    numbers = itertools.count()

    def make(
        rules: dict[str, Rule], names: list[str] | None = None, data: Path | None = None, **settings: Any
    ) -> JudgedRun:
        config = EvaluationConfig(benchmarks=names or HELDOUT, **settings)
        run = Run(folder / f"run-{next(numbers)}", data)
        made = JudgedRun(run, config, write_benchmark_rows(run, config), {}, {})
        for model, rule in rules.items():
            made.judged[model] = judge_all(made.examples, rule, run.out / "judged" / model)
            target = run.judgments / f"{model}.parquet"
            made.judgments[model] = write_judgments(made.judged[model], made.examples, target)
        return made

    return make


def base_and_trained() -> dict[str, Rule]:
    """A poor judge and a good one."""
    return {"base": judge("base", 0.1, 0.3), "trained": judge("trained", 0.7, 0.95)}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., JudgedRun]:
    return run_maker(tmp_path)


@pytest.fixture
def two_models() -> dict[str, Rule]:
    return base_and_trained()


@pytest.fixture
def write_benchmark(tmp_path: Path) -> Callable[..., str]:
    """Write a benchmark's YAML and its JSONL file; returns the YAML's path."""
    import yaml

    def write(records: list[Any], **changes: Any) -> str:
        name = changes.get("name", "mine")
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records))
        spec: dict[str, Any] = {
            "name": name,
            "task": "pairwise",
            "files": [str(file)],
            "license": "none",
            "allowed": ["A", "B"],
            "expected_n": len(records),
            "metric": "accuracy",
            "fields": {
                "instruction": "record.q",
                "responses": "[record.a, record.b]",
                "verdict": "record.label",
            },
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec))
        return str(path)

    return write


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str, list[Row]], Path]:
    """Write records as JSON lines, or as one JSON document; returns data_root."""

    def write(name: str, records: Any) -> Path:
        path = tmp_path / "data" / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(record) + "\n" for record in records) if name.endswith(".jsonl") else None
        path.write_text(lines or json.dumps(records))
        return tmp_path / "data"

    return write


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Row]], list[tuple]]:
    """Records in place of a dataset of the hub, which is not reached from here; returns what was asked for."""

    def put(records: list[Row]) -> list[tuple]:
        asked: list[tuple] = []

        def load_dataset(*names: Any, **settings: Any) -> Iterator[Row]:
            asked.append((*names, settings["split"]))
            return iter(records)

        monkeypatch.setattr("datasets.load_dataset", load_dataset)
        return asked

    return put


@pytest.fixture
def entry(make_run: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """The entry of a packaged benchmark: `said` has the verdict per instruction, one for each order; None is unread."""
    from pipelines.evaluation.scoring.results import summarise

    def run(
        name: str, said: dict[str, tuple] | Callable[[Row], str | None], data: Path | None = None
    ) -> dict[str, Any]:
        def rule(row: Row) -> str:
            if callable(said):
                verdict = said(row)
            else:
                verdict = said[row["instruction"]][row["order"] == "swapped"]
            return f"Result: {verdict}" if verdict else "I cannot say."

        made = make_run({"base": rule}, [name], data)
        results = summarise(made.judgments, made.examples, made.config, seed=0).to_json()
        return dict(results["models"]["base"][name])

    return run

"""Ask one judge, in one engine, the rows of some benchmarks; for the certificate and the drift gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pipelines.core import step, storage
from pipelines.core.progress import say
from pipelines.core.records import OK, Row
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.core.stage import to_table
from pipelines.core.storage import Place
from pipelines.engines.models import resolve
from pipelines.evaluation.asking.benchmark_rows import BENCHMARK_ROW, write_benchmark_rows
from pipelines.evaluation.asking.judgments import JUDGMENT, write_judgments
from pipelines.evaluation.config import EvaluationConfig
from pipelines.release.parity.column import Answers, Asked, Column, ask_on_ray
from pipelines.release.parity.questions import judged, questions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWERS = "answers.json"


def probe_config(evaluation: EvaluationConfig, benchmarks: Sequence[str], sample: int | None) -> EvaluationConfig:
    """The evaluation whose rows are the questions: these benchmarks, a verdict by its likelihood."""
    changes: dict[str, Any] = {
        "benchmarks": list(benchmarks),
        "sample": sample,
        "whole": [],
        "models": {},
        "format": "one_token",
        "formats": [],
        "format_benchmarks": None,
        "critique_check": None,
    }
    return evaluation.model_copy(update=changes)


def probe_rows(run: Run, work: Place, config: EvaluationConfig) -> tuple[Rows, list[Row]]:
    """Write the rows of the benchmarks into a folder of their own, and read them.

    Raises:
        UserError: a benchmark is not usable.
    """
    # A run within the run: its examples are not those of the benchmark job.
    rows = write_benchmark_rows(replace(run, out=work), config)
    found: list[Row] = storage.read_table(rows.folder, schema=BENCHMARK_ROW).to_pylist()
    return rows, sorted(found, key=lambda row: row["judgment_id"])


def critiques_of(judgments: Place) -> dict[str, str]:
    """Judgment id -> the critique that a judge wrote in the benchmark job; empty where it wrote none."""
    if not storage.exists(judgments):
        return {}
    table = storage.read_table(judgments, columns=["judgment_id", "critique", "parse_status"])
    return {
        row["judgment_id"]: row["critique"]
        for row in table.to_pylist()
        if row["critique"] and row["parse_status"] in (OK, "completed")
    }


def tokenizer_of(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a judge."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(resolve(model))
    return tokenizer


def asked_of(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, critiques: Mapping[str, str] | None = None
) -> Asked:
    """The rows as questions, without further texts."""
    return Asked(questions(rows, tokenizer, critiques))


def answers_of(folder: Place, column: Column, what: Asked) -> Answers:
    """Ask once: a column that has answered the same is read.

    Args:
        folder: of its own.
        column: engine and model.
        what: is asked.
    """
    depends = {"column": column.identity(), "asked": what.identity()}

    def write(folder: Place) -> None:
        say(f"{column.name}: {len(what.questions)} questions, {len(what.texts)} texts")
        storage.write_json(folder / ANSWERS, asdict(ask_on_ray(column, what)))

    step.once(folder, depends, write, cheap=True)
    return Answers(**storage.read_json(folder / ANSWERS))


def write_answers(answers: Answers, what: Asked, examples: Rows, work: Place, out: Place) -> Place:
    """Write the answers as judgments, which can be scored like those of any judge.

    Args:
        answers: of one column.
        what: was asked.
        examples: the benchmark rows.
        work: folder for the judged rows.
        out: the file to write.
    """
    rows = [judged(question, said) for question, said in zip(what.questions, answers.probabilities, strict=True)]
    folder = storage.fresh(work / ROWS)
    storage.write_table(folder / "rows.parquet", to_table(rows, JUDGMENT))
    return write_judgments(folder, examples.folder, out)

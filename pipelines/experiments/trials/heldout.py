"""What every trial is judged on: rows of benchmarks, each with the completions of its closed set of verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipelines.core import step, storage
from pipelines.core.determinism import digest, unit
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.records import OK, Row
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.engines import models
from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED, write_benchmark_rows
from pipelines.evaluation.config import EvaluationConfig
from pipelines.experiments.trials.checks import require_measurable
from pipelines.experiments.trials.config import HeldOutConfig
from pipelines.judging.count_tokens import TokenCounter
from pipelines.judging.templates import load, render

ASKED = pa.schema(
    [
        ("judgment_id", pa.string()),
        ("row_id", pa.string()),
        ("benchmark", pa.string()),
        ("task", pa.string()),
        ("group_id", pa.string()),
        ("subset", pa.string()),
        ("gold", pa.string()),
        ("allowed", pa.list_(pa.string())),
        ("template", pa.string()),
        ("prompt", pa.string()),
        ("completions", pa.list_(pa.string())),  # one for each allowed verdict
        ("responses", pa.list_(pa.string())),
        ("instruction", pa.string()),
        ("context", pa.string()),
    ]
)

KINDS = ("asked", "not_in_sample", "too_long", "unusable")


def write_heldout(run: Run, config: HeldOutConfig, templates: dict[str, str], tokenizer: str) -> Rows:
    """Write the rows that trials are judged on; done once.

    Args:
        run: whose seed chooses the sample and the orders.
        config: the held-out sets.
        templates: task -> template, where the config names none.
        tokenizer: whose tokens are counted.

    Returns:
        The rows. The marker beside them has, per benchmark, how many there are and how many were left out.

    Raises:
        UserError: a benchmark is unknown, has no row that can be asked about, or none on which anything differs.
    """
    evaluation = EvaluationConfig(
        benchmarks=config.benchmarks, sample=None, templates={**templates, **config.templates}
    )
    # A folder for each choice: trials of one do not stand in the way of trials of another.
    own = replace(run, out=run.experiments / "heldout" / digest(evaluation.model_dump(mode="json"), size=6))
    rows = write_benchmark_rows(own, evaluation)

    def write(folder: Any) -> step.Result:
        from pipelines.engines.tokenizer_facts import shared_counter

        found: list[Row] = storage.read_table(rows.folder).to_pylist()
        asked, counts = select(found, config, run.seed, shared_counter(tokenizer))
        storage.write_table(storage.fresh(folder / ROWS) / "asked.parquet", pa.Table.from_pylist(asked, ASKED))
        return {"benchmarks": counts}

    depends = {
        "rows": rows.fingerprint,
        "orders": config.orders,
        "sample": config.sample,
        "max_tokens": config.max_tokens,
        "tokenizer": models.identity(tokenizer),
        "seed": run.seed,
    }
    result = step.once(own.work / "asked", depends, write, cheap=True)
    for name, count in result["benchmarks"].items():
        say(f"held out: {name}: {count['asked']} judgments; {left_out(count)}")
        if not count["asked"]:
            raise UserError(
                "no row of it can be asked about",
                where=f"trials.heldout.benchmarks: {name}",
                fix="raise trials.heldout.max_tokens, or leave it out",
            )
    place = own.work / "asked" / ROWS
    require_measurable(storage.read_table(place).to_pylist())
    return Rows(place, result["fingerprint"])


def select(
    rows: list[Row], config: HeldOutConfig, seed: int, counter: TokenCounter
) -> tuple[list[Row], dict[str, dict[str, int]]]:
    """The judgments that are asked for, and per benchmark how many there are of each kind.

    The sample is taken of the rows that can be asked about: else a benchmark of long rows would have few left.
    """
    counts: dict[str, Counter[str]] = {row["benchmark"]: Counter(dict.fromkeys(KINDS, 0)) for row in rows}
    asked = []
    for row in rows:
        count = counts[row["benchmark"]]
        if config.orders == "one" and row["order"] != shown(row, seed):
            continue
        if row["status"] != OK:
            count["unusable"] += 1
            continue
        made = question(row)
        if counter.prompts([made["prompt"]])[0] > config.max_tokens:
            count["too_long"] += 1
            continue
        asked.append(made)
    asked, fit = sampled(asked, config.sample, seed), asked
    for name, count in counts.items():
        count["asked"] = sum(row["benchmark"] == name for row in asked)
        count["not_in_sample"] = sum(row["benchmark"] == name for row in fit) - count["asked"]
    return asked, {name: dict(count) for name, count in counts.items()}


def sampled(asked: list[Row], sample: int | None, seed: int) -> list[Row]:
    """The judgments of the `sample` rows of smallest hash of each benchmark, in their old order."""
    places: dict[str, dict[str, float]] = {}
    for row in asked:
        own = places.setdefault(row["benchmark"], {})
        own[row["row_id"]] = unit(seed, "sample of held-out rows", row["row_id"])
    kept = {name: set(sorted(own, key=own.__getitem__)[:sample]) for name, own in places.items()}
    return [row for row in asked if row["row_id"] in kept[row["benchmark"]]]


def left_out(count: Counter[str] | dict[str, int]) -> str:
    """What of a benchmark is not asked about, in words."""
    return ", ".join(f"{count[kind]} {kind.replace('_', ' ')}" for kind in KINDS if kind != "asked")


def shown(row: Row, seed: int) -> str:
    """The order in which a pair is shown, by its hash; rows of one order keep it."""
    if row["task"] != "pairwise" or row["status"] != OK:
        return GIVEN
    return SWAPPED if unit(seed, "order of a held-out pair", row["row_id"]) < 0.5 else GIVEN


def question(row: Row) -> Row:
    """A row as one judgment without a critique."""
    template = load(row["template"])
    made = {name: row[name] for name in ASKED.names if name in row}
    made["prompt"] = render(template, row, cot=False)
    made["completions"] = [template.completion(verdict) for verdict in row["allowed"]]
    return made

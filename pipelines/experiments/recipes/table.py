"""The comparison as a table: what each recipe trained on and cost, its figures, and their paired differences."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.core import storage
from pipelines.core.storage import Place
from pipelines.evaluation.report.terminal import WIDTH, cell
from pipelines.evaluation.scoring.comparison import Comparison
from pipelines.evaluation.scoring.metrics.registry import label_of
from pipelines.evaluation.scoring.results import Results
from pipelines.training.rounds import Cost


@dataclass(frozen=True)
class Trained:
    """What came of one recipe's training.

    Attributes:
        rows: trained on.
        tokens: of these, prompts and completions, in each epoch.
        epochs: of the training.
        steps: of the optimizer.
        seconds: of the attempt that finished it.
        cost: of the rounds before.
    """

    rows: int
    tokens: int
    epochs: float
    steps: int
    seconds: float
    cost: Cost


def write_table(place: Place, trained: Mapping[str, Trained], results: Results) -> None:
    """Write one line a model, the base first: its rows and cost, and for each task its value and its differences."""
    lines = [{"model": model, **costs(trained.get(model)), **figures(model, results)} for model in results.models]
    names = dict.fromkeys(name for line in lines for name in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    storage.write_text(place, text.getvalue())


def costs(one: Trained | None) -> dict[str, Any]:
    """What a recipe trained on, and what it took; of the base model nothing."""
    if one is None:
        return {}
    cost = one.cost
    return {
        "rows": one.rows,
        "tokens": one.tokens,
        "epochs": one.epochs,
        "steps": one.steps,
        "training_seconds": one.seconds,
        "answers": cost.answers,
        "right_answers": cost.right,
        "sampled_prompt_tokens": cost.prompt_tokens,
        "sampled_cached_tokens": cost.cached_tokens,
        "sampled_output_tokens": cost.output_tokens,
        "sampling_seconds": cost.seconds,
        "sampling_resumed": cost.resumed,
        "earlier_rounds_tokens": cost.trained_tokens,
        "earlier_rounds_seconds": cost.training_seconds,
    }


def figures(model: str, results: Results) -> dict[str, Any]:
    """A model's values by task, and their differences from those of the models before it."""
    found: dict[str, Any] = {}
    for task, entry in results.tasks[model].items():
        found |= {task: entry.value, f"{task}_low": entry.ci_low, f"{task}_high": entry.ci_high}
        for one in comparisons_of(model, results):
            gap = one.tasks[task]
            name = f"{task}_minus_{one.against}"
            found |= {name: gap.difference, f"{name}_low": gap.ci_low, f"{name}_high": gap.ci_high}
    return found


def comparisons_of(model: str, results: Results) -> Iterator[Comparison]:
    """Of a model with each of those before it: the base, then the recipes that are named earlier."""
    if model in results.comparison:
        yield results.comparison[model]
    yield from (one for one in results.other_comparisons if one.model == model)


def shown(trained: Mapping[str, Trained], results: Results) -> str:
    """The same in the terminal: a column a model; below each task's values the differences from the first recipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    first = next(iter(trained))
    gaps = {str(one.model): one for one in results.other_comparisons if one.against == first}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("", *results.models):
        table.add_column(Text(title), justify="right" if title else "left", no_wrap=True)
    for task, entry in next(iter(results.tasks.values())).items():
        per_model = (per[task] for per in results.tasks.values())
        table.add_row(
            f"{task}, {label_of(entry.metric)}", *(cell(one.value, one.ci_low, one.ci_high) for one in per_model)
        )
        found = {model: gap.tasks[task] for model, gap in gaps.items()}
        told = {model: cell(one.difference, one.ci_low, one.ci_high, "+") for model, one in found.items()}
        table.add_row(f"  − {first}", *(told.get(model, "") for model in results.models))
    for title, values in rows_of(trained).items():
        table.add_row(title, *(values.get(model, "–") for model in results.models))
    file = io.StringIO()
    Console(file=file, width=WIDTH, highlight=False).print(table)
    lines = [line.rstrip() for line in file.getvalue().splitlines() if line.strip()]
    return "\n".join([*lines, *(one.sentence for gap in gaps.values() for one in gap.tasks.values())])


def rows_of(trained: Mapping[str, Trained]) -> dict[str, dict[str, str]]:
    """Title -> recipe -> what it trained on and cost, as texts."""

    def of(text: Callable[[Trained], str], some: Callable[[Trained], Any] = bool) -> dict[str, str]:
        return {name: text(one) for name, one in trained.items() if some(one)}

    def asked(one: Trained) -> int:
        return one.cost.answers

    found = {
        "rows": of(lambda one: f"{one.rows}"),
        "tokens an epoch": of(lambda one: f"{one.tokens}"),
        "training, s": of(lambda one: f"{one.seconds:.0f}"),
        "right answers": of(lambda one: f"{one.cost.right} of {one.cost.answers}", asked),
        "tokens read": of(lambda one: f"{one.cost.prompt_tokens}", asked),
        "tokens written": of(lambda one: f"{one.cost.output_tokens}", asked),
        # Of a segment that was resumed, the seconds of its last attempt are known.
        "sampling, s": of(lambda one: f"{'at least ' if one.cost.resumed else ''}{one.cost.seconds:.0f}", asked),
        "rounds before, tokens": of(lambda one: f"{one.cost.trained_tokens}", lambda one: one.cost.trained_tokens),
        "rounds before, s": of(lambda one: f"{one.cost.training_seconds:.0f}", lambda one: one.cost.trained_tokens),
    }
    return {title: values for title, values in found.items() if values}

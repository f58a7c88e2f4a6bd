"""The results for other tools: a CSV, and the `model-index` block of a model card."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from pipelines.core.storage import Place, write_text
from pipelines.evaluation.scoring.results import Results

FORMAT_COLUMNS = ("model", "benchmark", "format", "template", "value", "ci_low", "ci_high", "n", "parse_rate")
COLUMNS = ("model", "benchmark", "task", "metric", "value", "ci_low", "ci_high", "n", "parse_rate", "partial")


def write_exports(results: Results, folder: Place) -> None:
    """Write `results.csv`, `formats.csv` where there are several formats, and for each model its block in `cards/`."""
    write_text(folder / "results.csv", table(results))
    if results.robustness:
        write_text(folder / "formats.csv", formats_table(results))
    for model in results.models:
        write_text(folder / "cards" / f"{model}.yaml", yaml.safe_dump(model_index(results, model), sort_keys=False))


def table(results: Results) -> str:
    """One line for each model and benchmark."""
    lines = (
        {"model": model, "benchmark": name, **dict(entry)}
        for model, per in results.models.items()
        for name, entry in per.items()
    )
    return _csv(COLUMNS, lines)


def formats_table(results: Results) -> str:
    """One line for each model, benchmark and prompt format."""
    lines = (
        {"model": model, "benchmark": name, "format": form, **dict(found)}
        for model, per in results.robustness.items()
        for name, entry in per.items()
        for form, found in entry.formats.items()
    )
    return _csv(FORMAT_COLUMNS, lines)


def _csv(columns: Sequence[str], lines: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def model_index(results: Results, model: str) -> dict[str, Any]:
    """The block a Hugging Face model card has under `model-index`; a sample is named as one."""
    entries, config = [], results.settings.config
    for name, entry in results.models[model].items():
        if entry.value is None:
            continue
        described = f"{entry.metric}, n = {entry.n}"
        if entry.ci_low is not None:
            described += f", {config.confidence:.0%} interval {entry.ci_low:.3f} to {entry.ci_high:.3f}"
        if config.format != "cot":  # another protocol than that of most figures on cards
            described += f", {config.format}"
        remarks = ["packaged sample: shows that the system works"] if results.settings.about[name].packaged else []
        remarks += entry.partial_reasons
        shown = f"{name} ({'; '.join(remarks)})" if remarks else name
        entries.append(
            {
                "task": {"type": "text-generation", "name": f"LLM-as-a-judge, {entry.task}"},
                "dataset": {"name": shown, "type": name},
                "metrics": [{"type": entry.metric, "value": entry.value, "name": described}],
            }
        )
    return {"model-index": [{"name": model, "results": entries}]}

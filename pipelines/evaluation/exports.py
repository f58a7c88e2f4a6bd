"""The results for other tools: a CSV, and the `model-index` block of a model card."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.core.files import write_text

FORMAT_COLUMNS = ("model", "benchmark", "format", "template", "value", "ci_low", "ci_high", "n", "parse_rate")
COLUMNS = ("model", "benchmark", "task", "metric", "value", "ci_low", "ci_high", "n", "parse_rate", "partial")


def write_exports(results: dict[str, Any], folder: Path) -> None:
    """Write `results.csv`, `formats.csv` where there are several formats, and for each model its block in `cards/`."""
    write_text(folder / "results.csv", table(results))
    if results["robustness"]:
        write_text(folder / "formats.csv", formats_table(results))
    for model in results["models"]:
        write_text(folder / "cards" / f"{model}.yaml", yaml.safe_dump(model_index(results, model), sort_keys=False))


def table(results: dict[str, Any]) -> str:
    """One line for each model and benchmark."""
    entries = ((model, name, entry) for model, per in results["models"].items() for name, entry in per.items())
    return _csv(COLUMNS, ({"model": model, "benchmark": name, **entry} for model, name, entry in entries))


def formats_table(results: dict[str, Any]) -> str:
    """One line for each model, benchmark and prompt format."""
    lines = (
        {"model": model, "benchmark": name, "format": form, **found}
        for model, per in results["robustness"].items()
        for name, entry in per.items()
        for form, found in entry["formats"].items()
    )
    return _csv(FORMAT_COLUMNS, lines)


def _csv(columns: Sequence[str], lines: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def model_index(results: dict[str, Any], model: str) -> dict[str, Any]:
    """The block a Hugging Face model card has under `model-index`; a sample is named as one."""
    entries = []
    for name, entry in results["models"][model].items():
        if entry["value"] is None:
            continue
        metric = {"type": entry["metric"], "value": entry["value"], "name": f"{entry['metric']}, n = {entry['n']}"}
        if entry["ci_low"] is not None:
            low, high = entry["ci_low"], entry["ci_high"]
            metric["name"] += f", {results['settings']['confidence']:.0%} interval {low:.3f} to {high:.3f}"
        if (form := results["settings"]["format"]) != "cot":  # another protocol than most figures on cards are of
            metric["name"] += f", {form}"
        shown = f"{name} ({'; '.join(entry['partial_reasons'])})" if entry["partial"] else name
        dataset = {"name": shown, "type": name}
        task = {"type": "text-generation", "name": f"LLM-as-a-judge, {entry['task']}"}
        entries.append({"task": task, "dataset": dataset, "metrics": [metric]})
    return {"model-index": [{"name": model, "results": entries}]}

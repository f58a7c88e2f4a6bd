"""report.html: one page that needs no network, with every figure, its interval and its protocol."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as pads
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.core.determinism import unit
from pipelines.core.files import read_json, write_text
from pipelines.evaluation import plots
from pipelines.evaluation.judgments import JUDGMENT, UNASKED, read_judgments
from pipelines.evaluation.metrics import PROTOCOLS
from pipelines.evaluation.published_judges import averages, table
from pipelines.evaluation.registry import PAPER_BENCHMARKS
from pipelines.evaluation.report_sections import format_tables, own_rules, own_unknown, reliability, share_right

SHOWN = 3  # examples of each kind
MOST_CHARACTERS = 2500  # of one text of an example
KINDS = ("right", "wrong", "unparsed")
# Panels of the training curve: what is in the log of these is drawn.
PANELS = {
    "loss": ("loss", "loss_dpo", "loss_nll"),
    "reward": ("rewards/chosen", "rewards/rejected", "rewards/margins"),
    "accuracy": ("rewards/accuracies",),
}
_TEXTS = ("instruction", "context", "responses", "rubric", "reference", "raw")

Results = dict[str, Any]


def write_report(results: Results, judgments: dict[str, Path], out_dir: Path) -> Path:
    """Write OUT/benchmark/report.html.

    Args:
        results: what `summarise` gives.
        judgments: model -> its judgments, to show some.
        out_dir: the run's folder; its training log and curation ledger are shown where they are there.
    """
    path = out_dir / "benchmark" / "report.html"
    ledger = out_dir / "curated" / "ledger.json"
    write_text(
        path,
        render_report(
            results,
            examples(judgments, results["settings"]["seed"]),
            training_log(out_dir / "train" / "metrics.jsonl"),
            read_json(ledger) if ledger.exists() else None,
        ),
    )
    return path


def render_report(
    results: Results,
    shown: list[dict[str, Any]],
    log: list[dict[str, Any]],
    ledger: dict[str, Any] | None,
) -> str:
    """The page as text. Everything that comes from data is escaped.

    Args:
        results: what `summarise` gives.
        shown: examples to read (`examples`).
        log: lines of the training log.
        ledger: what is in ledger.json.
    """
    models: dict[str, dict[str, Any]] = results["models"]
    names = list(next(iter(models.values())))
    first = next(iter(models.values()))
    partial = {name: first[name]["partial_reasons"] for name in names if first[name]["partial"]}
    curve, stages = training_panels(log), funnel_stages(ledger)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            results=results,
            models=models,
            names=names,
            first=first,
            partial=partial,
            notes={name: number for number, name in enumerate(names, start=1)},
            pairwise=[name for name in names if "orders" in first[name]],
            protocols=PROTOCOLS,
            pairs=[name for name, entry in next(iter(results["bias"].values())).items() if "position" in entry],
            formats=format_tables(results),
            reliability=reliability(results),
            own_unknown=own_unknown(results),
            own_rules=own_rules(results),
            headline=Markup(headline_plot(models, names)),  # drawn here, and its texts escaped by matplotlib
            training=Markup(plots.training(curve[0], curve[1])) if curve else None,
            funnel=Markup(plots.funnel(stages)) if stages else None,
            losses=reasons(ledger),
            published=published(models),
            paper=PAPER_BENCHMARKS,
            shown=shown,
            kinds=KINDS,
        )
    )


def published(models: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The paper's table of judges, our models among them with what they were judged on whole; none without that."""
    ours = []
    for model, per in models.items():
        values = {name: per[name]["value"] for name in PAPER_BENCHMARKS if name in per and not per[name]["partial"]}
        values = {name: value for name, value in values.items() if value is not None}
        means = averages(values) or (None, None)
        ours.append({"model": model, "ours": True, "tasks": means[0], "benchmarks": means[1], "values": values})
    if not any(row["values"] for row in ours):
        return []
    theirs = [{**vars(judge), "ours": False} for judge in table(1)]
    return ours + theirs


def headline_plot(models: dict[str, dict[str, Any]], names: list[str]) -> str:
    """The chart of every model on every benchmark."""
    points = {
        model: [
            {"value": per[name]["value"], "low": per[name]["ci_low"], "high": per[name]["ci_high"]} for name in names
        ]
        for model, per in models.items()
    }
    entries = [next(iter(models.values()))[name] for name in names]
    labels = [f"{name}{'*' if entry['partial'] else ''}" for name, entry in zip(names, entries, strict=True)]
    # The share of the commonest verdict is an accuracy: it says nothing about a correlation.
    baseline = [e["majority_class"] if e["metric"] == "accuracy" else None for e in entries]
    return plots.headline(labels, points, baseline)


def training_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a training log; one that is not whole, as a killed job may leave, is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int | float):
            lines.append(value)
    return lines


def training_panels(
    log: list[dict[str, Any]],
) -> tuple[list[float], dict[str, dict[str, list[float | None]]]] | None:
    """The steps and the curves to draw; None without any."""
    panels: dict[str, dict[str, list[float | None]]] = {}
    for title, keys in PANELS.items():
        for key in keys:
            values = [line[key] if isinstance(line.get(key), int | float) else None for line in log]
            if any(value is not None for value in values):
                panels.setdefault(title, {})[key] = values
    return ([line["step"] for line in log], panels) if panels else None


def funnel_stages(ledger: dict[str, Any] | None) -> list[tuple[str, int]]:
    """Rows read, and rows left after each segment of curation."""
    segments = (ledger or {}).get("segments") or {}
    if not segments:
        return []
    first = next(iter(segments.values()))
    stages = [("rows read", sum(source["in"] for source in first.values()))]
    return stages + [
        (f"after {name}", sum(source["ok"] for source in entry.values())) for name, entry in segments.items()
    ]


def reasons(ledger: dict[str, Any] | None) -> list[tuple[str, str, int]]:
    """(segment, reason, rows) of the rows that left, most frequent first within a segment."""
    lost: list[tuple[str, str, int]] = []
    for name, entry in ((ledger or {}).get("segments") or {}).items():
        counts: dict[str, int] = {}
        for source in entry.values():
            for reason, rows in source["reasons"].items():
                counts[reason] = counts.get(reason, 0) + rows
        lost += [(name, reason, counts[reason]) for reason in sorted(counts, key=lambda r: (-counts[r], r))]
    return lost


def examples(judgments: dict[str, Path], seed: int) -> list[dict[str, Any]]:
    """Judgments to read, three of each kind: by hash, the benchmarks in turn, the last model first."""
    wanted: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for model, path in reversed(judgments.items()):
        frame = read_judgments(path)
        frame = frame[frame["outcome"] != UNASKED].assign(kind=lambda lines: _kinds(lines))
        for kind in KINDS:
            missing = SHOWN - len(wanted[kind])
            ids = _spread(frame[frame["kind"] == kind], seed)[:missing]
            wanted[kind] += [{"model": model, "kind": kind, **row} for row in _rows(path, ids)]
    return [example for kind in KINDS for example in wanted[kind]]


def _kinds(lines: pd.DataFrame) -> list[str]:
    kinds = []
    for outcome, predicted, gold, allowed in zip(
        lines["outcome"], lines["predicted"], lines["gold"], lines["allowed"], strict=True
    ):
        if outcome != "ok":
            kinds.append("unparsed")
        elif gold in allowed:
            kinds.append("right" if predicted == gold else "wrong")
        else:  # a mean of several raters: right within half a point
            kinds.append("right" if abs(float(predicted) - float(gold)) <= 0.5 else "wrong")
    return kinds


def _spread(lines: pd.DataFrame, seed: int) -> list[str]:
    """Judgment ids, the benchmarks taking turns, each in the order of a hash."""
    ranked = lines.assign(draw=[unit(seed, "report_example", key) for key in lines["judgment_id"]])
    ranked = ranked.sort_values("draw")
    ranked = ranked.assign(turn=ranked.groupby("benchmark").cumcount()).sort_values(["turn", "draw"])
    return [str(key) for key in ranked["judgment_id"]]


def _rows(path: Path, ids: list[str]) -> list[dict[str, Any]]:
    """The full rows of a few judgments, in the order asked, long texts cut."""
    dataset = pads.dataset(str(path), format="parquet", schema=JUDGMENT)
    rows = dataset.to_table(filter=pc.field("judgment_id").isin(ids)).to_pylist() if ids else []
    found = {row["judgment_id"]: row for row in rows}
    for row in rows:
        for name in _TEXTS:
            value = row[name]
            row[name] = [_cut(text) for text in value] if isinstance(value, list) else _cut(value)
    return [found[key] for key in ids]


def _cut(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} … ({len(text):,} characters)"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    environment.filters["interval"] = interval
    environment.filters["share_right"] = share_right
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    return environment


def figure(value: float | None, signed: bool = False) -> str:
    """A number of the page; a dash where there is none."""
    return "–" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(entry: dict[str, Any], signed: bool = False) -> str:
    """The interval of an entry, in brackets."""
    if entry["ci_low"] is None:
        return "no interval"
    return f"[{figure(entry['ci_low'], signed)}, {figure(entry['ci_high'], signed)}]"

"""The sweep as a picture: accuracy with its interval against the learning rate."""

from __future__ import annotations

import io
from typing import Any

from pipelines.training.settings import HELDOUT_ACCURACY

MARKERS = "osD^v"
COLOURS = ("#3b82f6", "#e08a1e", "#1b9e77", "#b265d6", "#d6506b")


def draw_png(table: list[dict[str, Any]]) -> bytes:
    """One dot a training: its colour stands for alpha, its marker for weight decay; a hollow one was stopped early."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    alphas = sorted({row["alpha"] for row in table})
    decays = sorted({row["weight_decay"] for row in table})
    figure = Figure(figsize=(6.6, 3.8), layout="constrained", dpi=160)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    n = len(alphas) * len(decays)
    for row in sorted(table, key=lambda row: row["trial"]):
        series = alphas.index(row["alpha"]) * len(decays) + decays.index(row["weight_decay"])
        colour = COLOURS[alphas.index(row["alpha"]) % len(COLOURS)]
        value = row[HELDOUT_ACCURACY]
        axes.errorbar(
            row["learning_rate"] * 1.06 ** (series - (n - 1) / 2),  # side by side, not on top
            value,
            yerr=[[max(0.0, value - row["low"])], [max(0.0, row["high"] - value)]],
            fmt=MARKERS[decays.index(row["weight_decay"]) % len(MARKERS)],
            color=colour,
            markerfacecolor=colour if row["whole"] else "none",
            capsize=2.5,
            label=f"α {row['alpha']:g}, weight decay {row['weight_decay']:g}",
        )
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"held-out accuracy (n = {table[0]['judged']}, 95% Wilson)")
    axes.grid(axis="y", alpha=0.25)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), frameon=False, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()

"""Plots of effects with their intervals around a line of no effect, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.evaluation.report.plots import COLOURS, Point, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forest(
    panels: Mapping[str, Mapping[str, Sequence[Point]]], labels: Sequence[str], name: str, none: float = 0.0
) -> str:
    """A panel for each measure, side by side; in each a line a label, and on it a dot and interval of each series.

    Args:
        panels: title of the axis -> series -> a point for each label.
        labels: what the lines are of.
        name: prefix of the ids inside the picture.
        none: the value of no effect, where a dotted line stands.
    """

    def draw(figure: Figure) -> None:
        columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, series) in zip(columns, panels.items(), strict=True):
            axes.axvline(none, color=COLOURS[0], lw=1, ls=":")
            spread = 0.6 / max(len(series), 1)
            for number, (one, points) in enumerate(series.items(), start=1):
                colour = COLOURS[number % len(COLOURS)]
                for row, point in enumerate(points):
                    at = row + (number - (len(series) + 1) / 2) * spread
                    if point.low is not None and point.high is not None:
                        axes.plot([point.low, point.high], [at, at], color=colour, lw=2.4, alpha=0.55)
                    if point.value is not None:
                        axes.plot([point.value], [at], "o", color=colour, ms=5.5)
                axes.plot([], [], "o-", color=colour, label=one)
            axes.set_yticks(range(len(labels)), labels)
            axes.set_ylim(len(labels) - 0.4, -0.6)
            axes.set_xlabel(title)
            axes.grid(axis="x", alpha=0.15, lw=0.6)
            axes.tick_params(length=0)
        if len(next(iter(panels.values()), {})) > 1:
            handles, names = columns[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper left", ncols=3)

    return svg(name, draw, 1.3 + 0.42 * len(labels))

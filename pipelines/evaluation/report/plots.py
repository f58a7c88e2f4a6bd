"""Plots of the report as SVG text: no files, no network, readable on light and on dark ground."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipelines.evaluation.scoring.calibration import Bin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct for colour-blind readers, and legible on white and on near-black.
COLOURS = ("#8a8f98", "#3b82f6", "#e08a1e", "#1b9e77", "#b265d6", "#d6506b")
_INK = "#010203"  # stands for the page's own text colour, and is replaced by it
_WIDTH = 6.6  # inches; the page scales the picture to its width


class Point(NamedTuple):
    """A value and its confidence interval, in a plot; nothing is drawn of what is None."""

    value: float | None
    low: float | None
    high: float | None


def svg(name: str, draw: Callable[[Figure], None], height: float) -> str:
    """Draw a figure and return it as one `<svg>` element; the same data give the same text.

    Args:
        name: prefix of the ids inside.
        draw: fills the figure.
        height: inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # names are names, also with a dollar sign in them
        "font.family": "sans-serif",
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **{f"{part}.color": _INK for part in ("text", "xtick", "ytick")},
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    # Two pictures on one page must not share ids.
    text = re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", text[text.index("<svg") :])
    return text.replace(_INK, "currentColor")


def headline(
    labels: Sequence[str],
    models: Mapping[str, Sequence[Point]],
    baseline: Sequence[float | None],
    name: str = "headline",
    axis: str = "accuracy",
) -> str:
    """Value and interval of each model, one line a label.

    Args:
        labels: benchmarks, or formats of one benchmark.
        models: model -> a point for each label.
        baseline: for each label the value of one verdict everywhere, if that can be compared.
        name: prefix of the ids inside.
        axis: what the values are.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        spread = 0.56 / max(len(models), 1)
        for number, (model, points) in enumerate(models.items()):
            offset = (number - (len(models) - 1) / 2) * spread
            _dots(axes, points, offset, COLOURS[number % len(COLOURS)], model)
        first = True
        for row, share in enumerate(baseline):
            if share is not None:
                label = "one verdict everywhere" if first else None
                axes.plot([share] * 2, [row - 0.38, row + 0.38], color=_INK, lw=1, ls=":", label=label)
                first = False
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        low = min([0.0, *(point.low for points in models.values() for point in points if point.low is not None)])
        axes.set_xlim(low - 0.02, 1.02)  # room for a dot at either end
        axes.grid(axis="x", color=_INK, alpha=0.15, lw=0.6)
        axes.set_xlabel(axis)
        axes.tick_params(length=0)
        _legend(figure, axes)

    return svg(name, draw, 1.25 + 0.52 * len(labels))


def _legend(figure: Figure, axes: Axes) -> None:
    """Above the axes. It is filled down its columns: with three, the second of four entries would stand below."""
    figure.legend(loc="outside upper left", ncols=3 if len(axes.get_legend_handles_labels()[0]) <= 3 else 2)


def _dots(axes: Axes, points: Sequence[Point], offset: float, colour: str, label: str) -> None:
    for row, point in enumerate(points):
        if point.value is None:
            continue
        if point.low is not None and point.high is not None:
            axes.plot([point.low, point.high], [row + offset] * 2, color=colour, lw=2.4, alpha=0.55)
        axes.plot([point.value], [row + offset], "o", color=colour, ms=6.5)
    axes.plot([], [], "o-", color=colour, label=label)


def reliability(models: Mapping[str, Sequence[Bin]], name: str) -> str:
    """How often each model is right against how sure it is; on the dotted line both are the same.

    Args:
        models: every model -> bins, maybe none: its place gives its colour; a dot's area is its share of the judgments.
        name: prefix of the ids inside.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=_INK, lw=1, ls=":", label="as sure as right")
        for number, (model, bins) in enumerate(models.items()):
            if not bins:
                continue
            colour, whole = COLOURS[number % len(COLOURS)], sum(one.n for one in bins)
            x, y = [one.confidence for one in bins], [one.accuracy for one in bins]
            axes.plot(x, y, color=colour, lw=1.4, alpha=0.6)
            axes.scatter(x, y, s=[12 + 240 * one.n / whole for one in bins], color=colour, alpha=0.75, lw=0)
            axes.plot([], [], "o-", color=colour, label=model)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("probability of the verdict")
        axes.set_ylabel("share right")
        axes.grid(color=_INK, alpha=0.12, lw=0.6)
        _legend(figure, axes)

    return svg(name, draw, 3.6)


def training(steps: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float | None]]]) -> str:
    """Curves over the training steps, one panel beneath the other.

    Args:
        steps: optimizer steps.
        panels: title of the axis -> name -> value at each step.
    """

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, curves) in zip(rows, panels.items(), strict=True):
            for number, (name, values) in enumerate(curves.items(), start=1):
                known = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
                x, y = zip(*known, strict=True)
                axes.plot(x, y, color=COLOURS[number % len(COLOURS)], lw=1.6, label=name)
                if len(known) == 1:
                    axes.plot(x, y, "o", color=COLOURS[number % len(COLOURS)])
            axes.set_ylabel(title)
            axes.grid(color=_INK, alpha=0.12, lw=0.6)
            # Above the curves, not on them.
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8.5, borderaxespad=0.1)
        rows[-1].set_xlabel("optimizer step")

    return svg("training", draw, 0.6 + 1.75 * len(panels))


def funnel(stages: Sequence[tuple[str, int]]) -> str:
    """Rows left after each stage of curation.

    Args:
        stages: name and rows, in order.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        names, rows = [name for name, _ in stages], [count for _, count in stages]
        axes.barh(range(len(stages)), rows, color=COLOURS[1], height=0.62, alpha=0.85)
        for position, count in enumerate(rows):
            axes.annotate(f"{count:,}", (count, position), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(stages)), names)
        axes.set_ylim(len(stages) - 0.4, -0.6)
        axes.set_xlim(0, max([*rows, 1]) * 1.14)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)

    return svg("funnel", draw, 0.4 + 0.4 * len(stages))

"""map.png: the map as one picture, topics numbered on it and named in the legend."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from pipelines.core.records import Row

# Twenty colours that are distinct on white, above all those next to each other in the list.
COLOURS = (
    *("#3b6fd4", "#e08a1e", "#1b9e77", "#c2417c", "#8a63d2", "#c9a800", "#2fa6c4", "#d1495b", "#6b8e23", "#8c5a3c"),
    *("#5b6b7b", "#e377c2", "#0b5d4f", "#f2a07b", "#26418f", "#9acd32", "#b0413e", "#7fb7e6", "#5d3a6e", "#a9a9a9"),
)
INK, SOFT = "#1c2024", "#60666d"


def draw_png(points: Sequence[Row], title: str, note: str) -> bytes:
    """The picture as PNG.

    Args:
        points: with x, y and topic ('1: words').
        title: above it.
        note: beneath it: what was drawn and how.
    """
    import matplotlib
    from matplotlib import patheffects
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    # Words are words, also with a dollar sign in them.
    with matplotlib.rc_context({"text.parse_math": False, "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(11, 7), dpi=160, layout="constrained", facecolor="white")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.scatter(  # by row id, which is a hash: no topic lies on top of all others
            [row["x"] for row in points],
            [row["y"] for row in points],
            s=float(np.clip(20_000 / len(points), 3, 46)),
            c=[COLOURS[(number(row["topic"]) - 1) % len(COLOURS)] for row in points],
            alpha=0.75,
            linewidths=0,
        )
        keys = []
        halo = [patheffects.withStroke(linewidth=3.5, foreground="white")]
        for topic, rows in by_topic(points).items():
            colour = COLOURS[(number(topic) - 1) % len(COLOURS)]
            x, y = middle(rows)
            axes.text(
                x, y, str(number(topic)), color=INK, weight="bold", size=13, ha="center", va="center", path_effects=halo
            )
            keys.append(Line2D([], [], marker="o", ls="", color=colour, label=f"{topic}  ({len(rows):,})"))
        axes.set_aspect("equal", adjustable="box")
        axes.set_axis_off()
        figure.suptitle(title, x=0.01, ha="left", size=15, weight="bold", color=INK)
        figure.supxlabel(note, x=0.01, ha="left", size=8.5, color=SOFT)
        figure.legend(
            handles=keys,
            loc="outside right center",
            frameon=False,
            handletextpad=0.3,
            labelspacing=0.75,
            labelcolor=INK,
        )
        file = io.BytesIO()
        canvas.print_png(file, metadata={"Software": None})
    return file.getvalue()


def number(topic: str) -> int:
    """The number a topic's name begins with."""
    return int(topic.split(":")[0])


def by_topic(points: Sequence[Row]) -> dict[str, list[Row]]:
    """Topic -> its rows, by the topic's number."""
    found: dict[str, list[Row]] = {}
    for row in points:
        found.setdefault(row["topic"], []).append(row)
    return {topic: found[topic] for topic in sorted(found, key=number)}


def middle(rows: Sequence[Row]) -> tuple[float, float]:
    """The centre of a topic: the row nearest to the median, so that its number lies on one of its points."""
    places = np.array([(row["x"], row["y"]) for row in rows])
    nearest = np.square(places - np.median(places, axis=0)).sum(axis=1).argmin()
    return float(places[nearest, 0]), float(places[nearest, 1])

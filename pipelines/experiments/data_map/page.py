"""map.html: the map to move about in, one file that needs no network; data are shown as text, never as markup."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.core.records import Row
from pipelines.experiments.data_map.figure import COLOURS, INK, SOFT, by_topic, middle, number

BEGINNING = 240  # characters of an instruction that are shown
WIDTH = 64  # characters of a line of the hover text
VIEWS = ("topic", "source", "task")
# Plotly reads tags in its texts and knows few entities: not the one of quotes, which mean nothing to it.
plain = partial(escape, quote=False)


def render_page(points: Sequence[Row], title: str, note: str) -> str:
    """The page as text.

    Args:
        points: with x, y, topic, source, task, verdict, instruction.
        title: heading.
        note: what was drawn and how.
    """
    import plotly.io as pio

    figure = pio.to_html(
        map_figure(points),
        full_html=False,
        include_plotlyjs=True,
        div_id="map",
        default_height="100%",
        config={
            "displaylogo": False,
            "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],  # none that sends the data away
            "responsive": True,
            "scrollZoom": True,
        },
    )
    environment = Environment(
        loader=PackageLoader("pipelines.experiments.data_map"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("map.html.j2")
    return page.render(title=title, note=note, figure=Markup(figure))  # plotly's own, its texts escaped below


def map_figure(points: Sequence[Row]) -> Any:
    """The plotly figure: one set of coloured points for each view, of which one is shown."""
    import plotly.graph_objects as go

    traces: list[Any] = []
    shows: list[str] = []
    for view in VIEWS:
        for place, (name, rows) in enumerate(_groups(points, view).items()):
            traces.append(
                go.Scattergl(
                    x=np.array([row["x"] for row in rows], np.float32),
                    y=np.array([row["y"] for row in rows], np.float32),
                    name=f"{plain(name)} ({len(rows):,})",
                    mode="markers",
                    marker={"color": COLOURS[place % len(COLOURS)], "size": size(len(points)), "opacity": 0.75},
                    hovertext=[hover(row) for row in rows],
                    hoverinfo="text",
                    visible=view == VIEWS[0],
                )
            )
            shows.append(view)
    figure = go.Figure(traces)
    blank = {"visible": False}
    figure.update_layout(
        template="plotly_white",
        font={"color": INK, "family": "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"},
        margin={"l": 8, "r": 8, "t": 52, "b": 8},
        xaxis=blank,
        yaxis={**blank, "scaleanchor": "x"},
        dragmode="pan",
        showlegend=True,  # also of one name
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"color": INK}},
        legend={"itemsizing": "constant", "itemclick": "toggleothers", "itemdoubleclick": "toggle"},
        annotations=_numbers(points),
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "x": 0,
                "y": 1,
                "xanchor": "left",
                "yanchor": "bottom",
                "bgcolor": "white",
                "bordercolor": SOFT,
                "buttons": [
                    {
                        "label": f"by {view}",
                        "method": "update",
                        "args": [
                            {"visible": [shown == view for shown in shows]},
                            {"annotations": _numbers(points) if view == "topic" else []},
                        ],
                    }
                    for view in VIEWS
                ],
            }
        ],
    )
    return figure


def hover(row: Row) -> str:
    """What is shown of a row, line by line; plotly reads tags in it, so everything from data is escaped."""
    text = " ".join((row["instruction"] or "").split())
    beginning = text if len(text) <= BEGINNING else text[:BEGINNING].rstrip() + " …"
    lines = textwrap.wrap(beginning, WIDTH) or [""]
    head = [f"{row['source']} · {row['task']} · verdict {row['verdict']}", f"topic {row['topic']}"]
    return "<br>".join([f"<b>{plain(head[0])}</b>", plain(head[1]), "", *map(plain, lines)])


def size(rows: int) -> float:
    """Diameter of a point in pixels: smaller where there are many."""
    return 9 if rows <= 500 else 6 if rows <= 5000 else 4


def _groups(points: Sequence[Row], view: str) -> dict[str, list[Row]]:
    """Value -> its rows: topics by their number, others with the most frequent first."""
    if view == "topic":
        return by_topic(points)
    found: dict[str, list[Row]] = {}
    for row in points:
        found.setdefault(row[view], []).append(row)
    return {name: found[name] for name in sorted(found, key=lambda name: (-len(found[name]), name))}


def _numbers(points: Sequence[Row]) -> list[dict[str, Any]]:
    """The number of each topic, where its rows are."""
    found = []
    for topic, rows in by_topic(points).items():
        x, y = middle(rows)
        label = {"text": f"<b>{number(topic)}</b>", "showarrow": False, "bgcolor": "rgba(255,255,255,0.8)"}
        found.append({"x": x, "y": y, "borderpad": 1, "font": {"size": 15, "color": INK}, **label})
    return found

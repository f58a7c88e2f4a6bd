"""What a Grafana board is made of: graphs of metrics, placed in titled rows, as Grafana imports them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.metrics import PREFIX, Metric

WIDTH, HEIGHT = 8, 8  # of a panel, in Grafana's grid of 24 columns
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
QUANTILES = (0.5, 0.95)
LOOK_BACK = (
    "2m"  # for a gauge, which leaves Ray's port 20 seconds after it was last set; a request may take two minutes
)


@dataclass(frozen=True)
class Panel:
    """A graph.

    Attributes:
        title, help: what a person reads.
        queries: PromQL -> legend.
        unit: Grafana's name of the unit.
        signed: values may be below 0.
    """

    title: str
    help: str
    queries: dict[str, str]
    unit: str = "short"
    signed: bool = False


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes:
        title: what a person reads; with dashes also its id.
        source: the files it is written from.
        tags: to find it by.
        rows: of graphs, each with its title.
        known_by: the metric that tells which scrape jobs there are to choose from.
    """

    title: str
    source: str
    tags: list[str]
    rows: list[tuple[str, list[Panel]]]
    known_by: Metric

    def text(self) -> str:
        """The file's content."""
        return json.dumps(self.content(), indent=2, ensure_ascii=False) + "\n"

    def content(self) -> dict[str, Any]:
        """The board, as Grafana imports it."""
        return {
            "title": self.title,
            "uid": self.title.replace(" ", "-"),
            "description": f"Written by {self.source}. Do not edit by hand.",
            "tags": self.tags,
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "timezone": "",
            "annotations": {"list": []},
            "links": [],
            "templating": {"list": [datasource_variable(), job_variable(self.known_by)]},
            "panels": list(placed(self.rows)),
        }


def ours(name: str) -> str:
    """A selector of a metric of ours, counted in the process or through Ray."""
    return f'{{__name__=~"(ray_)?{name}", job=~"$job"}}'


def rate(selector: str, by: str = "") -> str:
    """Per second, over all replicas."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({selector}[$__rate_interval]))"


def last(selector: str) -> str:
    """A gauge as it was last set."""
    return f"last_over_time({selector}[{LOOK_BACK}])"


def quantiles(selector: str) -> dict[str, str]:
    """Of a histogram's buckets, over all replicas."""
    return {f"histogram_quantile({q}, {rate(selector, 'le')})": f"p{q * 100:.0f}" for q in QUANTILES}


def panel_of(metric: Metric) -> Panel:
    """The graph of a metric of ours: rates of a counter, quantiles of a histogram, the sum of a gauge."""
    title = metric.name.removeprefix(PREFIX).removesuffix("_total").removesuffix("_seconds")
    title = title.replace("_", " ").capitalize()
    if metric.kind == "histogram":
        return Panel(title, f"{metric.help}.", quantiles(ours(f"{metric.name}_bucket")), "s")
    if metric.kind == "gauge":
        return Panel(title, f"{metric.help}.", {f"sum ({last(ours(metric.name))})": "all replicas"})
    labels = ", ".join(metric.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    return Panel(f"{title} per second", f"{metric.help}.", {rate(ours(metric.name), labels): legend or "all"}, "ops")


def share(part: str, whole: str) -> str:
    """One rate as a share of another; 0 while nothing of the part has been counted."""
    return f"({rate(part)} or vector(0)) / {rate(whole)}"


def datasource_variable() -> dict[str, Any]:
    """Which Prometheus."""
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def job_variable(known_by: Metric) -> dict[str, Any]:
    """Which scrape job, all by default: a Prometheus that scrapes several services is filtered by it."""
    found = f'label_values({{__name__=~"(ray_)?{known_by.name}"}}, job)'
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": found, "refId": "job"},
        "definition": found,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def placed(titled: Iterable[tuple[str, Sequence[Panel]]]) -> Iterable[dict[str, Any]]:
    """Rows and graphs with their ids and places."""
    number, top = 0, 0
    for title, panels in titled:
        number += 1
        grid = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": grid, "panels": []}
        top += 1
        for place, panel in enumerate(panels):
            number += 1
            line, column = divmod(place, COLUMNS // WIDTH)
            grid = {"x": column * WIDTH, "y": top + line * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield graph(panel) | {"id": number, "gridPos": grid}
        top += HEIGHT * -(-len(panels) * WIDTH // COLUMNS)


def graph(panel: Panel) -> dict[str, Any]:
    """A time series panel."""
    targets = [
        {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend, "range": True}
        for place, (query, legend) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit} | ({} if panel.signed else {"min": 0}), "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }

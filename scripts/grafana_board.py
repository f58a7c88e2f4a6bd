"""Write deploy/grafana/openselene-judge.json: a Grafana board of the judge service, from the list of its metrics.

python -m scripts.grafana_board            # write the file
python -m scripts.grafana_board --check    # write nothing, exit 1 when the file is out of date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.generated_file import generate
from serve import metrics
from serve.metrics import METRICS, Metric

OUTPUT = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "openselene-judge.json"
WIDTH, HEIGHT = 8, 8  # of a panel, in Grafana's grid of 24 columns
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
QUANTILES = (0.5, 0.95)


@dataclass(frozen=True)
class Panel:
    """A graph.

    Attributes:
        title, help: what a person reads.
        queries: PromQL -> legend.
        unit: Grafana's name of the unit.
    """

    title: str
    help: str
    queries: dict[str, str]
    unit: str = "short"


def ours(name: str) -> str:
    """A selector of a metric of ours, counted in the process or through Ray."""
    return f'{{__name__=~"(ray_)?{name}", job=~"$job"}}'


def of_vllm(name: str) -> str:
    """A selector of a metric of vLLM's, which Ray gives without the colon."""
    return f'{{__name__=~"vllm:{name}|ray_vllm_{name}", job=~"$job"}}'


def of_serve(name: str) -> str:
    """A selector of a metric of Ray Serve's."""
    return f'ray_serve_{name}{{job=~"$job"}}'


def rate(selector: str, by: str = "") -> str:
    """Per second, over all replicas."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({selector}[$__rate_interval]))"


def quantiles(selector: str) -> dict[str, str]:
    """Of a histogram's buckets, over all replicas."""
    return {f"histogram_quantile({q}, {rate(selector, 'le')})": f"p{q * 100:.0f}" for q in QUANTILES}


def panel_of(metric: Metric) -> Panel:
    """The graph of a metric of ours: rates of a counter, quantiles of a histogram, the sum of a gauge."""
    title = metric.name.removeprefix(metrics.PREFIX).removesuffix("_total").removesuffix("_seconds")
    title = title.replace("_", " ").capitalize()
    if metric.kind == "histogram":
        return Panel(title, f"{metric.help}.", quantiles(ours(f"{metric.name}_bucket")), "s")
    if metric.kind == "gauge":
        return Panel(title, f"{metric.help}.", {f"sum ({ours(metric.name)})": "all replicas"})
    labels = ", ".join(metric.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    return Panel(f"{title} per second", f"{metric.help}.", {rate(ours(metric.name), labels): legend}, "ops")


def share(part: str, whole: str) -> str:
    """One rate as a share of another; 0 while nothing of the part has been counted."""
    return f"({rate(part)} or vector(0)) / {rate(whole)}"


def rows() -> list[tuple[str, list[Panel]]]:
    """Every row of the board: its title and its graphs."""
    flips = ours(metrics.ORDERS.name).replace("{", '{consistent="false", ')
    bad = ours(metrics.REQUESTS.name).replace("{", '{status=~"5..", ')
    cached, prompt = (ours(metrics.TOKENS.name).replace("{", f'{{kind="{kind}", ') for kind in ("cached", "prompt"))
    shares = [
        Panel(
            "Failed requests",
            "Share of answers with status 5xx.",
            {share(bad, ours(metrics.REQUESTS.name)): "5xx"},
            "percentunit",
        ),
        Panel(
            "Flipped verdicts",
            "Share of pairs whose verdict depends on the order of the responses.",
            {share(flips, ours(metrics.ORDERS.name)): "flipped"},
            "percentunit",
        ),
        Panel(
            "Cache hits",
            "Share of the prompts' tokens that the engine had computed before.",
            {share(cached, prompt): "cached"},
            "percentunit",
        ),
    ]
    vllm = [
        Panel(
            "Requests in the engine",
            "vLLM: running and waiting.",
            {
                f"sum ({of_vllm('num_requests_running')})": "running",
                f"sum ({of_vllm('num_requests_waiting')})": "waiting",
            },
        ),
        Panel(
            "KV cache in use",
            "vLLM: share of the cache's blocks.",
            {f"max ({of_vllm('kv_cache_usage_perc')})": "fullest replica"},
            "percentunit",
        ),
        Panel(
            "Tokens in the engine",
            "vLLM: per second.",
            {rate(of_vllm("prompt_tokens_total")): "prompt", rate(of_vllm("generation_tokens_total")): "output"},
        ),
        Panel(
            "Time to first token in the engine", "vLLM.", quantiles(of_vllm("time_to_first_token_seconds_bucket")), "s"
        ),
        Panel("Time in the engine's queue", "vLLM.", quantiles(of_vllm("request_queue_time_seconds_bucket")), "s"),
        Panel(
            "Preemptions",
            "vLLM: requests put back for lack of cache, per second.",
            {rate(of_vllm("num_preemptions_total")): "preemptions"},
            "ops",
        ),
    ]
    serve = [
        Panel(
            "Requests by deployment",
            "Ray Serve: per second; errors apart.",
            {
                rate(of_serve("deployment_request_counter_total"), "deployment"): "{{deployment}}",
                rate(of_serve("deployment_error_counter_total"), "deployment"): "{{deployment}} errors",
            },
            "ops",
        ),
        Panel(
            "Requests at replicas",
            "Ray Serve: computed and queued.",
            {
                f"sum ({of_serve('replica_processing_queries')})": "computed",
                f"sum ({of_serve('deployment_queued_queries')})": "queued",
            },
        ),
        Panel(
            "Healthy replicas",
            "Ray Serve.",
            {f"sum by (deployment) ({of_serve('deployment_replica_healthy')})": "{{deployment}}"},
        ),
    ]
    return [
        ("Judge", [*shares, *(panel_of(metric) for metric in METRICS)]),
        ("vLLM", vllm),
        ("Ray Serve (empty without it)", serve),
    ]


def board() -> dict[str, Any]:
    """The board, as Grafana imports it."""
    return {
        "title": "openselene judge",
        "uid": "openselene-judge",
        "description": "Written by scripts/grafana_board.py from serve/metrics.py. Do not edit by hand.",
        "tags": ["openselene", "vllm", "ray"],
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
        "templating": {"list": [datasource_variable(), job_variable()]},
        "panels": list(placed(rows())),
    }


def datasource_variable() -> dict[str, Any]:
    """Which Prometheus."""
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def job_variable() -> dict[str, Any]:
    """Which scrape job, all by default: a Prometheus that scrapes several services is filtered by it."""
    requests = metrics.REQUESTS.name
    found = f'label_values({{__name__=~"(ray_)?{requests}"}}, job)'
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
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return generate(
        "Write the Grafana board from the list of metrics.",
        lambda: json.dumps(board(), indent=2, ensure_ascii=False) + "\n",
        OUTPUT,
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())

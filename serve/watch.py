"""Counts what the service does, for Prometheus: through Ray inside a Ray worker, beside vLLM's own elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

from pipelines.core.metrics import InRay, Meter, Metric, in_ray
from serve import metrics
from serve.metrics import METRICS

ROUTE_FOLDERS = ("/page", "/static")  # routes under which every file counts as one


class InProcess:
    """Metrics of `prometheus_client`: in its default registry they stand on the /metrics page of vLLM's app.

    vLLM with several API servers sums the processes' files; counters and histograms add up, and so does the gauge.
    """

    def __init__(self, registry: Any = None) -> None:
        import prometheus_client as client

        registry = client.REGISTRY if registry is None else registry
        made: dict[str, Any] = {}
        for one in METRICS:
            named: dict[str, Any] = {"labelnames": tuple(one.labels), "registry": registry}
            if one.kind == "counter":
                made[one.name] = client.Counter(one.name, one.help, **named)
            elif one.kind == "histogram":
                made[one.name] = client.Histogram(one.name, one.help, buckets=one.buckets, **named)
            else:
                made[one.name] = client.Gauge(one.name, one.help, multiprocess_mode="livesum", **named)
        self.made = made

    def add(self, metric: Metric, amount: float, labels: dict[str, str]) -> None:
        """Raise a counter."""
        self._labelled(metric, labels).inc(amount)

    def observe(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Add a value to a histogram."""
        self._labelled(metric, labels).observe(value)

    def set(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Set a gauge."""
        self._labelled(metric, labels).set(value)

    def _labelled(self, metric: Metric, labels: dict[str, str]) -> Any:
        made = self.made[metric.name]
        return made.labels(**labels) if labels else made


class Watch(Meter):
    """What the service tells about itself; the parts call it, a backend keeps the numbers.

    `Watch()` counts nothing; `here()` counts where this process should.
    """

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is its path."""
        route = route_of(route)
        self.add(metrics.REQUESTS, 1, route=route, status=str(status))
        self.observe(metrics.REQUEST_SECONDS, seconds, route=route)

    def refused(self, why: str) -> None:
        """A request was refused: no_key, scope, rate, concurrency, queue, body, draining or timeout."""
        self.add(metrics.REFUSED, 1, reason=why)

    def judgment(
        self,
        *,
        task: str,
        verdict: str,
        parse_status: str,
        consistent: bool | None,
        prompt_tokens: int,
        output_tokens: int,
        cached_tokens: int,
        seconds: float,
        first_token: float | None,
    ) -> None:
        """A judgment was given.

        Args:
            task: pairwise, absolute or classification.
            verdict: a label outside the usual ones counts as `other`.
            parse_status: how the verdict was read.
            consistent: whether both orders agree; None if only one was asked.
            prompt_tokens: of all its prompts, those cached included.
            output_tokens: of all its answers.
            cached_tokens: of the prompts, found in the engine's cache.
            seconds: from the start of the judgment to its verdict.
            first_token: seconds to the first token; None if it is not known.
        """
        by_task = {"task": "classification" if task == "classify" else task}
        self.add(metrics.JUDGMENTS, 1, **by_task, verdict=verdict)
        self.add(metrics.PARSED, 1, **by_task, parse_status=parse_status)
        if consistent is not None:
            self.add(metrics.ORDERS, 1, **by_task, consistent=str(consistent).lower())
        for kind, count in (("prompt", prompt_tokens), ("cached", cached_tokens), ("output", output_tokens)):
            self.add(metrics.TOKENS, count, kind=kind)
        self.observe(metrics.JUDGMENT_SECONDS, seconds, **by_task)
        if first_token is not None:
            self.observe(metrics.FIRST_TOKEN, first_token, **by_task)

    def waiting(self, count: int) -> None:
        """So many judgments wait or are computed now."""
        self.set(metrics.WAITING, count)


def route_of(path: str) -> str:
    """The route of a path: files of a folder count together. A path that is no route is left to become `other`."""
    for folder in ROUTE_FOLDERS:
        if path == folder or path.startswith(f"{folder}/"):
            return folder
    return path


@cache
def here() -> Watch:
    """The Watch of this process, made once: a registry takes no metric twice.

    Inside a Ray worker it counts through Ray, else through `prometheus_client`.
    """
    return Watch(InRay() if in_ray() else InProcess())

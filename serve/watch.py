"""Counts what the service does, for Prometheus: through Ray inside a Ray worker, beside vLLM's own elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from serve import metrics
from serve.metrics import METRICS, Metric

ROUTE_FOLDERS = ("/page", "/static")  # routes under which every file counts as one


class Backend(Protocol):
    """Where numbers go. `labels` are those of the metric, every one."""

    def add(self, metric: Metric, amount: float, labels: dict[str, str]) -> None:
        """Raise a counter by more than 0."""

    def observe(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Add a value to a histogram."""

    def set(self, metric: Metric, value: float) -> None:
        """Set a gauge."""


class Nowhere:
    """Counts nothing."""

    def add(self, metric: Metric, amount: float, labels: dict[str, str]) -> None:
        """Nothing."""

    observe = add

    def set(self, metric: Metric, value: float) -> None:
        """Nothing."""


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

    def set(self, metric: Metric, value: float) -> None:
        """Set a gauge."""
        self.made[metric.name].set(value)

    def _labelled(self, metric: Metric, labels: dict[str, str]) -> Any:
        made = self.made[metric.name]
        return made.labels(**labels) if labels else made


class InRay:
    """Metrics of `ray.util.metrics`: each node's metrics port has them of all its replicas, with `ray_` in front."""

    def __init__(self) -> None:
        from ray.util import metrics as ray_metrics

        made: dict[str, Any] = {}
        for one in METRICS:
            named: dict[str, Any] = {"description": one.help, "tag_keys": tuple(one.labels)}
            if one.kind == "counter":
                made[one.name] = ray_metrics.Counter(one.name, **named)
            elif one.kind == "histogram":
                made[one.name] = ray_metrics.Histogram(one.name, boundaries=list(one.buckets), **named)
            else:
                made[one.name] = ray_metrics.Gauge(one.name, **named)
        self.made = made

    def add(self, metric: Metric, amount: float, labels: dict[str, str]) -> None:
        """Raise a counter."""
        self.made[metric.name].inc(amount, tags=labels)

    def observe(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Add a value to a histogram."""
        self.made[metric.name].observe(value, tags=labels)

    def set(self, metric: Metric, value: float) -> None:
        """Set a gauge."""
        self.made[metric.name].set(value)


class Watch:
    """What the service tells about itself; the parts call it, a backend keeps the numbers.

    `Watch()` counts nothing; `here()` counts where this process should.
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self.backend: Backend = backend or Nowhere()

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is its path."""
        route = route_of(route)
        self._add(metrics.REQUESTS, 1, {"route": route, "status": str(status)})
        self._observe(metrics.REQUEST_SECONDS, seconds, {"route": route})

    def refused(self, why: str) -> None:
        """A request was refused: no_key, scope, rate, concurrency, queue, body, draining or timeout."""
        self._add(metrics.REFUSED, 1, {"reason": why})

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
        self._add(metrics.JUDGMENTS, 1, {**by_task, "verdict": verdict})
        self._add(metrics.PARSED, 1, {**by_task, "parse_status": parse_status})
        if consistent is not None:
            self._add(metrics.ORDERS, 1, {**by_task, "consistent": str(consistent).lower()})
        for kind, count in (("prompt", prompt_tokens), ("cached", cached_tokens), ("output", output_tokens)):
            self._add(metrics.TOKENS, count, {"kind": kind})
        self._observe(metrics.JUDGMENT_SECONDS, seconds, by_task)
        if first_token is not None:
            self._observe(metrics.FIRST_TOKEN, first_token, by_task)

    def waiting(self, count: int) -> None:
        """So many judgments wait or are computed now."""
        self.backend.set(metrics.WAITING, count)

    def _add(self, metric: Metric, amount: float, labels: Mapping[str, str]) -> None:
        if amount > 0:  # Ray refuses to add 0
            self.backend.add(metric, amount, metric.bounded(labels))

    def _observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        self.backend.observe(metric, value, metric.bounded(labels))


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
    ray = sys.modules.get("ray")  # a process of Ray's has imported it
    return Watch(InRay() if ray is not None and ray.is_initialized() else InProcess())

"""Metrics as data, and what keeps their numbers: Ray, where this process is one of Ray's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol

PREFIX = "openselene_"
OTHER = "other"

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper ends of the buckets of every histogram, in seconds."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: with the prefix; what Prometheus calls it. Ray's own port puts `ray_` in front.
        kind: counter, gauge or histogram.
        help: what it says, for a person.
        labels: label -> every value it may have. Any other becomes `other`, so that no caller's text, label of its own
            or path can fill a Prometheus server.
        buckets: upper ends, in seconds; of a histogram only.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    def bounded(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels with `other` for each value that is not listed.

        Raises:
            KeyError: a label is missing.
        """
        return {name: labels[name] if labels[name] in known else OTHER for name, known in self.labels.items()}


def counter(name: str, help: str, **labels: tuple[str, ...]) -> Metric:
    """Something that is counted."""
    return Metric(f"{PREFIX}{name}_total", "counter", help, labels)


def seconds(name: str, help: str, **labels: tuple[str, ...]) -> Metric:
    """A time, as a histogram."""
    return Metric(f"{PREFIX}{name}_seconds", "histogram", help, labels, SECONDS)


def gauge(name: str, help: str, **labels: tuple[str, ...]) -> Metric:
    """Something as it is now."""
    return Metric(f"{PREFIX}{name}", "gauge", help, labels)


class Backend(Protocol):
    """Where numbers go. `labels` are those of the metric, every one."""

    def add(self, metric: Metric, amount: float, labels: dict[str, str]) -> None:
        """Raise a counter by more than 0."""

    def observe(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Add a value to a histogram."""

    def set(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Set a gauge."""


class Nowhere:
    """Counts nothing."""

    def add(self, metric: Metric, amount: float, labels: dict[str, str]) -> None:
        """Nothing."""

    observe = set = add


class InRay:
    """Metrics of `ray.util.metrics`, each made when it is first used.

    The metrics port of a node has the numbers of all its processes, with `ray_` before the names. A process hands them
    over every ten seconds and when it ends; one that SIGKILL or its machine ends takes its last ones with it. Counters
    stay on the port when their process is gone. A gauge leaves it 20 seconds after it was last set (Ray 2.60).
    """

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    def add(self, metric: Metric, amount: float, labels: dict[str, str]) -> None:
        """Raise a counter."""
        self._made(metric).inc(amount, tags=labels)

    def observe(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Add a value to a histogram."""
        self._made(metric).observe(value, tags=labels)

    def set(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Set a gauge."""
        self._made(metric).set(value, tags=labels)

    def _made(self, metric: Metric) -> Any:
        if metric.name not in self.made:
            from ray.util import metrics

            named: dict[str, Any] = {"description": metric.help, "tag_keys": tuple(metric.labels)}
            if metric.kind == "counter":
                made: Any = metrics.Counter(metric.name, **named)
            elif metric.kind == "histogram":
                made = metrics.Histogram(metric.name, boundaries=list(metric.buckets), **named)
            else:
                made = metrics.Gauge(metric.name, **named)
            self.made.setdefault(metric.name, made)
        return self.made[metric.name]


class Meter:
    """Counts with bounded labels; a backend keeps the numbers. `Meter()` counts nothing, `here()` where it should."""

    def __init__(self, backend: Backend | None = None) -> None:
        self.backend: Backend = backend or Nowhere()

    def add(self, metric: Metric, amount: float = 1, /, **labels: str) -> None:
        """Raise a counter; by nothing where the amount is 0, which Ray refuses."""
        if amount > 0:
            self.backend.add(metric, amount, metric.bounded(labels))

    def observe(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Add a value to a histogram."""
        self.backend.observe(metric, value, metric.bounded(labels))

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        self.backend.set(metric, value, metric.bounded(labels))


def in_ray() -> bool:
    """Whether this process is a driver or a worker of Ray's. Ray is not imported to find out."""
    # Another thread may be at the import right now: then the module is there, and has no names yet.
    initialized = getattr(sys.modules.get("ray"), "is_initialized", None)
    return bool(initialized is not None and initialized())


@cache
def _through_ray() -> Meter:
    return Meter(InRay())


def here() -> Meter:
    """The meter of a job's process: through Ray in one of Ray's, else it counts nothing."""
    return _through_ray() if in_ray() else Meter()

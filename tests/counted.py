"""A backend of metrics that keeps its numbers, to look at."""

from __future__ import annotations

from pipelines.core.metrics import Metric

Labels = frozenset[tuple[str, str]]


class Counted:
    """What was counted, by metric and labels."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, Labels], float] = {}
        self.observed: dict[tuple[str, Labels], list[float]] = {}
        self.calls = 0

    def add(self, metric: Metric, amount: float, labels: dict[str, str]) -> None:
        """Raise a counter, as Ray would: by more than 0."""
        assert metric.kind == "counter" and amount > 0
        self.numbers[self.key(metric, labels)] = self.of(metric, **labels) + amount
        self.calls += 1

    def observe(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Add a value to a histogram."""
        assert metric.kind == "histogram"
        self.observed.setdefault(self.key(metric, labels), []).append(value)
        self.calls += 1

    def set(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Set a gauge."""
        assert metric.kind == "gauge"
        self.numbers[self.key(metric, labels)] = value
        self.calls += 1

    def of(self, metric: Metric, **labels: str) -> float:
        """The number of a metric with exactly these labels; 0 where nothing was counted."""
        return self.numbers.get(self.key(metric, labels), 0.0)

    def all(self, metric: Metric) -> float:
        """The sum over all labels."""
        return sum(number for (name, _), number in self.numbers.items() if name == metric.name)

    def values(self, metric: Metric, **labels: str) -> list[float]:
        """What a histogram was given."""
        return self.observed.get(self.key(metric, labels), [])

    @staticmethod
    def key(metric: Metric, labels: dict[str, str]) -> tuple[str, Labels]:
        """Labels in any order."""
        return metric.name, frozenset(labels.items())

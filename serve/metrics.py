"""Every metric of the judge service, as data: `serve/watch.py` counts them, `scripts/grafana_board.py` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PREFIX = "openselene_"
OTHER = "other"

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper ends of the buckets of every histogram, in seconds."""

ROUTES = (
    "/v1/judge/absolute",
    "/v1/judge/pairwise",
    "/v1/judge/classify",
    "/v1/judge/batch",
    "/v1/fine_tuning/alpha/graders/run",
    "/v1/fine_tuning/alpha/graders/validate",
    "/v1/chat/completions",
    "/v1/models",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/static",
    "/openapi.json",
    "/",
    "/page",
)
TASKS = ("pairwise", "absolute", "classification")
VERDICTS = ("A", "B", "Tie", "Yes", "No", *(str(score) for score in range(1, 11)))
STATUSES = ("ok", "completed", "no_verdict", "not_allowed", "thoughts_cut")
REASONS = ("no_key", "scope", "rate", "concurrency", "queue", "body", "draining", "timeout")
CODES = tuple(str(code) for code in (200, 204, 400, 401, 403, 404, 405, 408, 413, 422, 429, 499, 500, 502, 503, 504))


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


def _counter(name: str, help: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(f"{PREFIX}{name}_total", "counter", help, labels)


def _seconds(name: str, help: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(f"{PREFIX}{name}_seconds", "histogram", help, labels, SECONDS)


REQUESTS = _counter("requests", "HTTP requests answered", route=ROUTES, status=CODES)
REQUEST_SECONDS = _seconds("request", "Time from a request to the end of its answer", route=ROUTES)
REFUSED = _counter("refused", "Requests refused before they were judged", reason=REASONS)
JUDGMENTS = _counter("judgments", "Judgments given", task=TASKS, verdict=VERDICTS)
PARSED = _counter("parsed", "Judgments by how their verdict was read", task=TASKS, parse_status=STATUSES)
ORDERS = _counter("orders", "Judgments of both orders, by whether they agree", task=TASKS, consistent=("true", "false"))
TOKENS = _counter(
    "tokens", "Tokens of judgments; those cached are part of the prompt", kind=("prompt", "cached", "output")
)
JUDGMENT_SECONDS = _seconds("judgment", "Time from a judgment's start to its verdict", task=TASKS)
FIRST_TOKEN = _seconds("time_to_first_token", "Time from a judgment's start to its first token", task=TASKS)
WAITING = Metric(f"{PREFIX}judgments_waiting", "gauge", "Judgments and chats that wait or are computed in this replica")

METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    REFUSED,
    JUDGMENTS,
    PARSED,
    ORDERS,
    TOKENS,
    JUDGMENT_SECONDS,
    FIRST_TOKEN,
    WAITING,
)

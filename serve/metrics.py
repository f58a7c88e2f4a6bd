"""Every metric of the judge service, as data: `serve/watch.py` counts them, `scripts/grafana_board.py` draws them."""

from __future__ import annotations

from pipelines.core.metrics import counter, gauge, seconds

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

REQUESTS = counter("requests", "HTTP requests answered", route=ROUTES, status=CODES)
REQUEST_SECONDS = seconds("request", "Time from a request to the end of its answer", route=ROUTES)
REFUSED = counter("refused", "Requests refused before they were judged", reason=REASONS)
JUDGMENTS = counter("judgments", "Judgments given", task=TASKS, verdict=VERDICTS)
PARSED = counter("parsed", "Judgments by how their verdict was read", task=TASKS, parse_status=STATUSES)
ORDERS = counter("orders", "Judgments of both orders, by whether they agree", task=TASKS, consistent=("true", "false"))
TOKENS = counter(
    "tokens", "Tokens of judgments; those cached are part of the prompt", kind=("prompt", "cached", "output")
)
JUDGMENT_SECONDS = seconds("judgment", "Time from a judgment's start to its verdict", task=TASKS)
FIRST_TOKEN = seconds("time_to_first_token", "Time from a judgment's start to its first token", task=TASKS)
WAITING = gauge("judgments_waiting", "Judgments and chats that wait or are computed in this replica")

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

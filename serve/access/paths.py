"""The paths that are served, and what each needs. Every other path of the app, such as vLLM's own, is not found."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

Policy = Literal["api", "page", "docs"]


@dataclass(frozen=True)
class Route:
    """One path, or a family of paths.

    Args:
        name: label in metrics and logs.
        method: the one it takes.
        scopes: a key needs one of them; empty: open to everyone.
        policy: which content security policy its answers carry.
        batch: its body is passed on in pieces, up to `batch_bytes`; others are read first, up to `body_bytes`.
        probe: asked by load balancers: it needs no loopback peer, and drain does not count it.
    """

    name: str
    method: str
    scopes: frozenset[str] = frozenset()
    policy: Policy = "api"
    batch: bool = False
    probe: bool = False


_JUDGE, _CHAT, _ANY = frozenset({"judge"}), frozenset({"chat"}), frozenset({"judge", "chat"})
CHAT = "/v1/chat/completions"
_LISTED = (
    Route("/v1/judge/absolute", "POST", _JUDGE),
    Route("/v1/judge/pairwise", "POST", _JUDGE),
    Route("/v1/judge/classify", "POST", _JUDGE),
    Route("/v1/judge/batch", "POST", _JUDGE, batch=True),
    Route("/v1/fine_tuning/alpha/graders/run", "POST", _JUDGE),
    Route("/v1/fine_tuning/alpha/graders/validate", "POST", _JUDGE),
    Route(CHAT, "POST", _CHAT),
    Route("/v1/models", "GET", _ANY),
    Route("/metrics", "GET", frozenset({"metrics"})),
    Route("/healthz", "GET", probe=True),
    Route("/readyz", "GET", probe=True),
    Route("/", "GET", policy="page"),
    Route("/docs", "GET", policy="docs"),
    Route("/static/swagger-ui-bundle.js", "GET", policy="docs"),
    Route("/static/swagger-ui.css", "GET", policy="docs"),
    Route("/openapi.json", "GET"),
)
ROUTES = {route.name: route for route in _LISTED}
PAGE = Route("/page/*", "GET", policy="page")
# Names of files and folders; none begins with a dot, so none is `..`.
_PAGE = re.compile(r"/page(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")


def find(scope: MutableMapping[str, Any]) -> Route | None:
    """The route of a request. Compared as it stands: what would have to be decoded or tidied first is not found."""
    path = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    # The app behind this looks at the same part: a host or proxy may serve it under a prefix.
    if root and path.startswith(f"{root}/"):
        path = path[len(root) :]
    found = ROUTES.get(path)
    if found is None and _PAGE.fullmatch(path):
        return PAGE
    return found

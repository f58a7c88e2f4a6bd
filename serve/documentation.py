"""The OpenAPI page: what the gate lets through, and not the many other routes of vLLM's app."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import pipelines
from serve.access.paths import ROUTES

ABOUT = "A judge of other models' responses. Keys: `Authorization: Bearer sel_...` (docs/serving.md)."


def describe(app: FastAPI) -> None:
    """Make the app's OpenAPI document, once it is asked for, of the listed routes alone."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            routes = [route for route in app.routes if getattr(route, "path", None) in ROUTES]
            found = get_openapi(
                title="openselene judge", version=pipelines.__version__, description=ABOUT, routes=routes
            )
            found.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, methods in found["paths"].items():
                for one in methods.values():
                    if ROUTES[path].scopes:
                        one["security"] = [{"key": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

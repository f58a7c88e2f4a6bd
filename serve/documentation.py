"""The OpenAPI page: what the gate lets through, and not the many other routes of vLLM's app."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

import pipelines
from serve.access.chat import Chat
from serve.access.paths import CHAT, ROUTES
from serve.errors import documented

ABOUT = "A judge of other models' responses. Keys: `Authorization: Bearer sel_...` (docs/serving.md)."
TITLE = "openselene judge"
_shown = APIRouter()


class EngineErrorDetail(BaseModel):
    """What the engine says."""

    message: str
    type: str
    param: str | None = None
    code: int


class EngineError(BaseModel):
    """The body of an error that only the engine can see, in vLLM's own form."""

    error: EngineErrorDetail


# Shown in place of vLLM's route, which takes more fields than the gate lets through.
@_shown.post(
    CHAT,
    tags=["chat"],
    response_model=None,
    responses={
        200: {
            "description": "The completion in OpenAI's form; with `stream`, server-sent events.",
            "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
        },
        400: {"model": EngineError, "description": "the engine refuses it, such as a prompt too long for the model"},
        **documented(),
    },
)
async def chat_completions(body: Chat) -> None:
    """A chat with the judge's model, as OpenAI's clients send it."""


def describe(app: FastAPI) -> None:
    """Make the app's OpenAPI document, once it is asked for, of the listed routes alone, and the page that shows it."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            routes = [route for route in app.routes if getattr(route, "path", None) in ROUTES]
            if any(getattr(route, "path", None) == CHAT for route in routes):
                routes = [*_shown.routes, *(route for route in routes if getattr(route, "path", None) != CHAT)]
            found = get_openapi(title=TITLE, version=pipelines.__version__, description=ABOUT, routes=routes)
            found.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, methods in found["paths"].items():
                for one in methods.values():
                    if ROUTES[path].scopes:
                        one["security"] = [{"key": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    # vLLM's own page fetches its icon from another host.
    app.router.routes[:] = [one for one in app.router.routes if getattr(one, "path", None) != "/docs"]
    app.add_api_route("/docs", _page, include_in_schema=False, response_class=HTMLResponse)


async def _page() -> HTMLResponse:
    """Swagger UI, whose files vLLM brings (`enable_offline_docs`). Relative, so that a prefix changes nothing."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=TITLE,
        swagger_js_url="static/swagger-ui-bundle.js",
        swagger_css_url="static/swagger-ui.css",
        swagger_favicon_url="page/icon.svg",
    )

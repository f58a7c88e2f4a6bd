"""A stub of the judge API for the page's tests: canned critiques and verdicts, no model.

What the instruction says decides how it answers: `busy`, `down`, `refused`, `broken`, `error`, `page of a proxy` or
`endless`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from serve.page import router

KEY = "sel_right"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def stub() -> FastAPI:
    """The app; `app.state.asked` has the bodies, `app.state.left` the requests whose client hung up."""
    app = FastAPI(docs_url=None, openapi_url=None)
    app.include_router(router)
    app.state.asked, app.state.left, app.state.pause = [], 0, 0.0

    @app.post("/v1/judge/{task}")
    async def judge(task: str, request: Request) -> Response:
        body = await request.json()
        app.state.asked.append((task, body))
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return _error(401, "unknown key")
        if body["instruction"] == "busy":
            return _error(429, "rate", {"Retry-After": "7"})
        if body["instruction"] == "down":
            return _error(503, "queue", {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"})
        if body["instruction"] == "refused":
            return _error(422, f"rubric: {HOSTILE}")
        if body["instruction"] == "page of a proxy":
            return HTMLResponse("<h1>Bad gateway</h1>", 502)
        stream = _endless(app) if body["instruction"] == "endless" else _judged(app, task, body)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Request-Id": "req-1"})

    return app


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "code": "x", "param": None}
    return JSONResponse({"error": error}, status, {"X-Request-Id": "req-1", **(headers or {})})


def event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


async def _endless(app: FastAPI) -> AsyncIterator[bytes]:
    try:
        while True:
            yield event("critique", {"criterion": None, "order": "given", "text": "more and "})
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        app.state.left += 1
        raise


async def _judged(app: FastAPI, task: str, body: dict[str, Any]) -> AsyncIterator[bytes]:
    orders = ["given", "swapped"] if body.get("both_orders") else ["given"]
    names = [one["name"] for one in body.get("criteria", [{"name": None}])]
    for name in names if body["with_critique"] else []:
        for word in critique("given").split(" "):
            for order in orders:
                # In two pieces that cut a character: networks do.
                whole = event("critique", {"criterion": name, "order": order, "text": f"{word} "})
                yield whole[:-6]
                yield whole[-6:]
            await asyncio.sleep(app.state.pause)
    if body["instruction"] == "broken":
        return
    if body["instruction"] == "error":
        yield event("error", {"error": {"message": "the engine stopped", "type": "server_error", "code": "x"}})
        return
    yield event("result", answer(task, body, orders, names))


def critique(order: str) -> str:
    return (
        "Both responses speak to a child. Response A names the cause and is correct: air scatters blue light more than "
        f"red. Response B is wrong – the sea does not colour the sky. {HOSTILE} In all, A is the better one."
    )


def answer(task: str, body: dict[str, Any], orders: list[str], names: list[str | None]) -> dict[str, Any]:
    """A judgment whose first verdict is likelier the fewer there are; in the swapped order a little less."""
    results = []
    for place, name in enumerate(names):
        shares = [0.5**n for n in range(1, len(body["allowed"]) + 1)]
        if place:
            shares.reverse()
        labels = dict(zip(body["allowed"], [share / sum(shares) for share in shares], strict=True))
        verdict = max(labels, key=lambda label: labels[label])
        swapped = {"A": 0.42, **dict.fromkeys([label for label in labels if label != "A"], 0.58 / (len(labels) - 1))}
        each = [
            {
                "order": order,
                "verdict": verdict if order == "given" else "B",
                "critique": critique(order) if body["with_critique"] else "",
                "probabilities": labels if order == "given" else swapped,
                "parse_status": "ok" if order == "given" else "completed",
            }
            for order in orders
        ]
        mean = {label: sum(one["probabilities"][label] for one in each) / len(each) for label in labels}
        results.append(
            {
                "criterion": name,
                "verdict": verdict,
                "critique": each[0]["critique"],
                "probabilities": mean,
                "expected_score": sum(int(k) * p for k, p in mean.items()) if task == "absolute" else None,
                "consistent": (each[0]["verdict"] == each[1]["verdict"]) if len(each) > 1 else None,
                "parse_status": "ok",
                "orders": each,
            }
        )
    return {
        "id": "judge-1",
        "model": "stub",
        "task": task,
        "results": results,
        "template": {"name": "pairwise_original", "digest": "0"},
        "model_digest": "0",
        "usage": {"prompt_tokens": 1412, "cached_tokens": 640, "output_tokens": 186},
        "seconds": 1.94,
    }

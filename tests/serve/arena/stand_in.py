"""A stand-in for judges, with no model behind it: an OpenAI-compatible endpoint whose answers follow from the prompt.

`python tests/serve/arena/stand_in.py PORT` serves it in a process of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

CRITIQUE = "The response does what was asked."


def stand_in() -> FastAPI:
    """The app. `state.say` maps models to whole answers or HTTP statuses, `state.wait` to seconds before an answer."""
    app = FastAPI()
    app.state.say, app.state.wait, app.state.asked = {}, {}, []

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        model, prompt = body["model"], body["messages"][0]["content"]
        app.state.asked.append(body)
        await asyncio.sleep(app.state.wait.get(model, 0))
        score = hashlib.sha256(f"{model}{prompt}".encode()).digest()[0] % 5 + 1
        said = app.state.say.get(model, f"Reasoning: {CRITIQUE}\n\nResult: {score}")
        if isinstance(said, int):
            return JSONResponse({"error": {"message": "the stand-in was told to fail"}}, said)
        return JSONResponse(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )

    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(stand_in(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")

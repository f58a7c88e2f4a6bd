"""A stub of the judge service for tests of clients: real HTTP, the API's shapes, and no model behind them.

`python -m tests.serve.stub_server PORT LOG` answers on loopback and writes every request's body to LOG, one JSON a line.
"""

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

KEY = "sel_stub_key"
USAGE = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}


def instance(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Any:
    """The least value that a JSON schema allows, as a server with structured outputs would give."""
    root = root or schema
    if "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return instance(found, root)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return instance(schema[choice][0], root)
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: instance(inner, root) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}), root)]
    return {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None}[kind]


def say(body: dict[str, Any]) -> str:
    """What the model says: JSON where the request or its words ask for it, else one grade in every usual form."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(instance(wanted["json_schema"]["schema"]))
    asked = json.dumps(body["messages"])
    if "json" in asked.lower():
        everything = {"pass": True, "score": 1, "reason": "it answers", "verdict": "yes", "steps": ["read it"]}
        return json.dumps({**everything, "result": "yes", "rationale": "it answers", "evaluation_steps": ["read it"]})
    return "It answers.\n\nGRADE: C"


def judgment(body: dict[str, Any], task: str) -> dict[str, Any]:
    """The answer of /v1/judge/TASK."""
    allowed = body.get("allowed") or {"pairwise": ["A", "B"], "absolute": ["1", "2", "3"]}.get(task, ["Yes", "No"])
    probabilities = {label: 1 / len(allowed) for label in allowed}
    read = {"verdict": allowed[0], "critique": "It answers.", "parse_status": "ok", "probabilities": probabilities}
    names = [one["name"] for one in body.get("criteria") or []] or [None]
    orders = ["given", "swapped"] if body.get("both_orders") else ["given"]
    results = [
        {
            "criterion": name,
            **read,
            "expected_score": 2.0 if task == "absolute" else None,
            "consistent": True if body.get("both_orders") else None,
            "orders": [{"order": order, **read} for order in orders],
        }
        for name in names
    ]
    return {
        "id": "judge-1",
        "model": "judge",
        "task": task,
        "results": results,
        "template": {"name": f"{task}_original", "digest": "0" * 16},
        "model_digest": "1" * 16,
        "usage": {"prompt_tokens": 40, "cached_tokens": 8, "output_tokens": 12},
        "seconds": 0.01,
    }


def error(status: int, code: str, **headers: str) -> JSONResponse:
    """A refusal in OpenAI's form."""
    body = {"error": {"message": f"stub: {code}", "type": "invalid_request_error", "code": code, "param": None}}
    return JSONResponse(body, status, headers={"X-Request-Id": "req-1", **headers})


class Stub:
    """The app with what it saw; `refusals` are sent first, one to each request.

    Attributes:
        seen: path and body of each request, in order of arrival.
        refusals: (status, code, headers) of the next answers.
        line_refusals: codes of the next lines of a batch.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refusals: list[tuple[int, str, dict[str, str]]] = []
        self.line_refusals: list[str] = []
        self.cut_batch_after: int | None = None
        self.app = FastAPI()
        self.app.middleware("http")(self._first)
        self.app.post("/v1/chat/completions")(self.chat)
        self.app.post("/v1/judge/batch")(self.batch)
        self.app.post("/v1/judge/{task}")(self.judge)
        self.app.post("/v1/fine_tuning/alpha/graders/run")(self.grade)
        self.app.get("/v1/models")(self.models)

    async def _first(self, request: Request, further: Any) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return error(401, "no_key")
        if self.refusals:
            await request.body()
            status, code, headers = self.refusals.pop(0)
            self.seen.append((request.url.path, None))
            return error(status, code, **headers)
        answer: Response = await further(request)
        answer.headers["X-Request-Id"] = "req-1"
        return answer

    async def read(self, request: Request) -> Any:
        body = json.loads(await request.body())
        self.seen.append((request.url.path, body))
        self.headers.append(dict(request.headers))
        return body

    async def models(self, request: Request) -> Any:
        """The one model."""
        card = {"id": "judge", "object": "model", "created": 0, "owned_by": "openselene"}
        return {"object": "list", "data": [card]}

    async def chat(self, request: Request) -> Response:
        """A completion, streamed if asked for; a tool that is asked for is called."""
        body = await self.read(request)
        text, calls = say(body), None
        if body.get("tools"):
            function = body["tools"][0]["function"]
            arguments = json.dumps(instance(function["parameters"]))
            calls = [{"id": "call-1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}]
        made = {"id": "chatcmpl-1", "created": int(time.time()), "model": body["model"]}
        if body.get("stream"):
            return StreamingResponse(self._chunks(made, text), media_type="text/event-stream")
        message = {"role": "assistant", "content": None if calls else text, "tool_calls": calls}
        finish = "tool_calls" if calls else "stop"
        choices = [
            {"index": index, "message": message, "finish_reason": finish, "logprobs": None}
            for index in range(body.get("n") or 1)
        ]
        return JSONResponse({**made, "object": "chat.completion", "choices": choices, "usage": USAGE})

    async def _chunks(self, made: dict[str, Any], text: str) -> AsyncIterator[str]:
        for piece in [*re.findall(r"\S+\s*", text), None]:
            choice = {"index": 0, "delta": {"content": piece} if piece else {}, "finish_reason": None if piece else "stop"}
            yield f"data: {json.dumps({**made, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"

    async def judge(self, task: str, request: Request) -> Response:
        """One judgment, streamed if asked for."""
        body = await self.read(request)
        if body.get("instruction") == "refuse":
            return error(422, "invalid_request")
        if body.get("stream"):
            return StreamingResponse(self._events(body, task), media_type="text/event-stream")
        return JSONResponse(judgment(body, task))

    async def _events(self, body: dict[str, Any], task: str) -> AsyncIterator[str]:
        for text in ("It ", "answers.\nWell."):
            yield f"event: critique\ndata: {json.dumps({'criterion': None, 'order': 'given', 'text': text})}\n\n"
        if body.get("instruction") == "fail late":
            late = {"error": {"message": "late", "code": "timeout", "type": "server_error", "param": None}}
            yield f"event: error\ndata: {json.dumps(late)}\n\n"
            return
        yield f"event: result\ndata: {json.dumps(judgment(body, task))}\n\n"

    async def batch(self, request: Request) -> Response:
        """Lines in, lines out while more come in; the last line read is answered first."""
        self.seen.append((request.url.path, None))
        return StreamingResponse(self._lines(request), media_type="application/x-ndjson")

    async def _lines(self, request: Request) -> AsyncIterator[str]:
        waiting, number, sent = b"", 0, 0
        async for chunk in request.stream():
            *lines, waiting = (waiting + chunk).split(b"\n")
            for line in reversed([line for line in lines if line.strip()]):
                number += 1
                if self.cut_batch_after is not None and sent >= self.cut_batch_after:
                    self.cut_batch_after = None
                    return
                yield self._answer(json.loads(line), number)
                sent += 1
                await asyncio.sleep(0)

    def _answer(self, line: dict[str, Any], number: int) -> str:
        self.seen.append(("line", line))
        if self.line_refusals:
            code = self.line_refusals.pop(0)
            return json.dumps({"id": line["id"], "line": number, "error": {"code": code, "message": code}}) + "\n"
        if line.get("instruction") == "refuse":
            fault = {"code": "invalid_request", "message": "no"}
            return json.dumps({"id": line["id"], "line": number, "error": fault}) + "\n"
        return json.dumps({"id": line["id"], "result": judgment(line, line["task"])}) + "\n"

    async def grade(self, request: Request) -> Response:
        """A grader's run, in OpenAI's shape."""
        body = await self.read(request)
        flags = "formula_parse invalid_variable model_grader_parse model_grader_refusal model_grader_server \
            other python_grader_runtime python_grader_server sample_parse truncated_observation unresponsive_reward"
        errors = {f"{name}_error": False for name in flags.split()}
        errors |= {"model_grader_server_error_details": None, "python_grader_runtime_error_details": None}
        name = body["grader"]["name"]
        metadata = {
            "errors": errors,
            "execution_time": 0.01,
            "name": name,
            "scores": {name: 1.0},
            "token_usage": 52,
            "sampled_model_name": "judge",
            "type": body["grader"]["type"],
        }
        return JSONResponse(
            {"reward": 1.0, "sub_rewards": {}, "metadata": metadata, "model_grader_token_usage_per_model": {}}
        )


@contextmanager
def serving(stub: Stub) -> Iterator[str]:
    """The stub on a free port of loopback; yields `http://127.0.0.1:PORT`."""
    server = uvicorn.Server(uvicorn.Config(stub.app, host="127.0.0.1", port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(5)


if __name__ == "__main__":
    stub = Stub()
    # For looking at what a tool sends: every body goes to the log as it comes.
    with open(sys.argv[2], "a", buffering=1) as log:
        stub.seen = type("Log", (list,), {"append": lambda self, one: log.write(json.dumps(one) + "\n")})()
        uvicorn.run(stub.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")

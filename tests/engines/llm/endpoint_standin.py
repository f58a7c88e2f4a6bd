"""A stand-in for an OpenAI-compatible endpoint: a real HTTP server that speaks the protocol and knows no model."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.engines.llm.ask import Answer
from pipelines.engines.llm.endpoint import EndpointAsk

Body = dict[str, Any]
KEY = "sk-standin-0123456789"


@dataclass
class Reply:
    """What the server does with one request.

    Attributes:
        status: of HTTP.
        body: sent as JSON, or as it is if it is bytes.
        headers: further ones.
        delay: seconds before it answers.
    """

    status: int = 200
    body: Body | bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def completion(text: str, top: list[dict[str, float]] | None = None, usage: Body | None = None) -> Body:
    """A chat completion; `top` holds probabilities of the likeliest tokens of each position."""
    logprobs = None
    if top is not None:
        positions = [[{"token": t, "logprob": math.log(p), "bytes": None} for t, p in each.items()] for each in top]
        logprobs = {"content": [{**each[0], "top_logprobs": each} for each in positions]}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
    made = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return made if usage is None else made | {"usage": usage}


def complaint(message: str, **more: Any) -> Body:
    """The body of a refusal."""
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


class Standin:
    """A server whose replies a function of the request's body and headers decides.

    Attributes:
        bodies: what was asked, in the order of arrival.
        headers: the headers that came with it.
        most: requests that were under way at once.
    """

    def __init__(self, reply: Callable[[Body], Reply]) -> None:
        self.reply, self.bodies, self.headers, self.most, self._now = reply, list[Body](), list[Any](), 0, 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                reply = outer.receive(self.path, body, self.headers)
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                try:
                    self.send_response(reply.status)
                    for name, value in {"content-type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True  # who asked did not wait

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def receive(self, path: str, body: Body, headers: Any) -> Reply:
        """Note a request and decide on it."""
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self._now += 1
            self.most = max(self.most, self._now)
        reply = self.reply(body) if path == "/v1/chat/completions" else Reply(404, complaint(f"no {path}"))
        time.sleep(reply.delay)
        with self._lock:
            self._now -= 1
        return reply

    def __enter__(self) -> Standin:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def config(server: Standin, **changes: Any) -> EndpointConfig:
    settings = {"endpoint": server.url, "model": "m", "api_key_env": "STANDIN_KEY", "timeout_s": 10, "retries": 1}
    return EndpointConfig.model_validate(settings | changes)


def ask(endpoint: EndpointConfig, *prompts: str, **options: Any) -> list[Answer]:
    async def run() -> list[Answer]:
        async with aclosing(EndpointAsk(endpoint)) as asking:
            return [await asking(prompt, max_tokens=9, **options) for prompt in prompts]

    return asyncio.run(run())


def message(content: Any, finish: str = "stop", **more: Any) -> Reply:
    body = completion("")
    body["choices"][0] |= {"message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}
    return Reply(body=body)

"""The client."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Self, TypeVar, Unpack

import httpx2

from serve.client.errors import JudgeError, connection_errors, refused
from serve.client.groups import GROUP, NDJSON, PARALLEL, Group, Line, Splitter
from serve.client.retries import Retries
from serve.client.wire import Asked, Hearing, OnCritique, body_of, judged, same_replica, settings
from serve.schemas import BatchResult, JudgeResponse

T = TypeVar("T")


class Judge:
    """A judge service. May be used by several threads; `with` closes its connections.

    Args:
        base_url: such as `http://127.0.0.1:8000`, with or without `/v1`.
        api_key: by default the environment's OPENSELENE_API_KEY; none is sent if there is none.
        timeout: seconds without a sign of the service until a request is given up.
        retries: tries after the first, of requests refused with 429, 502 or 503 or whose connection failed. A judgment
            changes nothing on the service, so that asking again is safe.
    """

    def __init__(
        self, base_url: str, api_key: str | None = None, *, timeout: float = 150.0, retries: int = Retries.times
    ) -> None:
        self.retries = Retries(retries)
        self.http = httpx2.Client(**settings(base_url, api_key, timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def absolute(
        self, *, response: str, on_critique: OnCritique | None = None, **asked: Unpack[Asked]
    ) -> JudgeResponse:
        """A score for one response.

        Args:
            response: to be judged.
            on_critique: called with each further piece of the critique, as it is written.
            asked: `instruction` or `messages`, `rubric` and the other fields of `Asked`.

        Raises:
            JudgeError: the service refused, or could not be reached.
        """
        return self._judge("absolute", {**asked, "response": response}, on_critique)

    def classify(
        self, *, response: str, on_critique: OnCritique | None = None, **asked: Unpack[Asked]
    ) -> JudgeResponse:
        """A label that answers the rubric's question. Arguments and errors: see `absolute`."""
        return self._judge("classify", {**asked, "response": response}, on_critique)

    def pairwise(
        self,
        *,
        responses: Sequence[str],
        both_orders: bool = False,
        on_critique: OnCritique | None = None,
        **asked: Unpack[Asked],
    ) -> JudgeResponse:
        """Which of two responses is better. Further arguments and errors: see `absolute`.

        Args:
            responses: the two.
            both_orders: judge twice, the second time with the responses swapped.
        """
        said = {**asked, "responses": list(responses), "both_orders": both_orders}
        return self._judge("pairwise", said, on_critique)

    def batch(
        self, lines: Iterable[Mapping[str, Any]], *, group: int = GROUP, parallel: int = PARALLEL
    ) -> Iterator[BatchResult]:
        """Judge many lines; results in order of completion, each with `result` or `error`.

        Lines are taken from `lines` as they are needed. A line that is refused for lack of room, or whose result was
        lost with a connection, is asked again.

        Args:
            lines: each with `task` (pairwise, absolute or classify), the fields of that task and, if wanted, an `id`.
                The id of one without is its place, counted from 0.
            group: lines of one request.
            parallel: requests at once.

        Raises:
            JudgeError: the service refuses the batch, or cannot be reached any more. Results so far have been given.
        """
        found: queue.SimpleQueue[BatchResult | BaseException | None] = queue.SimpleQueue()
        source = (Line(place, said) for place, said in enumerate(lines))
        stopped = threading.Event()

        def work(taken: list[Line]) -> None:
            try:
                for result in self._group(Group(taken, self.retries), stopped):
                    found.put(result)
                found.put(None)
            except BaseException as exc:
                found.put(exc)

        running = 0
        workers = ThreadPoolExecutor(parallel, thread_name_prefix="judge-batch")
        try:
            while True:
                # Lines are taken in the caller's own thread: what reads them may belong to it.
                while running < parallel and (taken := list(islice(source, group))):
                    workers.submit(work, taken)
                    running += 1
                if not running:
                    return
                result = found.get()
                if isinstance(result, BaseException):
                    raise result
                if result is None:
                    running -= 1
                else:
                    yield result
        finally:
            stopped.set()
            workers.shutdown(wait=False, cancel_futures=True)

    def _group(self, group: Group, stopped: threading.Event) -> Iterator[BatchResult]:
        yield from group.ready
        while group.waiting and not stopped.is_set():
            failed: JudgeError | None = None
            try:
                yield from self._once(group, stopped)
            except JudgeError as exc:
                failed = exc
            if group.waiting and not stopped.is_set():
                stopped.wait(group.wait(failed))

    def _once(self, group: Group, stopped: threading.Event) -> Iterator[BatchResult]:
        with (
            connection_errors(),
            self.http.stream("POST", "/v1/judge/batch", content=group.body(), headers=NDJSON) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise refused(response)
            splitter = Splitter()
            for chunk in response.iter_bytes():
                for line in splitter.lines(chunk):
                    if result := group.take(line):
                        yield result
                if stopped.is_set():
                    return

    def _judge(self, task: str, asked: Mapping[str, Any], on_critique: OnCritique | None) -> JudgeResponse:
        path, body = f"/v1/judge/{task}", body_of(asked, stream=on_critique is not None)

        def once() -> JudgeResponse:
            if on_critique is not None:
                return self._listen(path, body, on_critique)
            with connection_errors():
                return judged(self.http.post(path, json=body, headers=same_replica(body)))

        return self._until_answered(once)

    def _until_answered(self, once: Callable[[], T]) -> T:
        tried = 0
        while True:
            try:
                return once()
            except JudgeError as exc:
                time.sleep(self.retries.wait(tried, exc))
                tried += 1

    def _listen(self, path: str, body: dict[str, Any], on_critique: OnCritique) -> JudgeResponse:
        hearing = Hearing(on_critique)
        with hearing.errors(), connection_errors():
            with self.http.sse(path, method="POST", json=body, headers=same_replica(body)) as events:
                if events.response.status_code != 200:
                    events.response.read()
                    raise refused(events.response)
                for event in events:
                    if found := hearing.take(event, events.response):
                        return found
            raise hearing.cut()

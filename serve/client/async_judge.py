"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

import httpx2

from serve.client.errors import JudgeError, connection_errors, refused
from serve.client.groups import GROUP, NDJSON, PARALLEL, Group, Line, Splitter
from serve.client.retries import Retries
from serve.client.wire import Asked, Hearing, OnCritique, body_of, judged, same_replica, settings
from serve.schemas import BatchResult, JudgeResponse

T = TypeVar("T")


class AsyncJudge:
    """A judge service, for asyncio. Belongs to one event loop; `async with` closes its connections.

    Args:
        base_url: such as `http://127.0.0.1:8000`, with or without `/v1`.
        api_key: by default the environment's OPENSELENE_API_KEY; none is sent if there is none.
        timeout: seconds without a sign of the service until a request is given up.
        retries: tries after the first, of requests refused with 429, 502 or 503 or whose connection failed.
    """

    def __init__(
        self, base_url: str, api_key: str | None = None, *, timeout: float = 150.0, retries: int = Retries.times
    ) -> None:
        self.retries = Retries(retries)
        self.http = httpx2.AsyncClient(**settings(base_url, api_key, timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def absolute(
        self, *, response: str, on_critique: OnCritique | None = None, **asked: Unpack[Asked]
    ) -> JudgeResponse:
        """A score for one response. Arguments and errors: see `Judge.absolute`."""
        return await self._judge("absolute", {**asked, "response": response}, on_critique)

    async def classify(
        self, *, response: str, on_critique: OnCritique | None = None, **asked: Unpack[Asked]
    ) -> JudgeResponse:
        """A label that answers the rubric's question. Arguments and errors: see `Judge.absolute`."""
        return await self._judge("classify", {**asked, "response": response}, on_critique)

    async def pairwise(
        self,
        *,
        responses: Sequence[str],
        both_orders: bool = False,
        on_critique: OnCritique | None = None,
        **asked: Unpack[Asked],
    ) -> JudgeResponse:
        """Which of two responses is better. Arguments and errors: see `Judge.pairwise`."""
        said = {**asked, "responses": list(responses), "both_orders": both_orders}
        return await self._judge("pairwise", said, on_critique)

    async def batch(
        self,
        lines: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        *,
        group: int = GROUP,
        parallel: int = PARALLEL,
    ) -> AsyncIterator[BatchResult]:
        """Judge many lines; results in order of completion. Arguments and errors: see `Judge.batch`."""
        found: asyncio.Queue[BatchResult | BaseException | None] = asyncio.Queue(group * parallel)
        source, taking = _numbered(lines), asyncio.Lock()

        async def work() -> None:
            try:
                while True:
                    async with taking:
                        taken = [line async for line in _first(source, group)]
                    if not taken:
                        break
                    async for result in self._group(Group(taken, self.retries)):
                        await found.put(result)
                await found.put(None)
            except Exception as exc:
                await found.put(exc)

        workers = [asyncio.create_task(work()) for _ in range(parallel)]
        try:
            running = parallel
            while running:
                result = await found.get()
                if isinstance(result, BaseException):
                    raise result
                if result is None:
                    running -= 1
                else:
                    yield result
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _group(self, group: Group) -> AsyncIterator[BatchResult]:
        for result in group.ready:
            yield result
        while group.waiting:
            failed: JudgeError | None = None
            try:
                async for result in self._once(group):
                    yield result
            except JudgeError as exc:
                failed = exc
            if group.waiting:
                await asyncio.sleep(group.wait(failed))

    async def _once(self, group: Group) -> AsyncIterator[BatchResult]:
        with connection_errors():
            async with self.http.stream("POST", "/v1/judge/batch", content=group.body(), headers=NDJSON) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise refused(response)
                splitter = Splitter()
                async for chunk in response.aiter_bytes():
                    for line in splitter.lines(chunk):
                        if result := group.take(line):
                            yield result

    async def _judge(self, task: str, asked: Mapping[str, Any], on_critique: OnCritique | None) -> JudgeResponse:
        path, body = f"/v1/judge/{task}", body_of(asked, stream=on_critique is not None)

        async def once() -> JudgeResponse:
            if on_critique is not None:
                return await self._listen(path, body, on_critique)
            with connection_errors():
                return judged(await self.http.post(path, json=body, headers=same_replica(body)))

        return await self._until_answered(once)

    async def _until_answered(self, once: Callable[[], Awaitable[T]]) -> T:
        tried = 0
        while True:
            try:
                return await once()
            except JudgeError as exc:
                await asyncio.sleep(self.retries.wait(tried, exc))
                tried += 1

    async def _listen(self, path: str, body: dict[str, Any], on_critique: OnCritique) -> JudgeResponse:
        hearing = Hearing(on_critique)
        with hearing.errors(), connection_errors():
            async with self.http.sse(path, method="POST", json=body, headers=same_replica(body)) as events:
                if events.response.status_code != 200:
                    await events.response.aread()
                    raise refused(events.response)
                async for event in events:
                    if found := hearing.take(event, events.response):
                        return found
            raise hearing.cut()


async def _numbered(lines: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]) -> AsyncIterator[Line]:
    place = 0
    if isinstance(lines, AsyncIterable):
        async for said in lines:
            yield Line(place, said)
            place += 1
    else:
        for said in lines:
            yield Line(place, said)
            place += 1


async def _first(source: AsyncIterator[Line], count: int) -> AsyncIterator[Line]:
    """The next `count` lines of a source that others go on reading."""
    for _ in range(count):
        try:
            yield await anext(source)
        except StopAsyncIteration:
            return

"""Batches of the client: against the routes (with a stub engine), and a stub that refuses and hangs up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from serve.client import AsyncJudge, Judge, JudgeError
from serve.client.groups import Group, Line, Splitter
from tests.serve.client.asking import ONE, PAIR, QUICK, lines
from tests.serve.stub_server import KEY, Stub, serving


def test_batch_answers_every_line_once_with_its_id(routes: str) -> None:
    with Judge(routes) as judge:
        found = list(judge.batch(lines(100), group=8, parallel=3))
    assert sorted(str(one.id) for one in found) == sorted(f"row {number}" for number in range(100))
    assert all(one.result and one.result.results[0].verdict == "A" for one in found)


@pytest.mark.anyio
async def test_batch_for_asyncio_takes_both_kinds_of_lines(routes: str) -> None:
    async def source() -> AsyncIterator[dict[str, Any]]:
        for line in lines(20):
            await asyncio.sleep(0)
            yield line

    async with AsyncJudge(routes) as judge:
        for given in (source(), lines(20)):
            found = [one async for one in judge.batch(given, group=4)]
            assert {one.id for one in found} == {f"row {number}" for number in range(20)}


def test_results_come_in_order_of_completion(judge: Judge) -> None:
    """The stub answers what came last first."""
    found = [one.id for one in judge.batch(lines(6), group=6, parallel=1)]
    assert found == [f"row {number}" for number in reversed(range(6))]


def test_bad_line_costs_that_line_only(judge: Judge) -> None:
    given: list[Any] = [
        {"id": "good", "task": "pairwise", **PAIR},
        {"id": "bad", "task": "pairwise", **PAIR, "instruction": "refuse"},
        {"id": "long", "task": "pairwise", **PAIR, "instruction": "too long"},
        {"id": "nan", "task": "pairwise", **PAIR, "max_tokens": float("nan")},
        {"id": "object", "task": "pairwise", **PAIR, "context": object()},
    ]
    found = {one.id: one for one in judge.batch(given)}
    assert found["good"].result
    codes = {name: one.error.code for name, one in found.items() if one.error}
    assert codes == {"bad": "invalid_request", "long": "line_too_long", "nan": "invalid_line", "object": "invalid_line"}
    assert [found[name].line for name in ("good", "bad", "long", "nan", "object")] == [None, 2, 3, 4, 5]


def test_ids_may_be_missing_or_repeated(judge: Judge) -> None:
    given = [
        {"task": "pairwise", **PAIR},
        {"id": "x", "task": "pairwise", **PAIR},
        {"id": "x", "task": "absolute", **ONE},
    ]
    assert sorted(str(one.id) for one in judge.batch(given)) == ["0", "x", "x"]


def test_refused_lines_are_asked_again(judge: Judge, stub: Stub) -> None:
    stub.line_refusals = ["queue_full", "rate_limit_exceeded"]
    found = list(judge.batch(lines(4)))
    assert len(found) == 4 and all(one.result for one in found)
    assert len([path for path, _ in stub.seen if path == "line"]) == 6


def test_line_that_is_refused_for_ever_ends_as_an_error(judge: Judge, stub: Stub) -> None:
    stub.line_refusals = ["queue_full"] * 100
    (found,) = judge.batch(lines(1))
    assert found.error and found.error.code == "queue_full"
    assert len([path for path, _ in stub.seen if path == "line"]) == 1 + QUICK.times


def test_lines_whose_results_were_lost_are_asked_again(judge: Judge, stub: Stub) -> None:
    stub.cut_batch_after = 3
    found = list(judge.batch(lines(8), group=8))
    assert sorted(str(one.id) for one in found) == [f"row {number}" for number in range(8)]
    asked = [line["id"] for path, line in stub.seen if path == "line"]
    assert len(asked) == 8 and len(set(asked)) == 8


def test_batch_that_is_refused_raises(judge: Judge, stub: Stub) -> None:
    stub.refusals = [(413, "batch_too_large", {})]
    with pytest.raises(JudgeError, match="batch_too_large"):
        list(judge.batch(lines(2)))
    stub.refusals = [(503, "busy", {})]
    assert len(list(judge.batch(lines(2)))) == 2


def test_error_of_the_whole_batch_raises_once_its_lines_are_given() -> None:
    group = Group([Line(0, {"task": "pairwise"}), Line(1, {"task": "pairwise"})], QUICK)
    group.body()
    with pytest.raises(JudgeError) as caught:
        group.take(b'{"id": null, "line": 1, "error": {"code": "too_many_lines", "message": "no"}}')
    assert caught.value.code == "too_many_lines" and not caught.value.again


def test_lines_are_read_as_they_are_needed_and_in_the_callers_thread(judge: Judge) -> None:
    read: list[int] = []

    def source() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(lines(1000)):
            assert threading.current_thread() is threading.main_thread()
            read.append(number)
            yield line

    results = judge.batch(source(), group=5, parallel=2)
    next(results)
    assert len(read) <= 15
    results.close()  # type: ignore[attr-defined]
    assert len(read) <= 15


def test_exception_of_the_source_is_the_callers(judge: Judge) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield lines(1)[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(judge.batch(source()))


@pytest.mark.anyio
async def test_exception_and_end_of_a_batch_for_asyncio(stub: Stub) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield lines(1)[0]
        raise ZeroDivisionError

    with serving(stub.app) as url:
        async with AsyncJudge(url, KEY) as judge:
            judge.retries = QUICK
            with pytest.raises(ZeroDivisionError):
                [one async for one in judge.batch(source())]
            stub.line_refusals = ["queue_full"]
            stub.cut_batch_after = 1
            assert len([one async for one in judge.batch(lines(6))]) == 6
            results = judge.batch(lines(600), group=3)
            await anext(results)
            await results.aclose()  # type: ignore[attr-defined]
            assert not [task for task in asyncio.all_tasks() if "batch.<locals>.work" in str(task)]


def test_lines_end_where_json_lines_do() -> None:
    splitter = Splitter()
    text = '{"a": "x\u2028y\x85z"}\n\n{"b": 1}\n{"c"'.encode()
    found = [line for place in range(0, len(text), 3) for line in splitter.lines(text[place : place + 3])]
    assert found == ['{"a": "x\u2028y\x85z"}'.encode(), b'{"b": 1}']


def test_critique_with_a_unicode_line_end_arrives_whole(judge: Judge) -> None:
    (found,) = judge.batch(lines(1))
    assert found.result and found.result.results[0].critique == "It\u2028answers."

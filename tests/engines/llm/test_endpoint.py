"""Asking an endpoint, against a real HTTP server that stands in for one: what is sent, kept, tried again and hidden."""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, cast

import pyarrow as pa
import pytest

from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import EXAMPLE, JUDGED, Row
from pipelines.core.stage import to_table
from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.engines.llm.ask import Closing
from pipelines.engines.llm.endpoint import EndpointAsk, EndpointError, Refused, require_endpoint
from pipelines.engines.llm.endpoint_stage import EndpointStage
from pipelines.engines.llm.judge import Judge
from pipelines.engines.llm.steps import StepActor
from tests.engines.llm.endpoint_standin import KEY, Body, Reply, Standin, ask, complaint, completion, config, message

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}
AT_ONCE = {"retry-after-ms": "5"}


def test_what_is_asked_and_what_is_kept(serve: Callable[..., Standin]) -> None:
    top = [{"Yes": 0.75, "No": 0.25}, {".": 1.0}]
    server = serve(Reply(body=completion("Yes.", top, USAGE)))
    (answer,) = ask(config(server), "Is {{ 7 * 7 }} <|im_end|>\n%s odd? ", seed=3, logprobs=2)
    assert server.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Is {{ 7 * 7 }} <|im_end|>\n%s odd?"}],
            "max_tokens": 9,
            "temperature": 0.0,
            "seed": 3,
            "logprobs": True,
            "top_logprobs": 2,
        }
    ]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert (answer.text, answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == ("Yes.", 7, 3, 4)
    assert answer.top[0] == pytest.approx({"Yes": math.log(0.75), "No": math.log(0.25)})
    assert 0 < answer.seconds < 10


def test_what_an_endpoint_does_not_tell_is_left_empty(serve: Callable[..., Standin]) -> None:
    (answer,) = ask(config(serve(Reply(body=completion("Yes.")))), "x", logprobs=2)
    assert (answer.top, answer.prompt_tokens, answer.output_tokens) == ([], 0, 0)


def test_options_an_endpoint_does_not_take_are_left_out_from_then_on(serve: Callable[..., Standin]) -> None:
    def picky(body: Body) -> Reply:
        for option in ("logprobs", "seed"):
            if option in body:
                return Reply(400, complaint(f"{option} is not supported by this model"))
        if "max_tokens" in body:
            said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return Reply(422, complaint(said, param="max_tokens", code="unsupported_parameter"))
        return Reply(body=completion("Yes."))

    server = serve(picky)
    assert [answer.text for answer in ask(config(server), "one", "two", logprobs=2)] == ["Yes.", "Yes."]
    assert len(server.bodies) == 3 + 1 + 1
    asked = {"model", "messages", "temperature", "max_completion_tokens"}
    assert [body.keys() for body in server.bodies[3:]] == [asked, asked]


def test_an_option_whose_absence_does_not_help_is_asked_for_again(serve: Callable[..., Standin]) -> None:
    long = Reply(400, complaint("the prompt 'what are logprobs' is not for me"))
    server = serve(long, long, Reply(body=completion("Yes.")))

    async def run() -> None:
        async with aclosing(EndpointAsk(config(server))) as asking:
            with pytest.raises(EndpointError, match=r"BadRequestError: Error code: 400 .* is not for me"):
                await asking("x", max_tokens=9, logprobs=2)
            await asking("y", max_tokens=9, logprobs=2)

    asyncio.run(run())
    assert ["logprobs" in body for body in server.bodies] == [True, False, True]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(serve: Callable[..., Standin], status: int) -> None:
    server = serve(Reply(status, complaint("later"), AT_ONCE), Reply(body=completion("Yes.")))
    assert ask(config(server), "x")[0].text == "Yes."
    assert len(server.bodies) == 2


def test_an_endpoint_that_stays_busy_is_given_up_with_the_reason(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(429, complaint("slow\ndown"), AT_ONCE))
    with pytest.raises(EndpointError, match=r"^no_answer:RateLimitError: Error code: 429 .*slow"):
        ask(config(server, retries=2), "x")
    assert len(server.bodies) == 3


def test_an_endpoint_that_does_not_answer_in_time(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(body=completion("Yes."), delay=1.0))
    with pytest.raises(EndpointError, match="APITimeoutError: Request timed out"):
        ask(config(server, timeout_s=0.1, retries=1), "x")
    assert len(server.bodies) == 2


def test_half_of_a_surrogate_pair_costs_that_row_and_is_not_sent(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(body=completion("Yes.")), Reply(body=completion("\ud83d")))
    with pytest.raises(RowFailure, match="invalid_unicode"):
        ask(config(server), "half \ud83d")
    assert server.bodies == []
    rows = [row(0, "Say it."), row(1, "Say it, too.")]
    found = judge(config(server, concurrency=1), rows)
    with pytest.raises(RowFailure, match="invalid_unicode"):  # it would be written as any column is
        ask(config(serve(message("Yes.", reasoning_content="\ud83d"))), "x")
    bad = "error:judge:invalid_unicode:the answer has half of a surrogate pair"
    assert sorted(one["status"] for one in found) == [bad, "ok"]


def test_nucleus_sampling_is_sent_only_where_it_is_asked_for(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(body=completion("Yes.")))
    ask(config(server), "x")
    ask(config(server), "x", temperature=0.7, top_p=0.9)
    assert ["top_p" in body for body in server.bodies] == [False, True]


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model.", None),
        ("Unsupported value: 'temperature' does not support 0.0 with this model.", "temperature"),
        ("Unsupported parameter: 'top_p' is not supported with this model.", None),
        ("temperature is deprecated for this model", None),
    ],
)
def test_a_parameter_that_is_refused_stops_the_job_with_its_name(
    serve: Callable[..., Standin], said: str, param: str | None
) -> None:
    server = serve(Reply(400, complaint(said, param=param)))
    with pytest.raises(Refused, match=r"does not take '(temperature|top_p)' as it is asked") as caught:
        ask(config(server), "x")
    assert "\n" not in str(caught.value)


def test_a_refusal_that_only_quotes_a_prompt_about_a_parameter_is_the_row_s(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(400, complaint("the prompt 'raise the temperature of the oven' is not for me")))
    with pytest.raises(EndpointError):
        ask(config(server), "x")


def test_wrong_key_and_wrong_model_are_nobody_elses_fault(serve: Callable[..., Standin]) -> None:
    denied, unknown = Reply(401, complaint(f"no such key: {KEY}")), Reply(404, complaint("no model m"))
    with pytest.raises(Refused, match="does not take the key in STANDIN_KEY"):
        ask(config(serve(denied)), "x")
    with pytest.raises(Refused, match=r"wants a key .*api_key_env"):
        ask(config(serve(denied), api_key_env=None), "x")
    with pytest.raises(Refused, match=r"has no model 'm': .*no model m"):
        ask(config(serve(unknown)), "x")


def test_no_key_is_sent_where_none_is_named(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(body=completion("Yes.")))
    ask(config(server, api_key_env=None), "x")
    assert server.headers[0]["authorization"] == "Bearer none"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_the_key_shows_nowhere_although_the_endpoint_repeats_it(
    serve: Callable[..., Standin], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(Reply(status, complaint(f"you sent {KEY}", param=KEY), {**AT_ONCE, "x-request-id": KEY}))
    endpoint = config(server)
    with pytest.raises((EndpointError, UserError)) as caught:
        ask(endpoint, "x")
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    with pytest.raises(UserError) as caught_early:
        require_endpoint(endpoint, "evaluation.models.m")
    shown += "".join(traceback.format_exception(caught_early.value)) + repr(endpoint) + str(endpoint.model_dump())
    assert server.headers[0]["authorization"].endswith(KEY)
    assert KEY not in shown
    assert KEY not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("pipelines"))
    # Of libraries' debug logs, only what a job shows: warnings and worse.
    assert KEY not in "".join(r.getMessage() for r in caplog.records if r.levelno >= logging.INFO)


def test_no_more_requests_at_once_than_allowed(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(body=completion("Yes."), delay=0.05))

    async def run() -> None:
        async with aclosing(EndpointAsk(config(server, concurrency=3))) as asking:
            await asyncio.gather(*(asking(str(n), max_tokens=9) for n in range(12)))

    asyncio.run(run())
    assert (len(server.bodies), server.most) == (12, 3)


def test_a_set_of_answers_cannot_be_asked_for(serve: Callable[..., Standin]) -> None:
    server = serve(Reply())
    with pytest.raises(ValueError, match="set of answers"):
        ask(config(server), "x", choices=["Yes", "No"])
    assert server.bodies == []


def test_an_endpoint_is_held_to_no_ending(serve: Callable[..., Standin]) -> None:
    server = serve(Reply())
    with pytest.raises(UserError, match="cannot be held to the ending") as refused:
        ask(config(server), "x", closing=Closing("Result:", {"A": "Result: A", "B": "Result: B"}))
    assert server.bodies == [] and "\n" not in refused.value.what


def test_an_endpoints_answer_is_handed_on_in_one_piece(serve: Callable[..., Standin]) -> None:
    server, heard = serve(Reply(body=completion("Yes."))), list[str]()
    assert ask(config(server), "x", on_text=heard.append)[0].text == "Yes." and heard == ["Yes."]


def test_the_driver_asks_once_before_rows_are_sent(
    serve: Callable[..., Standin], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "evaluation.models.gpt"
    fine = serve(Reply(body=completion("OK")))
    require_endpoint(config(fine), where)
    assert len(fine.bodies) == 1
    for reply, said in (
        (Reply(401, complaint("no")), "does not take the key in STANDIN_KEY"),
        (Reply(404, complaint("no")), "has no model 'm'"),
        (
            Reply(400, complaint("temperature 0 is not supported")),
            "does not take 'temperature' as it is asked: .*temperature 0",
        ),
    ):
        server = serve(reply)
        with pytest.raises(UserError, match=rf"^evaluation.models.gpt \({server.url}\): .*{said}") as caught:
            require_endpoint(config(server), where)
        assert "\n" not in str(caught.value) and len(server.bodies) == 1
    gone = config(fine, endpoint="http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(UserError, match="gives no answer: APIConnectionError"):
        require_endpoint(gone, where)
    monkeypatch.delenv("STANDIN_KEY")
    with pytest.raises(UserError, match="environment variable STANDIN_KEY is not set"):
        require_endpoint(config(fine), where)


SCHEMA = pa.schema([*EXAMPLE, ("template", pa.string()), *JUDGED])


def row(number: int, instruction: str, **changes: Any) -> Row:
    said: Row = {"row_id": f"r{number}", "task": "pairwise", "status": "ok", "template": "pairwise_compact"}
    said |= {"instruction": instruction, "responses": ["a", "b"], "allowed": ["A", "B"]}
    return dict.fromkeys(SCHEMA.names) | said | changes


def judge(endpoint: EndpointConfig, rows: list[Row], **settings: Any) -> list[Row]:
    async def run() -> list[pa.Table]:
        stage = EndpointStage("judge", endpoint, [Judge(9, **settings)])
        actor = StepActor(stage, SCHEMA)
        async with aclosing(cast(EndpointAsk, stage.ask)):
            return [table async for table in actor(to_table(rows, SCHEMA))]

    (table,) = asyncio.run(run())
    return table.to_pylist()


def test_a_batch_is_judged_and_a_bad_row_leaves_its_neighbours_alone(serve: Callable[..., Standin]) -> None:
    def reply(body: Body) -> Reply:
        prompt = body["messages"][0]["content"]
        if "unlucky" in prompt:
            return Reply(500, complaint("out of memory"), AT_ONCE)
        if "garbage" in prompt:
            return Reply(body=b"{")
        top = [{"Reasoning": 1.0}, {" B": 0.6, " A": 0.2}]
        return Reply(body=completion("Reasoning: so.\n\nResult: B", top, USAGE))

    rows = [row(n, f"Say {n}.") for n in range(6)]
    rows[2] |= {"instruction": "unlucky"}
    rows[3] |= {"instruction": "garbage"}
    rows[4] |= {"status": "filtered:before"}
    found = judge(config(serve(reply)), rows)
    assert [one["row_id"] for one in found] == [f"r{n}" for n in range(6)]
    assert found[2]["status"].startswith("error:judge:no_answer:InternalServerError: Error code: 500")
    assert found[3]["status"].startswith("error:judge:no_answer:JSONDecodeError")
    assert (found[4]["status"], found[4]["raw"]) == ("filtered:before", None)
    for one in (found[0], found[1], found[5]):
        assert (one["status"], one["predicted"], one["critique"], one["parse_status"]) == ("ok", "B", "so.", "ok")
        assert dict(one["verdict_probs"]) == pytest.approx({"A": 0.25, "B": 0.75})
        assert (one["prompt_tokens"], one["output_tokens"]) == (7, 3) and one["latency"] > 0


def test_a_judgment_alone_without_log_probabilities_or_counts(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(body=completion("Result: A")))
    (found,) = judge(config(server), [row(0, "Say it.")], format="judgment_only")
    assert "Reasoning" not in server.bodies[0]["messages"][0]["content"]
    assert (found["status"], found["predicted"], found["verdict_probs"]) == ("ok", "A", [])
    assert (found["prompt_tokens"], found["output_tokens"]) == (None, None)


def test_a_key_that_is_withdrawn_stops_the_batch_and_spoils_no_row(serve: Callable[..., Standin]) -> None:
    with pytest.raises(Refused, match="does not take the key"):
        judge(config(serve(Reply(401, complaint("expired")))), [row(0, "Say it.")])


def test_a_key_that_is_missing_is_said_with_the_first_batch(
    serve: Callable[..., Standin], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = config(serve(Reply()))
    monkeypatch.delenv("STANDIN_KEY")
    actor = StepActor(EndpointStage("judge", endpoint, [Judge(9)]), SCHEMA)  # as Ray starts it, before any batch

    async def first() -> None:
        await anext(actor(to_table([row(0, "Say it.")], SCHEMA)))

    with pytest.raises(UserError, match="environment variable STANDIN_KEY is not set"):
        asyncio.run(first())


def test_a_result_depends_on_the_endpoint_and_its_model_and_not_on_how_it_is_asked() -> None:
    endpoint = EndpointConfig(endpoint="https://host/v1", model="m")
    stage = EndpointStage("judge", endpoint, [Judge(9)])
    quick = endpoint.model_copy(update={"concurrency": 99, "retries": 0, "timeout_s": 1.0, "api_key_env": "OTHER"})
    assert EndpointStage("judge", quick, [Judge(9)]).depends() == stage.depends()
    other = endpoint.model_copy(update={"model": "n"})
    assert EndpointStage("judge", other, [Judge(9)]).depends() != stage.depends()
    assert EndpointStage("judge", endpoint, [Judge(10)]).depends() != stage.depends()

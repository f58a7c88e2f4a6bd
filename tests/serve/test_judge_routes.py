"""The judge's routes on a stub engine (labelled so): answers, both orders, streams, health, errors."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from pipelines.core.errors import RowFailure, UserError
from pipelines.engines.llm.ask import TOO_LONG, TooLong
from pipelines.judging.tasks import ABSOLUTE, PAIRWISE
from pipelines.judging.templates import identity
from serve.combine import combined
from serve.schemas import OrderResult
from tests.serve.stub_judge import ONE, PAIR, StubAsk, app_of, client_of

pytestmark = pytest.mark.anyio
SECRET = "the patient is called Ola"


async def post(app: Any, path: str, body: Any) -> Any:
    async with client_of(app) as client:
        return await client.post(path, json=body)


def by_first_response(shares: dict[str, dict[str, float]]) -> Any:
    """Probabilities by which response is shown first."""

    def answer(prompt: str, labels: list[str]) -> dict[str, float]:
        first = min(shares, key=prompt.index)
        return {label: shares[first][label] for label in labels}

    return answer


async def test_pairwise_answer_has_what_the_judge_said() -> None:
    answer = await post(app_of(StubAsk()), "/v1/judge/pairwise", PAIR)
    assert answer.status_code == 200
    said = answer.json()
    (result,) = said["results"]
    assert (result["verdict"], result["critique"]) == ("A", "Well said.\u2028Good.")
    assert result["probabilities"] == {"A": 0.7, "B": pytest.approx(0.3)}
    assert result["consistent"] is None and result["expected_score"] is None and result["criterion"] is None
    assert said["id"].startswith("jdg_") and said["model"] == "judge" and said["model_digest"] == "m1"
    assert said["template"] == {
        "name": "pairwise_original",
        "digest": identity("pairwise_original")["pairwise_original"],
    }
    assert said["usage"] == {"prompt_tokens": 100, "cached_tokens": 60, "output_tokens": 10}


async def test_a_verdict_line_that_was_put_there_is_said() -> None:
    said = (await post(app_of(StubAsk(forced=True)), "/v1/judge/pairwise", PAIR)).json()
    assert said["results"][0]["parse_status"] == "completed"


async def test_expected_score_is_the_mean_over_the_probabilities() -> None:
    ask = StubAsk(lambda prompt, labels: dict(zip(labels, (0.1, 0.0, 0.2, 0.6, 0.1), strict=True)))
    (result,) = (await post(app_of(ask), "/v1/judge/absolute", ONE)).json()["results"]
    assert result["expected_score"] == pytest.approx(0.1 + 0.6 + 2.4 + 0.5)
    assert result["verdict"] == "4"


async def test_a_scale_is_judged_from_its_lowest_score_up() -> None:
    ask = StubAsk()
    (result,) = (await post(app_of(ask), "/v1/judge/absolute", {**ONE, "allowed": ["3", "1", "2"]})).json()["results"]
    assert list(result["probabilities"]) == ["1", "2", "3"]


async def test_both_orders_are_combined_in_terms_of_the_callers_responses() -> None:
    # Shown first: Oslo gets 0.9; shown first: Bergen gets 0.6, which is B of the caller's.
    ask = StubAsk(by_first_response({"Oslo": {"A": 0.9, "B": 0.1}, "Bergen": {"A": 0.6, "B": 0.4}}))
    said = (await post(app_of(ask), "/v1/judge/pairwise", {**PAIR, "both_orders": True})).json()
    (result,) = said["results"]
    given, swapped = result["orders"]
    assert (given["order"], given["verdict"], given["probabilities"]) == ("given", "A", {"A": 0.9, "B": 0.1})
    assert (swapped["order"], swapped["verdict"], swapped["probabilities"]) == ("swapped", "B", {"B": 0.6, "A": 0.4})
    assert result["probabilities"] == {"A": pytest.approx(0.65), "B": pytest.approx(0.35)}
    assert result["verdict"] == "A" and result["consistent"] is False
    assert said["usage"]["prompt_tokens"] == 200 and ask.most == 2


async def test_orders_that_agree_are_consistent_and_ties_stay_ties() -> None:
    shares = {"Oslo": {"A": 0.2, "B": 0.3, "Tie": 0.5}, "Bergen": {"A": 0.1, "B": 0.3, "Tie": 0.6}}
    body = {**PAIR, "both_orders": True, "allowed": ["A", "B", "Tie"]}
    (result,) = (await post(app_of(StubAsk(by_first_response(shares))), "/v1/judge/pairwise", body)).json()["results"]
    assert result["verdict"] == "Tie" and result["consistent"] is True
    assert result["probabilities"] == {
        "A": pytest.approx(0.25),
        "B": pytest.approx(0.2),
        "Tie": pytest.approx(0.55),
    }


def order(name: Any, verdict: str, critique: str = "", **shares: float) -> OrderResult:
    return OrderResult(order=name, verdict=verdict, critique=critique, probabilities=shares, parse_status="ok")


def test_the_second_order_can_decide_and_then_gives_the_critique() -> None:
    orders = [order("given", "A", "one", A=0.6, B=0.4), order("swapped", "B", "two", A=0.1, B=0.9)]
    found = combined(PAIRWISE, ["A", "B"], None, orders)
    assert (found.verdict, found.critique, found.consistent) == ("B", "two", False)


def test_of_two_that_are_equally_likely_the_given_order_decides() -> None:
    orders = [order("given", "B", A=0.25, B=0.75), order("swapped", "A", A=0.75, B=0.25)]
    assert combined(PAIRWISE, ["A", "B"], None, orders).verdict == "B"


def test_negative_scores_have_an_expected_score() -> None:
    found = combined(ABSOLUTE, ["-2", "0", "2"], "x", [order("given", "0", **{"-2": 0.5, "0": 0.25, "2": 0.25})])
    assert found.expected_score == pytest.approx(-0.5)


async def test_several_criteria_are_judged_at_once_each_by_its_own_rubric_and_verdicts() -> None:
    ask = StubAsk()
    criteria = [{"name": "facts", "rubric": "RUBRIC-1"}, {"name": "tone", "rubric": "RUBRIC-2", "allowed": ["1", "9"]}]
    said = (await post(app_of(ask), "/v1/judge/absolute", {**ONE, "criteria": criteria})).json()
    assert [one["criterion"] for one in said["results"]] == ["facts", "tone"]
    assert list(said["results"][1]["probabilities"]) == ["1", "9"]
    assert ask.most == 2
    assert ["RUBRIC-1" in prompt for prompt in ask.prompts] == [True, False]


@pytest.mark.parametrize(("criteria", "last"), [(1, False), (2, True)])
async def test_the_rubric_stands_last_where_criteria_share_the_rest(
    criteria: int, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serve.service as module

    seen = []
    real = module.ConstrainedJudge

    def spy(*args: Any, **settings: Any) -> Any:
        seen.append(settings)
        return real(*args, **settings)

    monkeypatch.setattr(module, "ConstrainedJudge", spy)
    body = {**ONE, "criteria": [{"name": str(n), "rubric": "r"} for n in range(criteria)]}
    assert (await post(app_of(StubAsk()), "/v1/judge/absolute", body)).status_code == 200
    assert seen[0]["rubric_last"] is last


async def test_messages_become_the_instruction_as_in_data() -> None:
    ask = StubAsk()
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Capital?"}]},
    ]
    body = {"messages": messages, "response": "Oslo"}
    assert (await post(app_of(ask), "/v1/judge/classify", body)).status_code == 200
    assert "System: Be brief.\n\nUser: Capital?" in ask.prompts[0]


async def test_without_critique_none_is_asked_for() -> None:
    ask = StubAsk()
    said = (await post(app_of(ask), "/v1/judge/pairwise", {**PAIR, "with_critique": False})).json()
    assert said["results"][0]["critique"] == "" and ask.settings[0]["max_tokens"] == 0


async def test_settings_name_the_template_and_requests_may_name_another() -> None:
    app = app_of(StubAsk(), template="compact")
    said = (await post(app, "/v1/judge/pairwise", PAIR)).json()
    assert said["template"]["name"] == "pairwise_compact"
    said = (await post(app, "/v1/judge/pairwise", {**PAIR, "template": "pairwise_markdown"})).json()
    assert said["template"]["name"] == "pairwise_markdown"


# --- streams


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_a_stream_has_the_critiques_then_the_result() -> None:
    body = {**PAIR, "both_orders": True, "stream": True}
    answer = await post(app_of(StubAsk()), "/v1/judge/pairwise", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer.text)
    assert [name for name, _ in found] == ["critique"] * 4 + ["result"]
    for order in ("given", "swapped"):
        pieces = [said["text"] for name, said in found if name == "critique" and said["order"] == order]
        assert pieces == ["Well", " said.\u2028Good."]
    assert found[-1][1]["results"][0]["verdict"] == "A"


async def test_what_fails_before_the_first_piece_is_an_ordinary_error() -> None:
    answer = await post(app_of(StubAsk()), "/v1/judge/pairwise", {**PAIR, "stream": True, "model": "gpt"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"


async def test_what_fails_later_is_an_event() -> None:
    ask = StubAsk(fails=lambda prompt: RowFailure("broken", SECRET))
    answer = await post(app_of(ask), "/v1/judge/pairwise", {**PAIR, "stream": True})
    name, said = events(answer.text)[-1]
    assert (name, said["error"]["code"]) == ("error", "broken") and SECRET not in answer.text


# --- errors


@pytest.mark.parametrize(
    ("exc", "status", "code"),
    [
        (TooLong(TOO_LONG, "prompt of 9 + answer of 5 tokens exceed 10"), 422, "too_long"),
        (RowFailure("not_accepted_by_the_engine", SECRET), 422, "not_accepted_by_the_engine"),
        (UserError(SECRET), 422, "template"),
        (RuntimeError(SECRET), 500, "internal_error"),
    ],
)
async def test_a_failed_judgment_says_nothing_of_the_request(
    exc: Exception, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        body = {**PAIR, "instruction": SECRET}
        answer = await post(app_of(StubAsk(fails=lambda prompt: exc)), "/v1/judge/pairwise", body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code and set(error) == {"message", "type", "code", "param"}
    assert SECRET not in answer.text + caplog.text and "Traceback" not in answer.text + caplog.text


async def test_a_fault_of_ours_is_500_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(StubAsk())
    monkeypatch.setattr(app.state.judge, "count", lambda *args, **settings: 1 / int(SECRET))
    with caplog.at_level(logging.DEBUG):
        answer = await post(app, "/v1/judge/pairwise", PAIR)
        stream = await post(app, "/v1/judge/pairwise", {**PAIR, "stream": True})
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal_error"
    assert events(stream.text)[-1][0] == "error"
    assert SECRET not in answer.text + stream.text + caplog.text and "Traceback" not in caplog.text
    assert "ValueError at test_judge_routes.py" in caplog.text  # which fault, and where


async def test_too_long_says_by_how_much() -> None:
    ask = StubAsk(fails=lambda prompt: TooLong(TOO_LONG, "prompt of 9 + answer of 5 tokens exceed 10"))
    answer = await post(app_of(ask), "/v1/judge/pairwise", PAIR)
    assert answer.json()["error"]["message"] == "prompt of 9 + answer of 5 tokens exceed 10"


async def test_a_dead_engine_is_503() -> None:
    ask = StubAsk(fails=lambda prompt: RuntimeError("dead"))
    ask.healthy = False
    answer = await post(app_of(ask), "/v1/judge/pairwise", PAIR)
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert answer.json()["error"]["code"] == "engine_down"


async def test_one_failure_cancels_the_other_judgments() -> None:
    ask = StubAsk(fails=lambda prompt: RowFailure("broken") if "FAILS" in prompt else None)
    app = app_of(ask)
    real_wait = ask.hold.wait

    async def wait() -> bool:  # all but the one that fails are held
        if "FAILS" in ask.prompts[ask.started - 1]:
            return True
        return await real_wait()

    ask.hold.wait = wait  # type: ignore[method-assign]
    ask.hold.clear()
    criteria = [{"name": name, "rubric": name} for name in ("r1", "r2", "FAILS")]
    answer = await asyncio.wait_for(post(app, "/v1/judge/absolute", {**ONE, "criteria": criteria}), 5)
    assert answer.status_code == 422 and ask.cancelled == 2 and ask.running == 0
    assert app.state.judge.room.taken == 0


async def test_a_full_queue_is_503_before_any_work() -> None:
    ask = StubAsk()
    ask.hold.clear()
    app = app_of(ask, queue=3)
    first = asyncio.create_task(post(app, "/v1/judge/pairwise", {**PAIR, "both_orders": True}))
    while ask.running < 2:
        await asyncio.sleep(0.01)
    refused = await post(app, "/v1/judge/pairwise", {**PAIR, "both_orders": True})
    assert refused.status_code == 503 and refused.headers["retry-after"] == "2"
    assert refused.json()["error"]["code"] == "queue_full" and ask.started == 2
    ask.hold.set()
    assert (await first).status_code == 200
    assert (await post(app, "/v1/judge/pairwise", {**PAIR, "both_orders": True})).status_code == 200


async def test_more_judgments_than_the_queue_has_places_can_never_be_made() -> None:
    answer = await post(app_of(StubAsk(), queue=1), "/v1/judge/pairwise", {**PAIR, "both_orders": True})
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "too_many_judgments"


async def test_a_timeout_is_504_and_frees_the_engine() -> None:
    ask = StubAsk()
    ask.hold.clear()
    app = app_of(ask, timeout=0.05)
    answer = await post(app, "/v1/judge/pairwise", {**PAIR, "both_orders": True})
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"
    assert ask.cancelled == 2 and ask.running == 0 and app.state.judge.room.taken == 0


async def test_no_model_is_503() -> None:
    app = app_of(StubAsk())
    del app.state.judge
    answer = await post(app, "/v1/judge/pairwise", PAIR)
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "not_ready"


# --- health


async def test_ready_only_once_warm_and_while_healthy_and_not_stopping() -> None:
    ask = StubAsk()
    app = app_of(ask)
    async with client_of(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).json()["error"]["code"] == "not_ready"
        await app.state.judge.warm_up()
        assert (await client.get("/readyz")).status_code == 200
        app.state.draining = True
        assert (await client.get("/readyz")).json()["error"]["code"] == "draining"
        app.state.draining = False
        ask.healthy = False
        assert (await client.get("/readyz")).json()["error"]["code"] == "engine_down"
        del app.state.judge
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200


async def test_openapi_has_examples_and_every_error() -> None:
    async with client_of(app_of(StubAsk())) as client:
        spec = (await client.get("/openapi.json")).json()
    for path in ("pairwise", "absolute", "classify"):
        responses = spec["paths"][f"/v1/judge/{path}"]["post"]["responses"]
        assert {"401", "403", "413", "422", "429", "503", "504"} <= set(responses)
        for code in responses:
            if code != "200":
                schema = responses[code]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}
    for name in ("PairwiseRequest", "AbsoluteRequest", "ClassifyRequest", "RunRequest", "JudgeResponse"):
        assert spec["components"]["schemas"][name]["examples"], name

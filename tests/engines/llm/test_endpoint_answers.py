"""What is kept of an endpoint's answer, in whatever parts it comes, and what is none."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from pipelines.engines.llm.endpoint import EndpointError
from tests.engines.llm.endpoint_standin import Reply, Standin, ask, completion, config, message


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(body=b'{"choices": ['), "JSON"),
        (Reply(body=b"<html>busy</html>", headers={"content-type": "text/html"}), "not a chat completion"),
        (Reply(body={"error": "overloaded"}), "answered with an error: overloaded"),
        (Reply(body={"error": {"message": "out of credit", "code": 402}}), "answered with an error: out of credit"),
        (Reply(body=completion("Res") | {"error": {"message": "cut"}}), "answered with an error: cut"),
        (Reply(body={"choices": []}), "not a chat completion"),
        (Reply(body={"choices": [{"message": 3}]}), "no attribute .content."),
        (Reply(body=b"[1]"), "not a chat completion"),
        (Reply(body={"choices": [{"message": {"content": ["Yes."]}}]}), "its content is not text"),
        (
            Reply(body={"choices": [{"message": {"content": [{"type": "text", "text": {"value": "Yes."}}]}}]}),
            "not text",
        ),
        (Reply(body={"choices": [{"message": {"content": ""}, "error": {"message": "upstream"}}]}), "error: upstream"),
        (Reply(body={"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}), "error: no reason given"),
        (Reply(body=completion("Yes.") | {"usage": {"prompt_tokens": [3]}}), "not a chat completion"),
        (Reply(body={"choices": [{"message": {"content": "Yes."}, "logprobs": {"content": [3]}}]}), "not a chat"),
    ],
)
def test_an_answer_that_is_none(serve: Callable[..., Standin], reply: Reply, reason: str) -> None:
    with pytest.raises(EndpointError, match=reason):
        ask(config(serve(reply)), "x")


def test_an_answer_in_parts_is_their_text_without_the_thoughts(serve: Callable[..., Standin]) -> None:
    texts = [{"type": "text", "text": text} for text in ("Res", "ult: B")]
    parts = [{"type": "thinking", "thinking": "Is it A?"}, *texts]
    assert ask(config(serve(message(parts))), "x")[0].text == "Result: B"


def test_a_token_without_a_probability_does_not_cost_the_answer(serve: Callable[..., Standin]) -> None:
    body = completion("Yes.", [{"Yes": 0.9}, {".": 0.9}])
    body["choices"][0]["logprobs"]["content"][1] |= {"logprob": None, "top_logprobs": []}
    found = ask(config(serve(Reply(body=body))), "x", logprobs=1)[0]
    assert (found.text, found.top[0]["Yes"], found.top[1]) == ("Yes.", pytest.approx(math.log(0.9)), {})


def test_a_refusal_is_the_answer_and_a_filtered_answer_is_none(serve: Callable[..., Standin]) -> None:
    assert ask(config(serve(message(None, refusal="I cannot."))), "x")[0].text == "I cannot."
    with pytest.raises(EndpointError, match=r"^content_filter:the provider withheld the answer"):
        ask(config(serve(message("Result: A", "content_filter"))), "x")


def test_thoughts_of_an_endpoint_are_kept_apart_wherever_they_are_written(serve: Callable[..., Standin]) -> None:
    own = completion("Result: A") | {"usage": {"completion_tokens_details": {"reasoning_tokens": 2}}}
    own["choices"][0]["message"]["reasoning_content"] = "B? No."
    cut = completion("")
    message = {"role": "assistant", "content": None, "reasoning": "B?"}
    cut["choices"][0] |= {"message": message, "finish_reason": "length"}
    inline = completion("<think>B? No.</think>\nResult: A")
    found = [ask(config(serve(Reply(body=body))), "x")[0] for body in (own, cut, inline)]
    assert [one.text for one in found] == ["Result: A", "", "Result: A"]
    assert [one.thoughts for one in found] == ["B? No.", "B?", "B? No."]
    assert [one.thoughts_cut for one in found] == [False, True, False]
    assert found[0].thought_tokens == 2


def test_marks_of_an_endpoint_s_thoughts_may_be_named_or_denied(serve: Callable[..., Standin]) -> None:
    server = serve(Reply(body=completion("((B?)) Result: A")))
    assert ask(config(server, reasoning=["((", "))"]), "x")[0].thoughts == "B?"
    server = serve(Reply(body=completion("<think>B?</think> Result: A")))
    assert ask(config(server, reasoning="none"), "x")[0].text == "<think>B?</think> Result: A"

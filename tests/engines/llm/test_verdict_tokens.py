"""Where answers part: the shared beginning and the token that tells each from the others."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.core.errors import RowFailure
from pipelines.engines.llm.verdict_tokens import verdict_tokens
from pipelines.judging.chat import encode_text
from pipelines.judging.templates import TEMPLATES, load


def test_answers_share_their_beginning_and_part_at_the_verdict(tokenizer: Any) -> None:
    shared, parting = verdict_tokens(tokenizer, ["Result: A", "Result: B", "Result: Tie"])
    assert shared == encode_text(tokenizer, "Result: ")
    assert parting == encode_text(tokenizer, "ABT")


@pytest.mark.parametrize(
    "answers",
    [["Result: 1", "Result: 10"], ["Result: 1", "Result: 2", "Result: 10"], ["A", "A"], ["Result: A", "Result: "]],
)
def test_answers_that_one_token_cannot_tell_apart_are_refused(tokenizer: Any, answers: list[str]) -> None:
    with pytest.raises(RowFailure, match="cannot tell these answers apart: '"):
        verdict_tokens(tokenizer, answers)


@pytest.mark.parametrize("allowed", [["A", "B"], ["A", "B", "Tie"], ["Yes", "No"], ["1", "2", "3", "4", "5"]])
def test_the_embedded_model_has_a_token_for_every_verdict_in_every_template(allowed: list[str]) -> None:
    from transformers import AutoTokenizer

    from pipelines.engines.models import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve("embedded"))
    for name in TEMPLATES.names():
        answers = [load(name).completion(verdict) for verdict in allowed]
        shared, parting = verdict_tokens(tokenizer, answers)
        for answer, token in zip(answers, parting, strict=True):
            assert encode_text(tokenizer, answer)[: len(shared) + 1] == [*shared, token]

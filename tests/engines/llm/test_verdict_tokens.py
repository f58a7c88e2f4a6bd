"""Where answers part: the shared beginning and the token that tells each from the others."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import RowFailure
from pipelines.engines.llm.verdict_tokens import branches, path_logprobs, tree_of, verdict_tokens
from pipelines.judging.chat import encode_text, end_of_turn
from pipelines.judging.templates import TEMPLATES, load


def test_answers_share_their_beginning_and_part_at_the_verdict(tokenizer: Any) -> None:
    shared, paths = verdict_tokens(tokenizer, ["Result: A", "Result: B", "Result: Tie"])
    assert shared == encode_text(tokenizer, "Result: ")
    end = end_of_turn(tokenizer)
    assert paths == [(*encode_text(tokenizer, verdict), end) for verdict in ("A", "B", "Tie")]


def test_equal_answers_are_refused(tokenizer: Any) -> None:
    with pytest.raises(RowFailure, match="no token tells these answers apart: 'A', 'A'"):
        verdict_tokens(tokenizer, ["A", "A"])


def test_paths_part_where_one_goes_on_and_another_ends() -> None:
    tree = tree_of([(1, 9), (1, 2, 9), (3, 4, 9)])
    assert dict(branches(tree)) == {(): [1, 3], (1,): [9, 2]}


def test_a_path_is_as_likely_as_all_its_choices() -> None:
    paths = [(1, 9), (1, 2, 9), (3, 4, 9)]
    # Of a whole vocabulary these tokens have little: only their shares among each other count.
    logprobs = {(): {1: math.log(0.003), 3: math.log(0.001)}, (1,): {9: math.log(1e-9), 2: math.log(4e-9)}}
    assert [math.exp(one) for one in path_logprobs(paths, logprobs)] == pytest.approx([0.15, 0.6, 0.25])


@settings(deadline=None)
@given(st.data())
def test_the_probabilities_of_all_paths_sum_to_one(data: st.DataObject) -> None:
    words = data.draw(st.sets(st.lists(st.integers(1, 3), max_size=4).map(tuple), min_size=2, max_size=8))
    paths = [(*word, 0) for word in words]
    places = dict(branches(tree_of(paths)))
    logprob = st.floats(-1000, 0)
    logprobs = {place: {token: data.draw(logprob) for token in tokens} for place, tokens in places.items()}
    assert math.fsum(map(math.exp, path_logprobs(paths, logprobs))) == pytest.approx(1)


@pytest.mark.parametrize("allowed", [["A", "B"], ["A", "B", "Tie"], ["Yes", "No"], ["1", "2", "3", "4", "5"]])
def test_the_embedded_model_has_a_token_for_every_verdict_in_every_template(allowed: list[str]) -> None:
    from transformers import AutoTokenizer

    from pipelines.engines.models import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve("embedded"))
    for name in TEMPLATES.names():
        answers = [load(name).completion(verdict) for verdict in allowed]
        shared, paths = verdict_tokens(tokenizer, answers)
        assert len({path[0] for path in paths}) == len(answers)
        for answer, path in zip(answers, paths, strict=True):
            assert [*encode_text(tokenizer, answer), end_of_turn(tokenizer)] == [*shared, *path]

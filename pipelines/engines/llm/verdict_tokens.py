"""The tokens that answers begin with in common, and the next one, which tells each from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.core.errors import RowFailure
from pipelines.judging.chat import encode_completions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def verdict_tokens(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str]) -> tuple[list[int], list[int]]:
    """Split answers that differ in their verdict alone, such as `Result: A` and `Result: B`.

    Whole answers are encoded, as the trainer does: the tokens are those a trained judge would write, with what the chat
    template writes before an answer, such as an empty thought.

    Args:
        tokenizer: of the judge.
        answers: two or more.

    Returns:
        Ids that all answers begin with, shape (T,), and each answer's next id, shape (answers,).

    Raises:
        RowFailure: two answers have the same next token, so that one token cannot tell them apart (`1` and `10`).
    """
    ids = [one[:-1] for one in encode_completions(tokenizer, answers)]
    shared = 0
    while all(len(one) > shared for one in ids) and len({one[shared] for one in ids}) == 1:
        shared += 1
    after = [one[shared] for one in ids if len(one) > shared]
    if len(set(after)) < len(answers):
        said = f"one token cannot tell these answers apart: {', '.join(map(repr, answers))}"
        raise RowFailure("answers_share_a_token", said)
    return ids[0][:shared], after

"""Answers as token ids: what they begin with in common, and the tree of the tokens that tell them apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import RowFailure
from pipelines.judging.chat import encode_completions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Path = tuple[int, ...]
Tree = dict[int, Any]  # token -> the tree after it; an answer's last token has an empty one


def verdict_tokens(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str]) -> tuple[list[int], list[Path]]:
    """Split answers that differ in their verdict alone, such as `Result: A` and `Result: B`.

    Whole answers are encoded, as the trainer does: the tokens are those a trained judge would write, with what the chat
    template writes before an answer, such as an empty thought, and the end of the turn, which tells `1` from `10`.

    Args:
        tokenizer: of the judge.
        answers: two or more.

    Returns:
        Ids that all answers begin with, shape (T,), and each answer's further ids, up to the end of its turn.

    Raises:
        RowFailure: two answers have the same tokens.
    """
    ids = [tuple(one) for one in encode_completions(tokenizer, answers)]
    if len(set(ids)) < len(ids):
        said = f"no token tells these answers apart: {', '.join(map(repr, answers))}"
        raise RowFailure("answers_share_a_token", said)
    return parted(ids)


def parted(answers: Sequence[Sequence[int]]) -> tuple[list[int], list[Path]]:
    """What the ids of all answers begin with, and what each goes on with."""
    shared = common(answers)
    return list(answers[0][:shared]), [tuple(one[shared:]) for one in answers]


def common(paths: Sequence[Sequence[int]]) -> int:
    """How many tokens all paths begin with in common."""
    shared = 0
    while all(len(path) > shared for path in paths) and len({path[shared] for path in paths}) == 1:
        shared += 1
    return shared


def tree_of(paths: Sequence[Sequence[int]]) -> Tree:
    """The tree of all paths."""
    tree: Tree = {}
    for path in paths:
        node = tree
        for token in path:
            node = node.setdefault(token, {})
    return tree


def branches(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, list[int]]]:
    """Each place where paths part: the tokens that lead there, and those that may follow."""
    if len(tree) > 1:
        yield path, list(tree)
    for token, below in tree.items():
        yield from branches(below, (*path, token))


def path_logprobs(paths: Sequence[Path], logprobs: Mapping[Path, Mapping[int, float]]) -> list[float]:
    """Log-probability of each path in a tree.

    A path's probability is the product, over the places where it parts from another, of its token's share among the
    tokens that may follow there.

    Args:
        paths: all paths of the tree.
        logprobs: for each of its `branches`, the log-probability of each token that may follow.
    """
    wholes = {place: _log_sum(list(found.values())) for place, found in logprobs.items()}
    return [
        math.fsum(
            logprobs[path[:depth]][token] - wholes[path[:depth]]
            for depth, token in enumerate(path)
            if path[:depth] in logprobs
        )
        for path in paths
    ]


def _log_sum(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))

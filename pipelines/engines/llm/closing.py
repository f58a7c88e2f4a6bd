"""A judgment in one request: what the engine is told about the ending, and what is read from its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipelines.engines.llm.ask import Closing
from pipelines.engines.llm.closing_tokens import ClosingTokens, closing_tokens
from pipelines.engines.llm.generated import Generated
from pipelines.engines.llm.verdict_rule import ENDING, Ending, Mark
from pipelines.engines.llm.verdict_tokens import Path, branches, path_logprobs, tree_of
from pipelines.judging.chat import end_of_turn
from pipelines.judging.thoughts import MARKS, NEVER, Thinking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_IDS = 128  # whose log-probabilities vLLM reports for one token


@dataclass(frozen=True)
class ClosingRequest:
    """One request for free text and an ending."""

    closing: Closing
    tokens: ClosingTokens
    ending: Ending

    @property
    def most(self) -> int:
        """Most tokens of the answer."""
        thoughts = max((len(mark.ids) for mark in self.ending.marks), default=0)
        return self.ending.budget + thoughts + self.tokens.longest

    @property
    def weighed(self) -> list[int]:
        """The tokens that tell verdicts apart, if the engine reports so many with each token."""
        places = [*branches(tree_of(self.tokens.paths)), *branches(tree_of(self.tokens.bare))]
        found = sorted({token for _, tokens in places for token in tokens})
        return found if len(found) <= MOST_IDS else [self.ending.ends[0]]

    def sampling(self) -> dict[str, Any]:
        """Arguments of vLLM's SamplingParams."""
        return {
            "max_tokens": self.most,
            "stop_token_ids": list(self.ending.ends),
            "logprob_token_ids": self.weighed,
            "extra_args": {ENDING: self.ending.values()},
        }

    def read(self, tokenizer: PreTrainedTokenizerBase, written: Generated) -> Written:
        """The verdict of an answer and its place.

        Raises:
            RuntimeError: the answer has no allowed ending: the engine did not hold to it.
        """
        ids = tuple(written.ids)
        ways = list(dict.fromkeys((self.tokens.paths, self.tokens.bare)))
        # The longest first: the ids of `0` may also end those of `10`.
        ends = sorted(
            ((path, verdict, way) for way in ways for path, verdict in zip(way, self.closing.endings, strict=True)),
            key=lambda found: -len(found[0]),
        )
        for path, verdict, way in ends:
            if ids[-len(path) :] == path:
                at = len(ids) - len(path)
                return Written(verdict, at, self._forced(written, at), way, tuple(self.closing.endings), path, written)
        raise RuntimeError(f"the engine's answer has no allowed ending: {tokenizer.decode(list(ids))!r}")

    def _forced(self, written: Generated, at: int) -> bool:
        """Whether a token of the label was not the model's own first choice."""
        if at > self.ending.budget:
            return True
        label = next(
            (way for way in (self.tokens.text, self.tokens.start, self.tokens.line) if _ends(written.ids[:at], way)), ()
        )
        places = range(at - len(label), at)
        return any(written.logprobs[place][written.ids[place]].rank > 1 for place in places)


@dataclass(frozen=True)
class Written:
    """How an answer ends.

    Attributes:
        verdict: its verdict.
        at: the token after its label.
        forced: the label was put there.
        paths: ids of each verdict after that label.
        verdicts: in the same order.
        path: ids of the verdict that was written.
        written: the answer.
    """

    verdict: str
    at: int
    forced: bool
    paths: tuple[Path, ...]
    verdicts: tuple[str, ...]
    path: Path
    written: Generated

    @property
    def unvisited(self) -> dict[Path, list[int]]:
        """The places where verdicts part that the answer did not come past, and the tokens that may follow there."""
        visited = self._visited()
        return {place: tokens for place, tokens in branches(tree_of(self.paths)) if place not in visited}

    def probabilities(self, unvisited: Mapping[Path, Mapping[int, float]]) -> dict[str, float]:
        """Verdict -> its probability after the answer's text and label; they sum to 1.

        Args:
            unvisited: log-probabilities at the `unvisited` places.
        """
        found = path_logprobs(self.paths, {**self._visited(), **unvisited})
        whole = math.fsum(map(math.exp, found))
        return {verdict: math.exp(one) / whole for verdict, one in zip(self.verdicts, found, strict=True)}

    def _visited(self) -> dict[Path, dict[int, float]]:
        found = {}
        for place, tokens in branches(tree_of(self.paths)):
            likely = self.written.logprobs[self.at + len(place)] if self.path[: len(place)] == place else {}
            if all(token in likely for token in tokens):
                found[place] = {token: likely[token].logprob for token in tokens}
        return found


def closing_request(
    tokenizer: PreTrainedTokenizerBase, closing: Closing, budget: int, thinking: Thinking | None
) -> ClosingRequest:
    """The request for an answer with a closing.

    Args:
        tokenizer: of the model.
        closing: how the answer must end.
        budget: most tokens of free text, thoughts among them.
        thinking: how the model marks its thoughts.
    """
    tokens = closing_tokens(tokenizer, closing)
    known = None if thinking is None else (thinking.opened, thinking.expected)
    marks = MARKS if thinking is None else () if thinking == NEVER else ((thinking.start, thinking.end),)
    ending = Ending(
        label=closing.label,
        on_a_line=closing.on_a_line,
        budget=budget,
        start=tokens.start,
        line=tokens.line,
        text=tokens.text,
        paths=tokens.paths,
        bare=tokens.bare,
        ends=(end_of_turn(tokenizer),),
        marks=tuple(_mark(tokenizer, *mark) for mark in marks),
        thinking=known,
    )
    return ClosingRequest(closing, tokens, ending)


@lru_cache(maxsize=64)
def _mark(tokenizer: PreTrainedTokenizerBase, start: str, end: str) -> Mark:
    return Mark(start, end, tuple(tokenizer.encode(end, add_special_tokens=False)))


def _ends(ids: list[int], way: Path) -> bool:
    return bool(way) and tuple(ids[-len(way) :]) == way

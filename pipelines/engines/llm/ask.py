"""Ask a model one thing: the message as plain text in, the answer with its costs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.core.errors import RowFailure

TOO_LONG = "too_long"  # the reason of a row that is filtered for its length


class TooLong(RowFailure):
    """Prompt and answer do not fit the model's context: the row is filtered (`filtered:too_long`), and no error."""


@dataclass(frozen=True)
class Answer:
    """What the model wrote.

    Attributes:
        text: the answer, without thoughts.
        prompt_tokens: tokens of the prompt; 0 where an endpoint does not report them.
        output_tokens: tokens of the answer; 0 where an endpoint does not report them.
        seconds: from asking to the last token. An engine's include the wait for a free place, an endpoint's do not.
        cached_tokens: tokens of the prompt that were computed before (prefix cache).
        top: for each output token, the most likely tokens' texts and log-probabilities, if they were asked for.
        written: for each position of `top`, the text of the token that was written.
        thoughts: what the model thought before the answer, and their tokens.
        thoughts_cut: the thoughts have no end, so that there is no answer.
        finished: the model ended by itself, not at `max_tokens`.
    """

    text: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    cached_tokens: int = 0
    top: list[dict[str, float]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    thoughts: str = ""
    thought_tokens: int = 0
    thoughts_cut: bool = False
    finished: bool = True


class Ask(Protocol):
    """Send one user message to a model."""

    async def __call__(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        choices: Sequence[str] | None = None,
        logprobs: int = 0,
        rank_choices: Sequence[str] | None = None,
    ) -> Answer:
        """Send one user message.

        Args:
            prompt: the message.
            max_tokens: most tokens of the answer.
            temperature: 0 is greedy.
            top_p: nucleus.
            seed: of the sampling; not used at temperature 0.
            choices: the answer is written, and is one of these texts.
            logprobs: number of likely tokens to report at each position.
            rank_choices: texts that differ in one token. None of them is written; the model's probabilities of that
                token are compared. The answer is the likeliest text, and `top` has one position with the
                log-probability of each.

        Raises:
            RowFailure: the model cannot answer this message.
        """
        ...

"""Ask a model one thing: the message as plain text in, the answer with its costs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.core.errors import RowFailure

TOO_LONG = "too_long"  # the reason of a row that is filtered for its length


class TooLong(RowFailure):
    """Prompt and answer do not fit the model's context: the row is filtered (`filtered:too_long`), and no error."""


@dataclass(frozen=True)
class Closing:
    """How an answer must end: with one of some endings, such as `**Result:** A` and `**Result:** B`.

    Attributes:
        label: what stands before the verdict, without white space around it: `**Result:**`.
        endings: verdict -> text from the label on: `**Result:** A`.
        separator: white space between the free text and the label. Without a line break in it, the label may stand
            anywhere in a line, else at its beginning only.
    """

    label: str
    endings: dict[str, str]
    separator: str = "\n\n"

    @property
    def on_a_line(self) -> bool:
        """Whether the label stands at the beginning of a line."""
        return "\n" in self.separator

    def before(self, answer: str, verdict: str) -> str:
        """The free text of an answer that ends with a verdict: what stands before its label."""
        said = self.endings[verdict][len(self.label) :].strip()
        head = answer.rstrip().removesuffix(said).rstrip()
        if self.on_a_line:
            return head[: head.rfind("\n") + 1].rstrip()
        return head.removesuffix(self.label).rstrip()


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
        verdict: how the answer ends, if it was asked to close.
        verdict_probs: verdict -> its probability among the endings, after the same text; they sum to 1.
        forced: the label before the verdict was put there: the model had not written it.
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
    verdict: str | None = None
    verdict_probs: dict[str, float] = field(default_factory=dict)
    forced: bool = False


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
        closing: Closing | None = None,
        on_text: Callable[[str], None] | None = None,
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
            rank_choices: whole answers, of which none is written: the model's probabilities of the tokens that tell
                them apart are compared. The answer is the likeliest text, and `top` has one position with the
                log-probability of each (all up to the same constant).
            closing: the answer is free text of at most `max_tokens` tokens, then one of these endings. With 0 tokens
                it is the likeliest ending alone, and none is written.
            on_text: called with each further piece of the answer while it is written, without thoughts and without
                an ending of `closing`.

        Raises:
            RowFailure: the model cannot answer this message.
        """
        ...

"""A closing as token ids: those that put the label there, and those of each verdict after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pipelines.engines.llm.ask import Closing
from pipelines.engines.llm.verdict_tokens import Path, common
from pipelines.judging.chat import encode_completions, encode_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORD = "x"  # stands for the free text: a letter joins with no separator into one token


@dataclass(frozen=True)
class ClosingTokens:
    """Ids of a closing.

    Attributes:
        start: that put the label there where no answer has begun, with what the chat template writes before one.
        line: where a line begins.
        text: after text, with the separator.
        paths: after the label, of each verdict up to the end of the turn.
        bare: the same where white space follows the label already; equal to `paths` where none would follow it.
    """

    start: Path
    line: Path
    text: Path
    paths: tuple[Path, ...]
    bare: tuple[Path, ...]

    @property
    def longest(self) -> int:
        """Most tokens of label and verdict."""
        return max(map(len, (self.start, self.line, self.text))) + max(map(len, (*self.paths, *self.bare)))


def closing_tokens(tokenizer: PreTrainedTokenizerBase, closing: Closing) -> ClosingTokens:
    """Ids of a closing: those which a trained judge would write, as far as a token ends where the label does."""
    return _closing_tokens(tokenizer, closing.label, closing.separator, tuple(closing.endings.values()))


@lru_cache(maxsize=256)
def _closing_tokens(
    tokenizer: PreTrainedTokenizerBase, label: str, separator: str, endings: tuple[str, ...]
) -> ClosingTokens:
    written = encode_completions(tokenizer, [f"{_WORD}{separator}{ending}" for ending in endings])
    word = encode_completions(tokenizer, [_WORD])[0]
    before = common([word, *written])
    end = word[before:]
    after = [tuple(ids[before:]) for ids in written]
    lead = written[0][:before]
    separated = _reaching(tokenizer, lead, after, _WORD + separator)
    labelled = _reaching(tokenizer, lead, after, _WORD + separator + label)
    rests = [ending[len(label) :] for ending in endings]
    if labelled is None:  # a token holds the end of the label and the verdict: the label is written on its own
        paths = tuple((*encode_text(tokenizer, rest), *end) for rest in rests)
        whole = encode_completions(tokenizer, [f"{_WORD}{separator}{label}"])[0]
        text = tuple(whole[before : len(whole) - len(end)])
    else:
        paths, text = tuple(path[labelled:] for path in after), after[0][:labelled]
    line = text[separated:] if separated is not None else tuple(encode_text(tokenizer, label))
    alone = encode_completions(tokenizer, endings)
    starts = {tuple(ids[: len(ids) - len(path)]) for ids, path in zip(alone, paths, strict=True)}
    fits = all(tuple(ids[-len(path) :]) == path for ids, path in zip(alone, paths, strict=True))
    start = starts.pop() if fits and len(starts) == 1 else line
    spaced = any(rest != rest.lstrip() for rest in rests)
    bare = tuple((*encode_text(tokenizer, rest.lstrip()), *end) for rest in rests) if spaced else paths
    return ClosingTokens(start, line, text, paths, bare)


def _reaching(tokenizer: PreTrainedTokenizerBase, lead: Sequence[int], paths: Sequence[Path], text: str) -> int | None:
    """How many tokens of the paths, the same in all, spell a text that begins with `lead`; None if none end there."""
    for count in range(common(paths) + 1):
        said = tokenizer.decode([*lead, *paths[0][:count]], clean_up_tokenization_spaces=False)
        if str(said).endswith(text):
            return count
    return None

"""Read one verdict: a short text that means one of the allowed verdicts and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

LONGEST = 120  # characters around a verdict: a longer text is prose
NAMES = r"(?:response|assistant|answer|option|output|model|candidate|choice|summary|score|rating|verdict|label)"
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_PLAIN = {ord("−"): "-", ord("。"): "."} | {letter: chr(letter - 0xFEE0) for letter in range(0xFF01, 0xFF5F)}
_WRAP = r"[\s*_`'\"“”‘’\[\](){}<>$]*"
_BOXED = r"(?:\\boxed\{(?:\\(?:text|textbf|mathrm|mathbf)\{)?)?"
_DEGREE = r"(?:(?:clearly|slightly|somewhat|marginally|significantly|much|far|overall|definitely|the)\s+)*"
_KIND = r"(?:better|best|superior|preferred|preferable|winner)(?:\s+(?:response|answer|one|option|choice))?"


class Verdict(NamedTuple):
    """A verdict as it was written.

    Attributes:
        label: one of the allowed verdicts.
        start: place of its first letter in the text.
        named: whether it was called `Response A` or the like.
        sentence: whether a sentence said it: `A is better`.
    """

    label: str
    start: int
    named: bool = False
    sentence: bool = False


def normalise(text: str, allowed: Sequence[str]) -> str | None:
    """The allowed verdict that a text means, or None."""
    found = read_verdict(text, allowed)
    return found.label if found else None


def read_verdict(text: str, allowed: Sequence[str]) -> Verdict | None:
    """The allowed verdict that a text means, with its place.

    Read are the verdict itself, in bold, quotes, brackets or `\\boxed{}`, called by a name (`Response A`, `Score: 4`),
    with its scale or unit (`4/5`, `4 out of 5`, `4 points`), as an equal number (`4.0`), above another (`A > B`), or as
    a sentence (`Response A is better.`). Anything else, such as two verdicts, a range, a denial or a reason, is none.
    """
    known = {verdict.casefold(): verdict for verdict in allowed}
    # Unchanged first: a class label may itself be `answer relevant` or `N.A.`.
    if (whole := known.get(text.strip().casefold())) is not None:
        return Verdict(whole, len(text) - len(text.lstrip()))
    if not allowed or len(text) > LONGEST + max(map(len, allowed)):
        return None
    pattern = _pattern(tuple(allowed))
    match = pattern.fullmatch(text) or pattern.fullmatch(text.translate(_PLAIN))  # as long, so that places hold
    label = match and _meaning(match["label"], known)
    if match is None or label is None:
        return None
    if match["scale"] and Decimal(match["scale"]) != max(map(Decimal, allowed)):
        return None
    if any(match[other] and _meaning(match[other], known) in (label, None) for other in ("other", "below")):
        return None
    return Verdict(label, match.start("label"), bool(match["name"]), bool(match["sentence"]))


def _meaning(written: str, known: dict[str, str]) -> str | None:
    label = known.get(written.casefold())
    if label is None and _NUMBER.fullmatch(written):
        number = Decimal(written)
        label = next((name for name in known.values() if _NUMBER.fullmatch(name) and Decimal(name) == number), None)
    return label


@lru_cache(maxsize=256)
def _pattern(allowed: tuple[str, ...]) -> re.Pattern[str]:
    labels = "|".join(re.escape(label) for label in sorted(allowed, key=len, reverse=True))
    scale, unit, above = "(?P<scale>(?!))", "", rf"(?:\s*>{{1,2}}\s*(?P<below>{labels}))"  # no scale: never
    if all(_NUMBER.fullmatch(label) for label in allowed):
        labels = _NUMBER.pattern
        scale = rf"(?:{_WRAP}(?:/|out\s+of){_WRAP}(?P<scale>\d+(?:\.0+)?))"
        unit, above = r"(?:\s+(?:points?|stars?))?", "(?P<below>(?!))"
    than = (
        rf"than\s+(?:the\s+other(?:\s+(?:one|response|answer))?|(?:the\s+)?(?:{NAMES}\s+)?{_WRAP}(?P<other>{labels}))"
    )
    sentence = rf"(?P<sentence>{_WRAP}\s(?:is\s+{_DEGREE}{_KIND}(?:\s+of\s+the\s+two|\s+overall|\s+{than})?|wins))"
    return re.compile(
        rf"{_WRAP}{_BOXED}(?:(?:the\s+)?(?P<name>{NAMES})\b[*_]*\s*[:#]?)?(?:(?:(?:it\s+is|it['’]s)\s+)?a\s+(?=tie))?"
        rf"(?:(?:the\s+)?(?:better|best|preferred|winning)\s+(?:response|answer|one|option)\s+is\s+(?:{NAMES}\s+)?)?"
        rf"{_WRAP}(?P<label>{labels})(?:{scale}|{sentence}|{above})?{unit}{_WRAP}[.!,;]*{_WRAP}",
        re.IGNORECASE,
    )

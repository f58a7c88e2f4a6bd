"""Parse the verdict of a judge's answer: strict, documented, the same for every caller (docs/protocols.md).

The last verdict line decides: one that starts with `Result`, or that is nothing but a verdict in double brackets
(`[[A]]`). Accepted around it: list or quote marks, bold marks, and the colon inside or outside the bold
(`**Result:** A`, `**Result**: A`, `Result: A`). The verdict may be in bold, quotes or brackets (`<A>`), may be called
`Response A`, `Assistant A` or `Score 4`, and may end with a full stop. Anything else after it makes the answer
unparsed: no verdict is guessed from prose. Double brackets within a line count only if no line is a verdict line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# [^\S\n] is white space within the line: a verdict never comes from the line below its label, and no match
# crosses lines, so that an answer of nothing but line breaks takes linear time.
_MARKS = r"(?:[>#*\-_]|[^\S\n])*"
_LINE = re.compile(rf"^{_MARKS}result[*_]*[^\S\n]*:[*_]*(?P<verdict>[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_BRACKET_LINE = re.compile(rf"^{_MARKS}\[\[(?P<verdict>[^\[\]\n]{{1,20}})\]\](?:[*_.]|[^\S\n])*$", re.MULTILINE)
_BRACKETS = re.compile(r"\[\[(?P<verdict>[^\[\]\n]{1,20})\]\]")
_REASONING = re.compile(r"^[>#*\-\s_]*(?:reasoning|feedback)[*_]*\s*:[*_]*\s*", re.IGNORECASE)
_WRAPPING = " \t*_`'\"“”‘’[](){}<>"
_NAMES = re.compile(r"^(?:response|assistant|answer|score|rating)\s+", re.IGNORECASE)

Status = Literal["ok", "no_verdict", "not_allowed"]


@dataclass(frozen=True)
class Parsed:
    """The parts of an answer.

    Attributes:
        verdict: one of the allowed verdicts, or None.
        critique: the text before the verdict line, without its label.
        status: `ok`, `no_verdict` (no verdict line) or `not_allowed` (a verdict outside the closed set).
    """

    verdict: str | None
    critique: str
    status: Status


def parse(answer: str, allowed: Sequence[str]) -> Parsed:
    """Parse an answer.

    Args:
        answer: what the judge wrote.
        allowed: the closed set of verdicts.
    """
    lines = [*_LINE.finditer(answer), *_BRACKET_LINE.finditer(answer)]
    last = max(lines or _BRACKETS.finditer(answer), key=re.Match.start, default=None)
    if last is None:
        return Parsed(None, strip_label(answer), "no_verdict")
    critique = strip_label(answer[: last.start()])
    verdict = normalise(last["verdict"], allowed)
    return Parsed(verdict, critique, "ok" if verdict is not None else "not_allowed")


def normalise(text: str, allowed: Sequence[str]) -> str | None:
    """The allowed verdict that a text means, or None."""
    known = {verdict.casefold(): verdict for verdict in allowed}
    unwrapped = text.strip().rstrip(".").strip(_WRAPPING).rstrip(".")
    unnamed = _NAMES.sub("", unwrapped).strip(_WRAPPING)
    # Unchanged first: a class label may itself be `answer relevant` or `N.A.`.
    for candidate in (text.strip(), unwrapped, unnamed):
        if (verdict := known.get(candidate.casefold())) is not None:
            return verdict
    return None


def strip_label(text: str) -> str:
    """A critique without its `Reasoning:` label."""
    return _REASONING.sub("", text.strip(), count=1).strip()


def without_verdict_lines(critique: str) -> str:
    """A critique without lines that look like a verdict, so that a generator cannot add a second one."""
    before = None
    while before != critique:  # removing one may join the halves of another
        before, critique = critique, _BRACKETS.sub("", _LINE.sub("", critique))
    return re.sub(r"\n{3,}", "\n\n", critique).strip()

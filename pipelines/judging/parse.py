"""Parse the verdict of a judge's answer: strict, documented, the same for every caller (docs/protocols.md).

Four kinds of lines are looked for in turn, and the first kind that is there decides:

1. Verdict lines: `Result:`, `Final Result:`, `Final Verdict:`, Prometheus' `[RESULT]`, or nothing but `[[A]]` or
   `\\boxed{A}`. The last one decides; the verdict may stand on the line below its label.
2. Other labels: `Verdict:`, `Score:`, `Answer:`, `<answer>A</answer>`. All must agree, and one must be the first or the
   last line.
3. Double brackets within a line that says it chooses. All must agree, and none may be denied, doubted or asked.
4. An answer that is nothing but a verdict, or whose last line is the sentence `Response A is better.` if it names no
   other and stands by itself.

An answer that is one JSON object with a key for its verdict is read by that key alone (`json_answer.py`).

What a verdict may look like is in `verdict.py`. Nothing is guessed from prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import regex  # type: ignore[import-untyped]

from pipelines.judging.json_answer import JsonAnswer, read_object
from pipelines.judging.verdict import Verdict, read_verdict

# [^\S\n] is white space within the line: no match crosses lines, so that an answer of nothing but line breaks takes
# linear time.
_SPACE = r"[^\S\n]"
_MARKS = rf"(?:[>#*\-_\"'{{(]|{_SPACE})*(?:\d{{1,2}}[.)](?:[*_\"']|{_SPACE})*)?"
_SAID = rf"[*_\"']*{_SPACE}*(?P<colon>[:：])?[*_\"']*(?P<verdict>[^\n]*)$"
_FINAL = rf"(?:(?:my|the){_SPACE}+)?final{_SPACE}+(?:result|verdict|judge?ment|decision|score|rating)"
_FLAGS = re.IGNORECASE | re.MULTILINE
_RESULT = re.compile(rf"^{_MARKS}(?:result|{_FINAL}(?P<is>{_SPACE}+is\b)?){_SAID}", _FLAGS)
_PROMETHEUS = re.compile(rf"(?:\*\*)?(?<!\[)\[(?P<is>result)\](?!\]){_SAID}", _FLAGS)
_LABEL = re.compile(
    rf"^{_MARKS}(?:(?:final|overall){_SPACE}+)?(?:verdict|judge?ment|decision|score|rating|grade|answer|winner|choice"
    rf"|(?:better|preferred){_SPACE}+response){_SAID}",
    _FLAGS,
)
_TAG = re.compile(
    rf"^{_SPACE}*<(?P<tag>result|verdict|answer|score|rating)>(?P<verdict>[^<\n]*)</(?P=tag)>{_SPACE}*$", _FLAGS
)
_ALONE = re.compile(
    rf"^(?:[>#*\-_$]|{_SPACE})*(?:\[\[(?P<verdict>[^\[\]\n]{{1,20}})\]\]|(?P<boxed>\\boxed\{{[^\n]{{1,40}}\}}))"
    rf"(?:[*_.$]|{_SPACE})*$",
    re.MULTILINE,
)
_BELOW = re.compile(rf"(?:{_SPACE}*\n)+{_SPACE}*(?P<verdict>\S[^\n]*)")
# Not an index such as `x[[2]]`, nor a link.
_BRACKETS = re.compile(r"(?<![\w\])])\[\[(?P<verdict>[^\[\]\n]{1,20})\]\](?![\w\[(])")
_CLAUSE = re.compile(r"[^,.;:!?\n]*")
_DENIED = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|or|either|if|may|might|could|would|should|perhaps|maybe|possibly|wrong\w*"
    r"|incorrect\w*|mistake\w*|false\w*|some|others|they|you|your|worse)\b|n['’]t\b",
    re.IGNORECASE,
)
_SCORE = re.compile(r"\b(?:verdict|result|score|rating|rate|grade|judge?ment|decision)\b", re.IGNORECASE)
_CHOICE = re.compile(
    rf"{_SCORE.pattern}|\b(?:better|best|winner|wins|conclusion|conclude|choice|choose|chose|prefer\w*|pick|select|favou?r"
    r"|answer|say)\b",
    re.IGNORECASE,
)
_REASONING = re.compile(r"^[>#*\-\s_]*(?:reasoning|feedback)[*_]*\s*:[*_]*\s*", re.IGNORECASE)
_OPENING = regex.compile(rf"{_MARKS}(?:result|{_FINAL})[*_\"']*{_SPACE}*[:：][*_\"']*{_SPACE}*", regex.IGNORECASE)
_REASONING_SO_FAR = regex.compile(_REASONING.pattern, regex.IGNORECASE)

HEADING = 4  # words, marks among them
LONGEST_LABEL = 60  # characters of a line that is a label and nothing else
Status = Literal["ok", "completed", "no_verdict", "not_allowed", "thoughts_cut"]
READ = ("ok", "completed")  # there is a verdict


@dataclass(frozen=True)
class Parsed:
    """The parts of an answer.

    Attributes:
        verdict: one of the allowed verdicts, or None.
        critique: the text before the verdict line, without its label.
        status: `ok`, `completed` (an engine put the label of the verdict line there; of no answer that was parsed),
            `no_verdict` (no verdict line), `not_allowed` (a verdict outside the closed set) or `thoughts_cut` (the
            model was still thinking, so there is no answer).
        place: of the verdict's first letter in the answer; None without a verdict.
    """

    verdict: str | None
    critique: str
    status: Status
    place: int | None = None


class _Line(NamedTuple):
    """A verdict line: where it begins and ends in the answer, and its verdict, None if it is not an allowed one."""

    start: int
    end: int
    verdict: Verdict | None


def parse(answer: str, allowed: Sequence[str]) -> Parsed:
    """Parse an answer.

    Args:
        answer: what the judge wrote, without its thoughts.
        allowed: the closed set of verdicts.
    """
    if found := read_object(answer, allowed):
        return _of_object(found)
    line = _decisive(answer, allowed)
    if line is None:
        return Parsed(None, strip_label(answer), "no_verdict")
    critique = strip_label(answer[: line.start])
    if line.verdict is None:
        return Parsed(None, critique, "not_allowed")
    return Parsed(line.verdict.label, critique, "ok", line.verdict.start)


def _of_object(found: JsonAnswer) -> Parsed:
    labels = {verdict and verdict.label for verdict in found.verdicts}
    if len(labels) > 1:
        return Parsed(None, found.critique, "no_verdict")
    verdict = found.verdicts[-1]
    if verdict is None:
        return Parsed(None, found.critique, "not_allowed")
    return Parsed(verdict.label, found.critique, "ok", verdict.start)


def strip_label(text: str) -> str:
    """A critique without its `Reasoning:` label."""
    return _REASONING.sub("", text.strip(), count=1).strip()


def opens_verdict(line: str) -> bool:
    """Whether a line so far is the label of a verdict line (`**Result:**`) and nothing else."""
    return len(line) <= LONGEST_LABEL and _OPENING.fullmatch(line) is not None


def begins_verdict(line: str) -> bool:
    """Whether a line begins with the label of a verdict line."""
    return _OPENING.match(line[:LONGEST_LABEL]) is not None


def may_open_verdict(line: str) -> bool:
    """Whether a line so far begins with the label of a verdict line, or may come to."""
    return begins_verdict(line) or _OPENING.fullmatch(line[:LONGEST_LABEL], partial=True) is not None


def may_be_label(text: str) -> bool:
    """Whether a text so far may be the `Reasoning:` label of a critique and nothing else."""
    return _REASONING_SO_FAR.fullmatch(text, partial=True) is not None


def without_verdict_lines(critique: str, allowed: Sequence[str]) -> str:
    """A critique without whatever the parser would read, so that a generator cannot add a second verdict."""
    if read_object(critique, allowed):
        return ""
    while lines := [
        *_results(critique, allowed),
        *_labels(critique, allowed),
        *(_Line(*match.span(), None) for match in _BRACKETS.finditer(critique)),
        *_statements(critique, allowed),
    ]:  # removing one may join the halves of another
        kept, end = [], 0
        for line in sorted(lines, key=_start):
            kept.append(critique[end : line.start])
            end = max(end, line.end)
        critique = "".join(kept) + critique[end:]
    return re.sub(r"\n{3,}", "\n\n", critique).strip()


def _decisive(answer: str, allowed: Sequence[str]) -> _Line | None:
    result = next(_results(answer, allowed), None)
    if result:
        return result
    if labels := list(_labels(answer, allowed)):
        first, last = len(answer) - len(answer.lstrip()), len(answer.rstrip())
        at_an_edge = any(line.start <= first or line.end >= last for line in labels)
        return labels[-1] if at_an_edge and _agree(answer, labels) else None
    if brackets := list(_inline(answer, allowed)):
        return brackets[-1] if _agree(answer, brackets) else None
    return next(_statements(answer, allowed), None)


def _start(line: _Line | re.Match[str]) -> int:
    return line.start if isinstance(line, _Line) else line.start()


def _agree(answer: str, lines: Sequence[_Line]) -> bool:
    said = {line.verdict.label if line.verdict else answer[line.start : line.end].casefold() for line in lines}
    return len(said) == 1


def _results(answer: str, allowed: Sequence[str]) -> Iterator[_Line]:
    """Verdict lines, the last one first."""
    found = [match for pattern in (_RESULT, _PROMETHEUS, _ALONE) for match in pattern.finditer(answer)]
    for match in sorted(found, key=_start, reverse=True):
        if match.re is _ALONE:
            yield _line(match, match.end(), _read(answer, match, "boxed" if match["boxed"] else "verdict", allowed))
        elif line := _labelled(answer, match, allowed, certain=match["colon"] is not None):
            yield line


def _labels(answer: str, allowed: Sequence[str]) -> Iterator[_Line]:
    """Lines with another label and an allowed verdict."""
    lines = [_labelled(answer, match, allowed, certain=False) for match in _LABEL.finditer(answer)]
    tags = [_line(match, match.end(), _read(answer, match, "verdict", allowed)) for match in _TAG.finditer(answer)]
    yield from sorted([line for line in (*lines, *tags) if line and line.verdict], key=_start)


def _labelled(answer: str, match: re.Match[str], allowed: Sequence[str], *, certain: bool) -> _Line | None:
    """A label's line, with the line below if nothing follows the label; None if it is none but for its verdict."""
    said = match["verdict"].strip(" \t\r*_\"'")
    below = None if said else _BELOW.match(answer, match.end())
    verdict = None
    if below:
        verdict = _read(answer, below, "verdict", allowed)
    elif match["colon"] or match.groupdict().get("is"):
        verdict = _read(answer, match, "verdict", allowed)
    if verdict is None and not certain:
        return None
    return _line(match, below.end() if below and verdict else match.end(), verdict)


def _inline(answer: str, allowed: Sequence[str]) -> Iterator[_Line]:
    """Double brackets within a line that says it chooses or scores, not denied, doubted or asked."""
    numbers = all(label.lstrip("+-").isdecimal() for label in allowed)
    for match in _BRACKETS.finditer(answer):
        line = answer[answer.rfind("\n", 0, match.start()) + 1 : match.start()]
        after = _CLAUSE.match(answer, match.end())
        assert after is not None  # it may be empty
        clause = re.split(r"[,.;:!?]", line)[-1] + after[0]
        asked = answer[after.end() : after.end() + 1] == "?"
        said = _SCORE.search(line) if numbers else _CHOICE.search(line + after[0])
        if said and not asked and not _DENIED.search(clause):
            yield _line(match, match.end(), _read(answer, match, "verdict", allowed))


def _statements(answer: str, allowed: Sequence[str]) -> Iterator[_Line]:
    """An answer that is nothing but a verdict, or a last line that says which is better while no other is named."""
    whole = answer.rstrip()
    start = whole.rfind("\n") + 1
    verdict = read_verdict(whole[start:], allowed)
    if verdict is None or verdict.sentence > verdict.named:
        return
    before = whole[:start]
    others = "|".join(re.escape(label) for label in allowed if label != verdict.label)
    if before.strip():
        alone = verdict.sentence and _stands_alone(before)
        if not alone or re.search(rf"\b(?:{others})\b", before):
            return
    yield _Line(start, len(answer), verdict._replace(start=start + verdict.start))


def _stands_alone(before: str) -> bool:
    """Whether a new sentence can begin: after the end of one, a heading, or a paragraph that announces nothing."""
    said = before.rstrip()
    line, end = said[said.rfind("\n") + 1 :].strip(), said.rstrip("*_\"'”’)]")[-1:]
    heading = line.startswith("#") or re.fullmatch(r"\*\*[^*]+\*\*:?", line)
    if end in (".", "!", "?") or (heading and len(line.split()) <= HEADING):
        return True
    return end not in (",", ":", ";", "-", "–", "—") and before[len(said) :].count("\n") > 1


def _read(answer: str, match: re.Match[str], group: str, allowed: Sequence[str]) -> Verdict | None:
    verdict = read_verdict(match[group], allowed)
    return verdict and verdict._replace(start=match.start(group) + verdict.start)


def _line(match: re.Match[str], end: int, verdict: Verdict | None) -> _Line:
    return _Line(match.start(), end, verdict)

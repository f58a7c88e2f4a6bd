"""CRAFT-MD's expert annotations: three workbooks as one record per conversation and question.

Each workbook has one sheet per clinical model, with instructions above the header row and hundreds of empty rows
below the last case. Two experts answered, 60 conversations both of them; a third answered where those two differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pipelines.core.errors import UserError
from pipelines.core.storage import Place
from pipelines.datasets.sheets import Rows, sheets

CASE = "case_id"
TEXTS = {"case_vignette": "vignette", "multi-turn conversation": "conversation"}
QUESTIONS = {"Q1": "diagnosis", "Q2": "history", "Q3": "terminology"}  # one workbook writes `Q1: One most …`
VERDICTS = ("Yes", "No")

Record = dict[str, Any]


def records(paths: list[Place]) -> Iterator[tuple[str, Record, None]]:
    """(where, record, None) of each conversation and question, as `loader` wants them.

    A record has model, case, vignette, conversation, question, votes (of those who answered, experts first) and
    verdict: what the two experts agree on, else the third one's answer, if any.

    Args:
        paths: workbooks of the first expert, the second expert and the one who breaks ties.

    Raises:
        UserError: a workbook is not as described, or two of them disagree about a conversation's text.
    """
    if len(paths) != 3:
        raise UserError(f"three workbooks are needed, {len(paths)} are named", where="CRAFT-MD")
    merged: dict[tuple[str, str], Record] = {}
    for rater, path in enumerate(paths):
        for title, rows in sheets(path):
            for key, texts, answers in _cases(f"{path.name}, sheet {title}", title, rows):
                known = merged.setdefault(key, {**texts, "votes": {}})
                if any(known[name] != text for name, text in texts.items()):
                    raise UserError(f"the text of {key[1]} differs from another workbook's", where=f"{path}, {title}")
                known["votes"][rater] = answers
    for (model, case), found in merged.items():
        for question in QUESTIONS.values():
            votes = [found["votes"].get(rater, {}).get(question) for rater in range(3)]
            yield (
                f"{model} {case} {question}",
                {
                    "model": model,
                    "case": case,
                    **{name: found[name] for name in TEXTS.values()},
                    "question": question,
                    "votes": [vote for vote in votes if vote],
                    "verdict": decided(votes),
                },
                None,
            )


def decided(votes: list[str | None]) -> str | None:
    """The verdict of two experts and a third who breaks ties; None if it is still open."""
    experts = {vote for vote in votes[:2] if vote}
    return experts.pop() if len(experts) == 1 else votes[2]


def _cases(where: str, model: str, rows: Rows) -> Iterator[tuple[tuple[str, str], dict[str, str], dict[str, str]]]:
    """(model and case, texts, answers) of each row under the header, which is found by its first column's name."""
    columns: dict[str, int] | None = None
    seen: set[str] = set()
    for number, cells in rows:
        if columns is None:
            columns = _columns(cells, f"{where}, row {number}") if CASE in cells else None
            continue
        # Rows may be shorter than the header, and there are empty ones to the end of the sheet.
        line = {name: cells[at] if at < len(cells) else None for name, at in columns.items()}
        case = line[CASE]
        if case is None:
            continue
        place = f"{where}, row {number}"
        if case in seen:
            raise UserError(f"{case} appears twice", where=place)
        seen.add(case)
        texts = {name: str(line[name] or "").strip() for name in TEXTS.values()}
        if missing := [name for name, text in texts.items() if not text]:
            raise UserError(f"{case} has no {missing[0]}", where=place)
        answers = {name: answer for name in QUESTIONS.values() if (answer := _answer(line[name], place))}
        yield (model, str(case)), texts, answers
    if columns is None:
        raise UserError(f"no row has the cell {CASE}: it is not a sheet of annotations", where=where)


def _columns(cells: tuple[Any, ...], where: str) -> dict[str, int]:
    """Name -> index of the columns that are read."""
    found: dict[str, int] = {}
    for index, cell in enumerate(cells):
        text = str(cell or "").strip()
        label = text if text in (CASE, *TEXTS) else (re.match(r"Q\d\b", text) or [""])[0]
        if name := {CASE: CASE, **TEXTS, **QUESTIONS}.get(label):
            found.setdefault(name, index)
    for name in (CASE, *TEXTS.values(), *QUESTIONS.values()):
        if name not in found:
            raise UserError(f"the header has no column for the {name}", where=where)
    return found


def _answer(cell: Any, where: str) -> str | None:
    """Yes, No, or null for an empty cell."""
    text = str(cell or "").strip()
    if text and text not in VERDICTS:
        raise UserError(f"{text[:40]!r} is not an answer, only Yes and No are", where=where)
    return text or None

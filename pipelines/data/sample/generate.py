"""Write the sample set: `python -m pipelines.data.sample.generate` (the same bytes on every machine)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.core.records import TASKS, Row
from pipelines.data.sample import contents, scripts
from pipelines.data.sample.families import CASES, GRADED, Case, Graded, fives, shuffled, sums, total
from pipelines.data.sample.flaws import FRESH, plant

FOLDER = Path(__file__).parent
FIELDS = (
    "instruction",
    "context",
    "response_a",
    "response_b",
    "response",
    "rubric",
    "label",
    "allow_tie",
    "published",
    "split",
    "family",
    "planted",
)
TIES = {"topic": 3, "upper": 2, "question": 2, "list": 1}
"""Family -> train rows labelled Tie; as many more rows allow a tie though one response is better."""


class Contents:
    """The banks of contents in a fixed order; what is taken once is never taken again.

    Training rows take from the front, held-out rows from the end. The three banks of topics have one order, so that no
    topic is in both.
    """

    def __init__(self) -> None:
        banks: dict[str, list[Any]] = {
            "sums": sums(),
            "capitals": list(contents.CAPITALS),
            "opposites": list(contents.OPPOSITES),
            "colours": list(contents.COLOURS),
            "order": [(name, side) for name in (*contents.DAYS, *contents.MONTHS) for side in ("after", "before")],
            "objects": list(contents.OBJECTS),
            "descriptions": list(contents.DESCRIPTIONS),
            "categories": list(contents.CATEGORIES),
            "symbol": list(scripts.SYMBOLS),
            "things": list(contents.THINGS),
        }
        self._banks = {name: shuffled(bank, name) for name, bank in banks.items()}
        for name in ("topics to tell of", "topics in capitals", "topics to ask about"):
            self._banks[name] = shuffled(contents.TOPICS, "topics")
        self._banks["notes"] = fives(contents.NOTE_WORDS, 10, "notes")
        self._banks["five sums"] = fives(sums(), 4, "five sums")

    def take(self, name: str, count: int, held_out: bool) -> list[Any]:
        """The next `count` contents of a bank, or its last ones.

        Raises:
            ValueError: the bank has fewer left; add contents.
        """
        bank = self._banks[name]
        if len(bank) < count:
            raise ValueError(f"{count - len(bank)} more contents are needed in '{name}'")
        place = len(bank) - count if held_out else count
        parts = bank[:place], bank[place:]
        taken, self._banks[name] = parts[::-1] if held_out else parts
        return taken


def shaped(row: Row) -> Row:
    """The row's fields in the order of FIELDS."""
    return {name: row[name] for name in FIELDS if name in row}


def cases(bank: Contents, task: str, held_out: bool) -> list[Case]:
    """The cases of one file of pairwise or classification rows."""
    items = []
    for build, name, pairs, labels, held in CASES:
        count = held if held_out else {"pairwise": pairs, "classification": labels}[task]
        items += [(build, item) for item in bank.take(name, count, held_out)]
    return [build(item, number) for number, (build, item) in enumerate(items)]


def rest(held_out: bool, family: str) -> Row:
    """Fields of every row; a held-out row says split test, so that cleaning keeps it out of training."""
    split = "test" if held_out else "train"
    return {"published": 2025, "split": split, "family": family, "planted": None}


def pairwise(found: list[Case], held_out: bool) -> Iterator[Row]:
    """Pairwise rows: the better response is A and B in turn; in training some rows allow ties."""
    ties = {} if held_out else {family: 2 * count for family, count in TIES.items()}
    turn = 0
    for case in found:
        left = ties.get(case.family, 0)
        ties[case.family] = left - 1
        tie = left > 0 and left % 2 == 0
        better = "AB"[turn % 2]
        turn += not tie
        other = case.also_good if tie else case.bad
        first, second = (case.good, other) if better == "A" else (other, case.good)
        yield {
            "instruction": case.instruction,
            "context": case.context,
            "response_a": first,
            "response_b": second,
            "rubric": case.rubric + (" Tie if both are equally good." if left > 0 else ""),
            "label": "Tie" if tie else better,
            "allow_tie": left > 0,
        } | rest(held_out, case.family)


def classification(found: list[Case], held_out: bool) -> Iterator[Row]:
    """Yes/no rows: the response is right and wrong in turn."""
    for turn, case in enumerate(found):
        yield {
            "instruction": case.instruction,
            "context": case.context,
            "response": case.good if turn % 2 == 0 else case.bad,
            "rubric": case.question,
            "label": "Yes" if turn % 2 == 0 else "No",
        } | rest(held_out, case.family)


def absolute(found: list[Graded], held_out: bool) -> Iterator[Row]:
    """Rows scored by the number of parts given."""
    for grade in found:
        yield {
            "instruction": grade.instruction,
            "context": "",
            "response": grade.response,
            "rubric": grade.rubric,
            "label": grade.met,
        } | rest(held_out, grade.family)


def grades(bank: Contents, held_out: bool) -> list[Graded]:
    """The examples of one file of absolute rows; the number of parts given goes round 1..5."""
    items = [
        (build, item)
        for build, name, train, held in GRADED
        for item in bank.take(name, held if held_out else train, held_out)
    ]
    return [build(item, 1 + turn % 5) for turn, (build, item) in enumerate(items)]


def oldest_year_allowed(rows: list[Row]) -> list[Row]:
    """The rows with two of them published in 2023, the first year that cleaning keeps."""
    early = shuffled(range(len(rows)), "2023")[:2]
    return [row | {"published": 2023} if place in early else row for place, row in enumerate(rows)]


def fresh_rows(task: str, bank: Contents) -> list[Row]:
    """Sound rows, of contents used nowhere else, to plant flaws in."""
    if task == "absolute":
        build = next(one for one, name, _, _ in GRADED if name == "notes")
        notes = bank.take("notes", FRESH[task], False)
        return list(absolute([build(item, 1 + turn % 5) for turn, item in enumerate(notes)], False))
    found = [total(item, turn) for turn, item in enumerate(bank.take("sums", FRESH[task], False))]
    return list(pairwise(found, False) if task == "pairwise" else classification(found, False))


def files() -> dict[str, list[Row]]:
    """File name -> its rows."""
    bank = Contents()
    out: dict[str, list[Row]] = {}
    for task in TASKS:
        for held_out in (False, True):
            if task == "absolute":
                rows = list(absolute(grades(bank, held_out), held_out))
            elif task == "pairwise":
                rows = list(pairwise(cases(bank, task, held_out), held_out))
            else:
                rows = list(classification(cases(bank, task, held_out), held_out))
            if held_out:
                out[f"heldout_{task}.jsonl"] = [shaped(row) for row in shuffled(rows, f"{task} held-out")]
            else:
                clean = oldest_year_allowed(rows)
                out[f"{task}.jsonl"] = plant(task, clean, fresh_rows(task, bank), shaped)
    return out


def write(folder: Path) -> dict[str, int]:
    """Write all files into the folder; file name -> number of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows_of = files()
    for name, rows in rows_of.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return {name: len(rows) for name, rows in rows_of.items()}


def main() -> None:
    """Command line: write the files beside this script, or into `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    for name, count in write(parser.parse_args().out).items():
        print(f"{name}: {count} rows")


if __name__ == "__main__":
    main()

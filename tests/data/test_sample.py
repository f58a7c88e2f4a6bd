"""The packaged sample set: labels worked out again from the text alone, counts, balance, planted flaws."""

from __future__ import annotations

import calendar
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.records import TASKS, content_hash, group_id
from pipelines.data.sample import contents
from pipelines.data.sample.generate import FOLDER, main, write

Row = dict[str, Any]
FILES = {name: f"{name}.jsonl" for name in TASKS}
HELD_OUT = {name: f"heldout_{name}.jsonl" for name in TASKS}
COMMON = {"instruction", "context", "rubric", "label", "published", "split", "family", "planted"}
FIELDS = {
    "pairwise": COMMON | {"response_a", "response_b", "allow_tie"},
    "absolute": COMMON | {"response"},
    "classification": COMMON | {"response"},
}
CAPITALS = """France:Paris Italy:Rome Spain:Madrid Portugal:Lisbon Germany:Berlin Austria:Vienna Poland:Warsaw
Greece:Athens Egypt:Cairo Japan:Tokyo Canada:Ottawa Norway:Oslo Sweden:Stockholm Finland:Helsinki
Denmark:Copenhagen Ireland:Dublin Peru:Lima Cuba:Havana Kenya:Nairobi Hungary:Budapest
Russia:Moscow China:Beijing Iceland:Reykjavik Belgium:Brussels Romania:Bucharest Bulgaria:Sofia Serbia:Belgrade
Croatia:Zagreb Estonia:Tallinn Latvia:Riga Ukraine:Kyiv Turkey:Ankara Iraq:Baghdad Iran:Tehran Thailand:Bangkok
Vietnam:Hanoi Nepal:Kathmandu Chile:Santiago Ghana:Accra Jamaica:Kingston"""
NUMBERS = ["zero", "one", "two", "three", "four"]


def rows_of(name: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def clean(name: str) -> list[Row]:
    return [row for row in rows_of(name) if row["planted"] is None]


def texts(row: Row) -> list[str]:
    names = ("instruction", "context", "response_a", "response_b", "response", "rubric")
    return [row[name] for name in names if row.get(name)]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


# Rules: is this response right for this instruction? Worked out from the text, not from the generator.


def sum_is_right(found: re.Match[str], row: Row, response: str) -> bool:
    return words(response)[-1:] == [str(int(found[1]) + int(found[2]))]


def capital_is_right(found: re.Match[str], row: Row, response: str) -> bool:
    return f"{found[1]}:{response.rstrip('.').split()[-1]}" in CAPITALS.split()


def neighbour_is_right(found: re.Match[str], row: Row, response: str) -> bool:
    ring = list(calendar.day_name) if found[1] == "day" else list(calendar.month_name)[1:]
    step = 1 if found[2] == "after" else -1
    return response.rstrip(".").split()[-1] == ring[(ring.index(found[3]) + step) % len(ring)]


def context_agrees(found: re.Match[str], row: Row, response: str) -> bool:
    assert found[1] in row["context"]
    return response == row["context"]


def topic_is_named(found: re.Match[str], row: Row, response: str) -> bool:
    return found[1].removeprefix("the ") in response.lower()


def word_count_is_right(found: re.Match[str], row: Row, response: str) -> bool:
    return len(response.split()) == NUMBERS.index(found[1])


def list_is_right(found: re.Match[str], row: Row, response: str) -> bool:
    members = contents.CATEGORIES[found[2]].split()
    items = response.split(", ")
    return len(items) == len({*items} & {*members}) == NUMBERS.index(found[1])


RULES: dict[str, Callable[[re.Match[str], Row, str], bool]] = {
    r"What is (\d) plus (\d)\?": sum_is_right,
    r"What is the capital of (\w+)\?": capital_is_right,
    r"Which (day|month) comes right (after|before) (\w+)\?": neighbour_is_right,
    r"Where is the (.+)\?": context_agrees,
    r"Write one sentence about (.+)\.": topic_is_named,
    r"Describe .+ in exactly (\w+) words\.": word_count_is_right,
    r"List (\w+) (.+) separated by commas\.": list_is_right,
    r"Write about .+ in capital letters\.": lambda found, row, response: response.isupper(),
    r"Ask a question about .+\.": lambda found, row, response: response.endswith("?"),
}
BY_TABLE = {"opposite", "colour", "symbols"}


def rule(row: Row) -> Callable[[str], bool] | None:
    """The rule of a row's instruction; None for the families whose truth is a table of contents.py."""
    for pattern, check in RULES.items():
        if found := re.fullmatch(pattern, row["instruction"]):
            return lambda response: check(found, row, response)
    assert row["family"] in BY_TABLE, row["instruction"]
    return None


@pytest.mark.parametrize(("name", "least"), [(FILES["pairwise"], 80), (HELD_OUT["pairwise"], 45)])
def test_the_better_response_is_the_only_right_one_and_ties_are_two_right_ones(name: str, least: int) -> None:
    checked = 0
    for row in clean(name):
        if check := rule(row):
            verdict = {(True, False): "A", (False, True): "B", (True, True): "Tie"}
            assert row["label"] == verdict[check(row["response_a"]), check(row["response_b"])], row
            checked += 1
    assert checked >= least


@pytest.mark.parametrize(("name", "least"), [(FILES["classification"], 30), (HELD_OUT["classification"], 45)])
def test_yes_means_that_the_response_is_right(name: str, least: int) -> None:
    checked = 0
    for row in clean(name):
        if check := rule(row):
            assert row["label"] == ("Yes" if check(row["response"]) else "No"), row
            checked += 1
    assert checked >= least


@pytest.mark.parametrize("name", [FILES["classification"], HELD_OUT["classification"]])
def test_facts_from_a_table_are_right(name: str) -> None:
    answers = {**contents.OPPOSITES, **contents.COLOURS}
    asked = re.compile(r"What (?:is the opposite of|colour is) (.+)\?")
    seen = 0
    for row in clean(name):
        if found := asked.fullmatch(row["instruction"]):
            right = row["response"].rstrip(".").split()[-1] == answers[found[1]]
            assert row["label"] == ("Yes" if right else "No"), row
            seen += 1
    assert seen == {FILES["classification"]: 6, HELD_OUT["classification"]: 10}[name]


def parts_given(row: Row) -> int:
    """Of the five parts asked for, those that the response gives."""
    asked, response = row["instruction"], row["response"]
    parts = re.split(r" ?\b\d\. ", response)[1:]
    if found := re.fullmatch(r"List five (.+)\.", asked):
        return len({*parts} & {*contents.CATEGORIES[found[1]].split()})
    if found := re.fullmatch(r"Write a note with (.+) and (\w+)\.", asked):
        return sum(word in words(response) for word in [*found[1].split(", "), found[2]])
    if found := re.fullmatch(r"Give the (.+) and (\w+) of a \w+\.", asked):
        return sum(f"{field}: " in response for field in [*found[1].split(", "), found[2]])
    sums = re.findall(r"(\d)\+(\d)", asked)
    given = re.findall(r"(\d)\+(\d)=(\d+)", response)
    assert len(sums) == 5
    return sum((left, right) in sums and int(left) + int(right) == int(total) for left, right, total in given)


@pytest.mark.parametrize("name", [FILES["absolute"], HELD_OUT["absolute"]])
def test_a_score_is_the_number_of_parts_given(name: str) -> None:
    for row in clean(name):
        assert row["label"] == parts_given(row), row


def test_counts_and_balance() -> None:
    assert {name: len(rows_of(name)) for name in FILES.values()} == {
        "pairwise.jsonl": 120,
        "absolute.jsonl": 61,
        "classification.jsonl": 51,
    }
    labels = {name: Counter(row["label"] for row in clean(name)) for name in FILES.values()}
    assert labels["pairwise.jsonl"] == {"A": 50, "B": 50, "Tie": 8}
    assert labels["absolute.jsonl"] == dict.fromkeys(range(1, 6), 10)
    assert labels["classification.jsonl"] == {"Yes": 20, "No": 20}
    held = {name: Counter(row["label"] for row in rows_of(name)) for name in HELD_OUT.values()}
    assert held["heldout_pairwise.jsonl"] == {"A": 30, "B": 30}
    assert held["heldout_absolute.jsonl"] == dict.fromkeys(range(1, 6), 12)
    assert held["heldout_classification.jsonl"] == {"Yes": 30, "No": 30}


@pytest.mark.parametrize("task", TASKS)
def test_held_out_families_are_those_of_training(task: str) -> None:
    held = {row["family"] for row in rows_of(HELD_OUT[task])}
    assert held == {row["family"] for row in clean(FILES[task])}


@pytest.mark.parametrize("task", TASKS)
def test_every_row_has_the_fields_of_its_task(task: str) -> None:
    for row in clean(FILES[task]) + rows_of(HELD_OUT[task]):
        assert set(row) == FIELDS[task]
        assert all(row[name].strip() for name in FIELDS[task] - COMMON if isinstance(row[name], str))


def test_ties_are_labels_only_where_they_are_allowed() -> None:
    rows = clean(FILES["pairwise"])
    assert all(row["allow_tie"] for row in rows if row["label"] == "Tie")
    assert Counter(row["label"] == "Tie" for row in rows if row["allow_tie"]) == {True: 8, False: 8}
    assert not any(row["allow_tie"] for row in rows_of(HELD_OUT["pairwise"]))


@pytest.mark.parametrize("name", [FILES["pairwise"], HELD_OUT["pairwise"]])
@pytest.mark.parametrize("size", [len, lambda text: len(text.split())], ids=["characters", "words"])
def test_length_is_no_shortcut(name: str, size: Callable[[str], int]) -> None:
    rows = [row for row in clean(name) if row["label"] != "Tie"]
    sizes = [(size(row["response_a"]), size(row["response_b"]), row["label"]) for row in rows]
    # A guess where both are equally long is right half the time.
    right = sum(0.5 if a == b else float((a > b) == (label == "A")) for a, b, label in sizes)
    assert 0.38 <= right / len(rows) <= 0.62


def test_no_answer_tells_its_length_by_its_place() -> None:
    """Among the responses that do not answer, which a small model learns to tell, the length says nothing either."""
    rows = [row for row in rows_of(HELD_OUT["pairwise"]) if row["label"] != "Tie"]
    sides = [(row["response_a"], row["response_b"])[:: 1 if row["label"] == "A" else -1] for row in rows]
    longer = [len(good) > len(bad) for good, bad in sides if bad in contents.NO_ANSWERS]
    assert len(longer) > 30 and 0.4 <= sum(longer) / len(longer) <= 0.6


def test_no_topic_is_in_training_and_held_out() -> None:
    def topics(names: dict[str, str]) -> set[str]:
        text = " ".join(row["instruction"] for name in names.values() for row in clean(name))
        asked = re.findall(r"(?:sentence about|Write about|question about) (.+?)(?: in capital letters)?\.", text)
        return set(asked)

    assert len(topics(HELD_OUT)) >= 10 and not topics(FILES) & topics(HELD_OUT)


def test_no_instruction_is_in_training_and_held_out() -> None:
    train = {group_id(row["instruction"]) for name in FILES.values() for row in rows_of(name)}
    held = [group_id(row["instruction"]) for name in HELD_OUT.values() for row in rows_of(name)]
    assert not train & set(held)
    assert len(set(held)) == len(held)  # every held-out row is a cluster of its own


def test_held_out_rows_say_that_they_are_not_for_training() -> None:
    assert {row["split"] for name in HELD_OUT.values() for row in rows_of(name)} == {"test"}
    assert all(row["planted"] is None for name in HELD_OUT.values() for row in rows_of(name))


def test_rows_are_short() -> None:
    for name in (*FILES.values(), *HELD_OUT.values()):
        sizes = [len(" ".join(texts(row)).split()) for row in clean(name)]
        assert max(sizes) <= 60 and sum(sizes) / len(sizes) <= 40, name


# Flaws.

PLANTED = {
    "duplicate": 2,
    "null": 1,
    "empty": 1,
    "test_split": 1,
    "year": 1,
    "label": 1,
    "missing_field": 1,
}
ALLOWED = {"pairwise": {"A", "B"}, "absolute": {1, 2, 3, 4, 5}, "classification": {"Yes", "No"}}


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("pairwise", {"script": 2, "equal_responses": 2}),
        ("absolute", {"script": 3}),
        ("classification", {"script": 3}),
    ],
)
def test_planted_flaws_are_counted(task: str, more: dict[str, int]) -> None:
    found = Counter(row["planted"] for row in rows_of(FILES[task]) if row["planted"])
    assert found == PLANTED | more


def flaws(task: str, row: Row) -> set[str]:
    """The flaws that a row shows, whatever it says of itself; duplicates apart."""
    needed = [name for name in ("response_a", "response_b", "response") if name in FIELDS[task]]
    given = [row.get(name) for name in needed]
    shown = {
        "missing_field": any(name not in row for name in needed),
        "null": any(name in row and row[name] is None for name in needed),
        "empty": "" in given,
        "equal_responses": len(given) == 2 and given[0] == given[1],
        "script": any(other_script(text) for text in texts(row)),
        "test_split": row["split"] == "test",
        "year": row["published"] < 2023,
        "label": row["label"] not in ALLOWED[task] | ({"Tie"} if row.get("allow_tie") else set()),
    }
    return {name for name, is_so in shown.items() if is_so}


def other_script(text: str) -> bool:
    letters = [char for char in text if unicodedata.category(char).startswith("L")]
    return any(not unicodedata.name(char).startswith(("LATIN", "GREEK")) for char in letters)


@pytest.mark.parametrize("task", TASKS)
def test_a_row_has_the_flaw_it_names_and_no_other(task: str) -> None:
    seen: set[str] = set()
    for row in rows_of(FILES[task]):
        responses = [row.get(name) for name in ("response_a", "response_b", "response") if name in FIELDS[task]]
        known = {"task": task, "responses": responses, "verdict": row["label"], **row}
        hashed = content_hash(known)
        is_copy = {"duplicate"} if hashed in seen else set()
        assert flaws(task, row) | is_copy == ({row["planted"]} if row["planted"] else set()), row
        seen.add(hashed)


def test_all_four_other_scripts_are_planted() -> None:
    rows = [row for name in FILES.values() for row in rows_of(name) if row["planted"] == "script"]
    text = " ".join(text for row in rows for text in texts(row))
    names = {unicodedata.name(char, "").split()[0] for char in text if char.isalpha()}
    assert {"CYRILLIC", "CJK", "ARABIC", "DEVANAGARI"} <= names
    assert any(row["instruction"].isascii() for row in rows)  # the script is in the response alone


def test_symbols_and_the_first_year_are_among_the_clean_rows() -> None:
    rows = [row for name in FILES.values() for row in clean(name)]
    text = " ".join(text for row in rows for text in texts(row))
    kinds = {unicodedata.category(char) for char in text}
    assert {"So", "Sm"} <= kinds  # emoji, mathematical signs
    assert "π" in text and ("SELECT" in text or "print(" in text)
    assert sum(row["published"] == 2023 for row in rows) == 6


# The generator.


def test_generating_again_gives_the_same_bytes(tmp_path: Path) -> None:
    assert sum(write(tmp_path).values()) == 412
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in FOLDER.glob("*.jsonl")}


def test_the_command_writes_to_a_folder_of_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["generate", "--out", str(tmp_path / "new")])
    main()
    assert "heldout_pairwise.jsonl: 60 rows" in capsys.readouterr().out
    assert len(list((tmp_path / "new").iterdir())) == 6


def test_the_readme_says_what_the_set_is_not() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in text and "does not measure" in text
    for name in (*FILES.values(), *HELD_OUT.values()):
        assert f"| `{name}` | {len(rows_of(name))} | {len(clean(name))} |" in text

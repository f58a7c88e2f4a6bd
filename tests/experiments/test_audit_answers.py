"""The file of people's answers: names of one person on two devices, and files that are none of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.experiments.audit import job
from pipelines.experiments.audit.answers import Answers
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.audit.names import checked, known_as
from tests.experiments.audit_rows import pair, write

COMPOSED, APART = "Jos\u00e9", "Jose\u0301"


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (APART, COMPOSED),
        ("Jose\u200b\u0301", COMPOSED),  # what stands between letter and accent is gone before they are composed
        ("Ann\u200b", "Ann"),
        ("\ufeffAnn\u00ad", "Ann"),
        ("Ann\x00", "Ann"),
        ("  Ann \u00a0\t Lee ", "Ann Lee"),
        ("Ann \u200b Lee", "Ann Lee"),
        ("Ann \x01 Lee", "Ann Lee"),
        ("\u200b", ""),
    ],
)
def test_a_name_is_what_is_seen_of_it(given: str, known: str) -> None:
    assert known_as(given) == known == known_as(known)


def test_a_name_has_letters_and_not_too_many() -> None:
    assert checked(APART * 15) == COMPOSED * 15 and len(APART * 15) > 60
    for name in ("\u200b \u2060", "x" * 61):
        with pytest.raises(ValueError, match="1 to 60 characters"):
            checked(name)


def test_one_person_on_two_devices_is_one_annotator(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.sqlite", "f")
    answers.save(COMPOSED, "row-1", {"better": "1"}, 1.0)
    answers.save(f" {APART}\u200b", "row-1", {"better": "2"}, 1.0)
    assert answers.table() == [{"annotator": COMPOSED, "pair": "row-1", "better": "2"}]
    assert answers.of(APART) == answers.of(COMPOSED) == {"row-1": {"better": "2"}}
    answers.close()


def test_of_the_spellings_in_an_old_file_the_last_answer_counts(tmp_path: Path) -> None:
    place = tmp_path / "answers.sqlite"
    Answers(place, "f").close()
    with closing(sqlite3.connect(place)) as connection, connection as database:
        for number, (name, day, value) in enumerate([(APART, 2, "2"), (COMPOSED, 1, "1"), ("\u200b", 3, "1")], start=1):
            database.execute("insert into annotator values (?, ?)", (number, name))
            line = (number, number, "row-1", "better", value, 1.0, f"2026-01-0{day} 00:00:00.000000")
            database.execute("insert into answer values (?, ?, ?, ?, ?, ?, ?)", line)
    answers = Answers(place, "f")
    assert {line["annotator"]: line["better"] for line in answers.table()} == {COMPOSED: "2", "'\\u200b'": "1"}
    assert answers.of(COMPOSED) == {"row-1": {"better": "2"}}
    answers.close()


def text(place: Path) -> None:
    place.write_text("no database\n" * 200)


def folder(place: Path) -> None:
    place.mkdir()


def others(place: Path) -> None:
    with closing(sqlite3.connect(place)) as connection, connection as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table song (id integer primary key, title text)")


def others_of_our_names(place: Path) -> None:
    with closing(sqlite3.connect(place)) as connection, connection as database:
        database.execute("create table answer (id integer primary key, text text)")


def damaged(place: Path) -> None:
    answers = Answers(place, "f")
    for number in range(200):
        answers.save("Ann", f"row-{number}", {"better": "1"}, 1.0)
    answers.close()
    whole = place.read_bytes()
    place.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))


NONE_OF_OURS = [
    (text, "cannot be used as a database: file is not a database"),
    (folder, "is a folder"),
    (others, "is the database of another program"),
    (others_of_our_names, "is the database of another program"),
]


@pytest.mark.parametrize(("make", "what"), [*NONE_OF_OURS, (damaged, "cannot be used as a database")])
def test_a_file_that_is_none_of_ours_is_said_in_one_line(
    tmp_path: Path, make: Callable[[Path], None], what: str
) -> None:
    place = tmp_path / "answers"
    make(place)
    with pytest.raises(UserError, match=what) as caught:
        Answers(place, "f").table()
    said = str(caught.value)
    assert "\n" not in said and said.startswith(f"{place}: ") and "audit.answers" in said and "sqlalche" not in said


def test_a_place_below_a_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot have a file") as caught:
        Answers(tmp_path / "file" / "answers.sqlite", "f")
    assert "\n" not in str(caught.value)


def test_the_database_of_another_program_stays_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "songs"
    others(place)
    before = place.read_bytes()
    with pytest.raises(UserError):
        Answers(place, "f")
    assert place.read_bytes() == before


@pytest.mark.parametrize(("make", "what"), NONE_OF_OURS)
def test_the_audit_says_so_before_it_starts(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    write(tmp_path, [pair(0)])
    make(tmp_path / "answers")
    with pytest.raises(UserError, match=what):
        job.validate(Run(tmp_path), AuditConfig(blind=False, answers=tmp_path / "answers"))

"""Votes in SQLite: counted once, in one order, never changed, and ratings that follow from them."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from pipelines.core import storage
from pipelines.core.errors import UserError
from serve.arena.ratings.elo import replay
from serve.arena.ratings.leaderboard import leaderboard
from serve.arena.store import battles, database, transfer
from serve.arena.store.judges import enter
from serve.arena.store.reading import check, failures_of, judges_of, marks_of, styles_of, votes_of
from serve.arena.store.tables import BATTLES, JUDGES, LAST, METADATA, RATINGS, VOTES
from serve.arena.store.votes import vote
from serve.refused import Refused
from tests.serve.arena.conftest import NAMES
from tests.serve.arena.filled import fought, voted


def test_the_migrations_make_the_tables_that_the_code_knows(store: Engine) -> None:
    with store.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_database_is_opened_again_as_it_was(tmp_path: Path, store: Engine) -> None:
    voted(store, 5)
    again = database.connect(f"sqlite:///{tmp_path}/arena.db")
    with database.reading(again) as connection:
        assert len(votes_of(connection)) == 5


def test_a_vote_is_acknowledged_with_what_is_stored(store: Engine) -> None:
    fought(store, "b1", "oak-judge", "pine-judge", visitor="v")
    told = vote(store, "b1", "a", "v", 50_000)
    assert (told.sequence, told.judge_a, told.judge_b, told.repeated) == (1, "oak-judge", "pine-judge", False)
    assert (told.elo_a, told.elo_b) == ((1200, 1216), (1200, 1184))
    with database.reading(store) as connection:
        ratings = {row.judge: (row.elo, row.votes) for row in connection.execute(select(RATINGS))}
    assert ratings == {"oak-judge": (1216, 1), "pine-judge": (1184, 1), "yew-judge": (1200, 0)}


def test_the_same_vote_again_gets_the_same_answer_and_another_one_is_refused(store: Engine) -> None:
    fought(store, "b1", "oak-judge", "pine-judge", visitor="v")
    fought(store, "b2", "oak-judge", "pine-judge", visitor="v")
    first = vote(store, "b1", "b", "v", 50_000)
    vote(store, "b2", "b", "v", 51_000)
    again = vote(store, "b1", "b", "v", 52_000)
    assert again.repeated and (again.elo_a, again.elo_b, again.sequence) == (first.elo_a, first.elo_b, 1)
    with pytest.raises(Refused) as refused:
        vote(store, "b1", "a", "v", 53_000)
    assert (refused.value.status, refused.value.code) == (409, "already_voted")
    with database.reading(store) as connection:
        assert len(votes_of(connection)) == 2 and check(connection).problems == []


def test_nobody_votes_on_a_battle_that_failed_or_never_was(store: Engine) -> None:
    fought(store, "b1", "oak-judge", "pine-judge", failed="B")
    for name in ("b1", "b2"):
        with pytest.raises(Refused) as refused:
            vote(store, name, "a", "v", 50_000)
        assert refused.value.status == 404
    with database.reading(store) as connection:
        assert failures_of(connection) == {"pine-judge": 1} and votes_of(connection) == []


@pytest.mark.parametrize("table", ["battles", "judgments", "votes", "marks"])
@pytest.mark.parametrize("change", ["delete from {}", "update {} set battle = 'x'"])
def test_what_was_said_cannot_be_changed(store: Engine, table: str, change: str) -> None:
    voted(store, 3, marks=("agent",))
    change = change.replace("battle", "id") if table == "battles" else change
    with pytest.raises(IntegrityError, match="append-only"), store.begin() as connection:
        connection.execute(text(change.format(table)))


def test_ratings_are_those_of_a_replay(store: Engine) -> None:
    voted(store, 40)
    with database.reading(store) as connection:
        assert check(connection).problems == []
        last = {}
        for one, rating_a, rating_b in replay(votes_of(connection)):
            last[one.judge_a], last[one.judge_b] = rating_a, rating_b
        assert last == {row.judge: row.elo for row in connection.execute(select(RATINGS))}


def test_the_check_finds_a_rating_that_does_not_follow(store: Engine) -> None:
    voted(store, 20)
    with store.begin() as connection:
        connection.execute(update(RATINGS).where(RATINGS.c.judge == "oak-judge").values(elo=RATINGS.c.elo + 1e-12))
    with database.reading(store) as connection:
        (problem,) = check(connection).problems
    assert problem.startswith("oak-judge: stored")


def test_the_check_finds_a_vote_that_was_slipped_in(store: Engine) -> None:
    voted(store, 20)
    fought(store, "forged", "oak-judge", "yew-judge")
    forged = {"sequence": 22, "battle": "forged", "choice": "a", "at_ms": 1, "visitor": "x"}
    ratings = dict.fromkeys(("elo_a_before", "elo_b_before", "elo_a", "elo_b"), 1300.0)
    with store.begin() as connection:
        connection.execute(insert(VOTES).values(**forged, **ratings))
    with database.reading(store) as connection:
        problems = check(connection).problems
    assert len(problems) >= 3 and any("not 1, 2, 3" in problem for problem in problems)


def test_many_at_once_are_counted_once_each_and_in_one_order(store: Engine) -> None:
    for place in range(20):
        fought(store, f"b{place}", *(NAMES[place % 3], NAMES[(place + 1) % 3]))
    wrong: list[Exception] = []

    def work(offset: int) -> None:
        for place in range(20):  # each battle is voted on by all
            try:
                vote(store, f"b{(place + offset) % 20}", "a", f"v{offset}", 50_000)
            except Exception as exc:
                wrong.append(exc)

    threads = [threading.Thread(target=work, args=(offset * 7,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with database.reading(store) as connection:
        assert len(votes_of(connection)) == 20 and check(connection).problems == []


def test_a_judge_that_leaves_keeps_its_battles_and_may_return(store: Engine) -> None:
    voted(store, 30)
    before = _board(store)
    enter(store, {"oak-judge": "fingerprint", "elm-judge": "new"}, 2)
    with database.reading(store) as connection:
        assert judges_of(connection) == {
            "elm-judge": False,
            "oak-judge": False,
            "pine-judge": True,
            "yew-judge": True,
        }
        assert check(connection).problems == []
    now = {one.judge: one for one in _board(store).standings}
    for one in before.standings:
        assert (now[one.judge].elo, now[one.judge].votes) == (one.elo, one.votes)
    enter(store, dict.fromkeys(NAMES, "fingerprint"), 3)
    with database.reading(store) as connection:
        assert judges_of(connection) == {"elm-judge": True, **dict.fromkeys(sorted(NAMES), False)}


def test_a_name_stays_one_judges(store: Engine) -> None:
    with pytest.raises(UserError, match="another model, template or setting"):
        enter(store, {"oak-judge": "another", "pine-judge": "fingerprint"}, 2)
    with database.reading(store) as connection:
        assert set(connection.execute(select(JUDGES.c.fingerprint)).scalars()) == {"fingerprint"}


def test_marks_of_a_vote(store: Engine) -> None:
    fought(store, "b1", "oak-judge", "pine-judge", visitor="v", at_ms=1000, content="same")
    fought(store, "b2", "oak-judge", "yew-judge", visitor="v", at_ms=1000, content="same")
    fought(store, "b3", "oak-judge", "yew-judge", visitor="v", at_ms=1000, content="other")
    vote(store, "b1", "a", "v", 1500, ["agent"])
    vote(store, "b2", "a", "v", 60_000)
    vote(store, "b3", "a", "w", 60_000, ["trap"])
    with database.reading(store) as connection:
        assert marks_of(connection) == {
            "fast": {"b1"},
            "agent": {"b1"},
            "duplicate": {"b2"},
            "moved": {"b3"},
            "trap": {"b3"},
        }
        assert len(votes_of(connection)) == 3  # a marked vote counts


def test_a_burst_is_marked(store: Engine) -> None:
    for place in range(22):
        fought(store, f"b{place}", "oak-judge", "pine-judge", visitor="v", content=str(place))
        vote(store, f"b{place}", "tie", "v", 100_000 + place)
    with database.reading(store) as connection:
        assert marks_of(connection) == {"burst": {"b20", "b21"}}


def test_an_export_is_the_same_arena_elsewhere(store: Engine, tmp_path: Path) -> None:
    voted(store, 30, marks=("agent",))
    fought(store, "failed", "oak-judge", "pine-judge", failed="A")
    transfer.export(store, tmp_path / "out")
    other = database.connect(f"sqlite:///{tmp_path}/elsewhere/arena.db")
    enter(other, {"oak-judge": "x", "new": "y"}, 1)  # a server that has started, without battles
    manifest = transfer.bring(other, tmp_path / "out")
    assert manifest["rows"] == {"judges": 3, "battles": 31, "judgments": 62, "votes": 30, "marks": 30}
    assert _board(other) == _board(store)
    with database.reading(other) as connection:
        assert check(connection).problems == [] and failures_of(connection) == {"oak-judge": 1}
        assert connection.execute(select(LAST.c.sequence)).scalar_one() == 30
    transfer.export(other, tmp_path / "again")
    assert storage.read_json(tmp_path / "again" / "arena.json")["digests"] == manifest["digests"]


def test_import_takes_all_or_nothing(store: Engine, tmp_path: Path) -> None:
    voted(store, 10)
    with pytest.raises(UserError, match="has battles"):
        transfer.export(store, tmp_path / "out")
        transfer.bring(store, tmp_path / "out")
    other = database.connect(f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(UserError, match="no export"):
        transfer.bring(other, tmp_path / "nothing")
    manifest = storage.read_json(tmp_path / "out" / "arena.json")
    changed = {**manifest, "ratings": {**manifest["ratings"], "oak-judge": 2000.0}}
    storage.write_json(tmp_path / "out" / "arena.json", changed)
    with pytest.raises(UserError, match="do not follow"):
        transfer.bring(other, tmp_path / "out")
    with other.connect() as connection:
        assert connection.execute(select(BATTLES)).all() == []
    storage.write_json(tmp_path / "out" / "arena.json", manifest)
    rows = storage.read_table(tmp_path / "out" / "votes.parquet")
    storage.write_table(tmp_path / "out" / "votes.parquet", rows.slice(1))
    with pytest.raises(UserError, match=r"votes\.parquet"):
        transfer.bring(other, tmp_path / "out")


def test_export_refuses_a_folder_with_files_and_ratings_that_do_not_follow(store: Engine, tmp_path: Path) -> None:
    voted(store, 3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        transfer.export(store, tmp_path / "full")
    with store.begin() as connection:
        connection.execute(delete(RATINGS))
        connection.execute(insert(RATINGS).values(judge="oak-judge", elo=1.0, votes=1))
    with pytest.raises(UserError, match=r"stored 1\.0"):
        transfer.export(store, tmp_path / "out")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("no url", "not a database URL"),
        ("mysql://host/x", "no support for mysql"),
        ("sqlite://", "votes need a file"),
        ("postgresql://nobody:secret@127.0.0.1:1/x", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        database.connect(url)
    assert "secret" not in str(refused.value)


def test_a_newer_database_is_refused(tmp_path: Path, store: Engine) -> None:
    store.dispose()
    with sqlite3.connect(tmp_path / "arena.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(UserError, match="not of this version"):
        database.connect(f"sqlite:///{tmp_path}/arena.db")


def test_votes_are_written_through_to_the_disk(store: Engine) -> None:
    with store.connect() as connection:
        assert connection.exec_driver_sql("pragma synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("pragma journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("pragma foreign_keys").scalar_one() == 1


def _board(engine: Engine) -> object:
    with database.reading(engine) as connection:
        votes, judges, styles = votes_of(connection), judges_of(connection), styles_of(connection)
    return leaderboard(votes, judges, styles, resamples=100)


def test_styles_are_read_once(store: Engine) -> None:
    voted(store, 4)
    with database.reading(store) as connection:
        assert len(styles_of(connection)) == 4 and len(styles_of(connection, after=3)) == 1
        assert styles_of(connection)["b0"][0].characters == len("critique A")


def test_a_battle_is_stored_whole_or_not_at_all(store: Engine) -> None:
    with pytest.raises(IntegrityError):
        fought(store, "b1", "oak-judge", "nobody")
    with store.connect() as connection:
        assert connection.execute(select(BATTLES)).all() == []
    assert battles.Texts("a", "b").sample is None

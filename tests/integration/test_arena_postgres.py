"""The arena's database on a real PostgreSQL: the same tables, the same votes, nothing changed afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError

from pipelines.core.errors import UserError
from serve.arena.store import database, transfer
from serve.arena.store.judges import enter
from serve.arena.store.reading import check, marks_of, votes_of
from serve.arena.store.tables import METADATA, RATINGS
from serve.arena.store.votes import vote
from serve.refused import Refused
from tests.integration.postgres import postgres
from tests.serve.arena.conftest import NAMES
from tests.serve.arena.filled import fought, voted

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as found:
        yield found


@pytest.fixture
def store(url: str) -> Iterator[Engine]:
    """A database without anything in it but three judges."""
    engine = database.connect(url)
    with engine.begin() as connection:
        connection.execute(text("drop schema public cascade"))
        connection.execute(text("create schema public"))
    database.migrate(engine)
    enter(engine, dict.fromkeys(NAMES, "fingerprint"), 1)
    yield engine
    engine.dispose()


def test_the_migrations_make_the_tables_that_the_code_knows(store: Engine) -> None:
    with store.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_ratings_are_those_of_a_replay_to_the_last_digit(store: Engine) -> None:
    voted(store, 200, marks=("agent",))
    with database.reading(store) as connection:
        assert check(connection).problems == [] and len(votes_of(connection)) == 200
        assert len(marks_of(connection)["agent"]) == 200


@pytest.mark.parametrize("table", ["battles", "judgments", "votes", "marks"])
def test_what_was_said_cannot_be_changed(store: Engine, table: str) -> None:
    voted(store, 3, marks=("agent",))
    for change in (f"delete from {table}", f"truncate {table} cascade"):
        with pytest.raises(DBAPIError, match="append-only"), store.begin() as connection:
            connection.execute(text(change))


def test_many_at_once_are_counted_once_each(store: Engine) -> None:
    for place in range(40):
        fought(store, f"b{place}", NAMES[place % 3], NAMES[(place + 1) % 3])
    answers: list[object] = []

    def work(offset: int) -> None:
        for place in range(40):
            try:
                answers.append(vote(store, f"b{(place + offset) % 40}", "ab"[offset % 2], "v", 50_000))  # type: ignore[arg-type]
            except Refused as refused:
                answers.append(refused.code)
            except Exception as exc:
                answers.append(exc)

    threads = [threading.Thread(target=work, args=(offset * 3 + offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one for one in answers if isinstance(one, Exception)] == []
    with database.reading(store) as connection:
        assert len(votes_of(connection)) == 40 and check(connection).problems == []


def test_an_export_goes_to_sqlite_and_back(store: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("export")
    voted(store, 50, marks=("agent",))
    with store.connect() as connection:
        before = sorted((row.judge, row.elo, row.votes) for row in connection.execute(select(RATINGS)))
    first = transfer.export(store, folder / "one")
    light = database.connect(f"sqlite:///{folder}/arena.db")
    transfer.bring(light, folder / "one")
    assert transfer.export(light, folder / "two")["digests"] == first["digests"]
    with pytest.raises(UserError, match="has battles"):
        transfer.bring(store, folder / "two")
    with store.begin() as connection:
        connection.execute(text("drop schema public cascade"))
        connection.execute(text("create schema public"))
    database.migrate(store)
    transfer.bring(store, folder / "two")
    with store.connect() as connection:
        assert sorted((row.judge, row.elo, row.votes) for row in connection.execute(select(RATINGS))) == before


def test_two_servers_may_start_at_once(url: str, store: Engine) -> None:
    with store.begin() as connection:
        connection.execute(text("drop schema public cascade"))
        connection.execute(text("create schema public"))
    wrong: list[Exception] = []

    def start() -> None:
        try:
            engine = database.connect(url)
            enter(engine, dict.fromkeys(NAMES, "fingerprint"), 1)
            engine.dispose()
        except Exception as exc:
            wrong.append(exc)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

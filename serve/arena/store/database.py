"""The database by its URL: SQLite in a file, or PostgreSQL. Its tables are made and renewed by alembic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pipelines.core.errors import UserError, one_line

BUSY_SECONDS = 30
MIGRATION_LOCK = 0x6172656E61  # any number: two servers that start at once must agree on it
READING = "openselene_reading"


def connect(url: str) -> Engine:
    """An engine for a database that has all its tables.

    Args:
        url: `sqlite:///PATH`, or `postgresql://…`.

    Raises:
        UserError: it is no such URL, cannot be reached, or belongs to a newer version.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError("not a database URL", where="database", fix="such as sqlite:///arena.db") from None
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise UserError(f"no support for {kind}", where="database", fix="give sqlite:///PATH or postgresql://…")
    if kind == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise UserError("votes need a file", where="database", fix="such as sqlite:///arena.db")
        Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        engine = _sqlite(url) if kind == "sqlite" else create_engine(url, pool_size=10, pool_pre_ping=True)
        migrate(engine)
    except (SQLAlchemyError, NoSuchModuleError, ImportError) as exc:
        cause = getattr(exc, "orig", None) or exc
        raise UserError(f"cannot be used: {one_line(cause)}", where=f"database {shown(url)}") from None
    return engine


def shown(url: str) -> str:
    """A database's URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def folder_of(url: str) -> Path | None:
    """The folder of an SQLite file; None for a server."""
    parsed = make_url(url)
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    return Path(str(parsed.database)).absolute().parent if is_file else None


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions itself, below
        for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on"):
            connection.execute(f"pragma {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later would fail where another one has written in between.
        reading = connection.get_execution_options().get(READING)
        connection.exec_driver_sql("begin" if reading else "begin immediate")

    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the database as it is at its beginning, and changes nothing."""
    options: dict[str, Any] = {READING: True}
    if engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def migrate(engine: Engine) -> None:
    """Bring the tables to what this version needs.

    Raises:
        UserError: they are of a newer version.
    """
    from alembic import command
    from alembic.util import CommandError

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
        config = alembic_config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            raise UserError(
                f"its tables are not of this version: {one_line(exc)}",
                where=f"database {shown(str(engine.url))}",
                fix="use the version of openselene that made them, or a newer one",
            ) from None


def alembic_config() -> Any:
    """alembic's config for the packaged migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config

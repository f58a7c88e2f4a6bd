"""People's answers, in one SQLite file: a line an annotator, pair and question, the last answer counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    DateTime,
    Engine,
    Float,
    ForeignKey,
    String,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pipelines.core import storage
from pipelines.core.errors import UserError, one_line
from pipelines.core.storage import Place, is_local
from pipelines.experiments.audit.names import known_as

QUESTIONS = ("side_1", "side_2", "substance_1", "substance_2", "better")
SUBSTANCE = ("1", "2", "3", "4", "5")
BETTER = ("1", "2", "equal")
UNCLEAR = "unclear"
ANOTHER_FILE = "set audit.answers to a file of its own"


class Base(DeclarativeBase):
    """The tables."""


class About(Base):
    """Which curated pairs the answers are about: those about others must not meet them."""

    __tablename__ = "about"
    fingerprint: Mapped[str] = mapped_column(String, primary_key=True)


class Annotator(Base):
    """Someone who answers, by the name he gives himself."""

    __tablename__ = "annotator"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(60), unique=True)


class Answer(Base):
    """One answer."""

    __tablename__ = "answer"
    __table_args__ = (UniqueConstraint("annotator_id", "pair", "question"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    pair: Mapped[str] = mapped_column(String(64))
    question: Mapped[str] = mapped_column(String(20))
    value: Mapped[str] = mapped_column(String(200))
    seconds: Mapped[float] = mapped_column(Float)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Answers:
    """The database of one audit.

    Args:
        place: its file, on a local disk.
        fingerprint: of what they are about.

    Raises:
        UserError: the place is in a store, is no database of answers or cannot be read, or the answers are about other
            pairs.
    """

    def __init__(self, place: Place, fingerprint: str) -> None:
        if not is_local(place):
            fix = "set audit.answers to a local file"
            raise UserError("a database cannot be in a store", where=str(place), fix=fix)
        self.place = place
        _check_file(Path(str(place)))
        self.engine = create_engine(URL.create("sqlite", database=str(place)), connect_args={"timeout": 30})
        try:
            self._open(fingerprint)
        except UserError:
            self.close()
            raise

    def _open(self, fingerprint: str) -> None:
        """Make the tables where there are none, and find out what the answers are about."""
        with self._plainly():
            if not _is_ours(self.engine):
                raise UserError("is the database of another program", where=str(self.place), fix=ANOTHER_FILE)
            self.engine.dispose()  # settings are for our own file alone: some of them stay in it
            event.listen(self.engine, "connect", _safe)
            Base.metadata.create_all(self.engine)
        with self._session() as session:
            known = session.scalars(select(About.fingerprint)).all()
            if not known:
                session.add(About(fingerprint=fingerprint))
            elif fingerprint not in known:
                fix = "move it away, or set audit.answers to another file"
                raise UserError("holds answers about other pairs", where=str(self.place), fix=fix)

    def close(self) -> None:
        """Let go of the file."""
        self.engine.dispose()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._plainly(), Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Say in one line what the database has against it."""
        try:
            yield
        except SQLAlchemyError as exc:
            cause = one_line(getattr(exc, "orig", None) or exc)
            fix = f"see that it can be written and is not damaged, or {ANOTHER_FILE}"
            raise UserError(f"cannot be used as a database: {cause}", where=str(self.place), fix=fix) from None

    def save(self, annotator: str, pair: str, values: Mapping[str, str], seconds: float) -> None:
        """Keep the answers of one annotator about one pair; earlier ones are replaced. All of them, or none."""
        now, annotator = datetime.now(UTC), known_as(annotator)
        with self._session() as session:
            session.execute(insert(Annotator).values(name=annotator).on_conflict_do_nothing())
            who = session.scalars(select(Annotator.id).where(Annotator.name == annotator)).one()
            for question, value in values.items():
                new = {"value": value, "seconds": seconds, "at": now}
                line = insert(Answer).values(annotator_id=who, pair=pair, question=question, **new)
                session.execute(
                    line.on_conflict_do_update(index_elements=["annotator_id", "pair", "question"], set_=new)
                )

    def of(self, annotator: str) -> dict[str, dict[str, str]]:
        """Pair -> question -> value, of one annotator."""
        return {pair: values for (name, pair), values in self._all().items() if name == known_as(annotator)}

    def table(self) -> list[dict[str, Any]]:
        """A line an annotator and pair, by name: all questions."""
        return [{"annotator": name, "pair": pair, **values} for (name, pair), values in sorted(self._all().items())]

    def _all(self) -> dict[tuple[str, str], dict[str, str]]:
        # A file of an earlier version may have one person under several spellings: his last answer counts, then too.
        wanted = select(Annotator.name, Answer.pair, Answer.question, Answer.value).join(Annotator)
        wanted = wanted.order_by(Answer.at, Answer.id)
        found: dict[tuple[str, str], dict[str, str]] = {}
        with self._session() as session:
            for name, pair, question, value in session.execute(wanted):
                found.setdefault((known_as(name) or ascii(name), pair), {})[question] = value
        return found


def _check_file(path: Path) -> None:
    """Make the folder of the file.

    Raises:
        UserError: the place is a folder, or cannot have a file.
    """
    try:
        is_folder = storage.is_folder(path)
        storage.make_folder(path.parent)
    except OSError as exc:
        what = f"cannot have a file: {exc.strerror or one_line(exc)}"
        fix = "set audit.answers to a file in a folder that can be written"
        raise UserError(what, where=str(path), fix=fix) from None
    if is_folder:
        fix = f"set audit.answers to a file, such as {path / 'answers.sqlite'}"
        raise UserError("is a folder, and answers need a file", where=str(path), fix=fix)


def _is_ours(engine: Engine) -> bool:
    """Whether a database has our tables, or nothing; one that was stopped while they were made has a part of them."""
    there = inspect(engine)
    names, own = set(there.get_table_names()), Base.metadata.tables
    if not names <= own.keys() and not own.keys() <= names:
        return False
    columns = {name: {one["name"] for one in there.get_columns(name)} for name in own.keys() & names}
    return all(found == set(own[name].columns.keys()) for name, found in columns.items())


def _safe(connection: Any, _: Any) -> None:
    """A power cut loses no answer that was confirmed; and all is in one file, which can be copied."""
    cursor = connection.cursor()
    for setting in ("journal_mode=DELETE", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()

"""The tables. Battles, judgments, votes and marks are only ever added to; triggers of the first migration see to it."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

ID, NAME = 32, 64  # characters of a battle's id and of a judge's name
APPEND_ONLY = ("battles", "judgments", "votes", "marks")

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

JUDGES = Table(
    "judges",
    METADATA,
    Column("name", String(NAME), primary_key=True),
    # What it is: a name never changes its meaning, for its votes would then be of two judges.
    Column("fingerprint", String(64), nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    Column("retired_ms", BigInteger),
)
BATTLES = Table(
    "battles",
    METADATA,
    Column("id", String(ID), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("visitor", String(32), nullable=False),
    Column("sample", String(200)),  # id of the sample; null: the visitor's own texts
    Column("content", String(32), nullable=False),  # digest of the texts
    Column("instruction", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("response", Text, nullable=False),
    Column("rubric", Text, nullable=False),
    Column("status", String(16), nullable=False),  # ok | failed
)
JUDGMENTS = Table(
    "judgments",
    METADATA,
    Column("battle", String(ID), ForeignKey("battles.id"), primary_key=True),
    Column("side", String(1), primary_key=True),
    Column("judge", String(NAME), ForeignKey("judges.name"), nullable=False),
    Column("verdict", String(64)),
    Column("critique", Text, nullable=False),
    Column("status", String(64), nullable=False),  # ok | completed | error:<reason> | stopped
    Column("seconds", Double, nullable=False),
    CheckConstraint("side in ('A', 'B')", name="side"),
    Index("ix_judgments_judge", "judge"),
)
VOTES = Table(
    "votes",
    METADATA,
    # Without a gap: each vote takes the next number within its own transaction.
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("battle", String(ID), ForeignKey("battles.id"), nullable=False, unique=True),
    Column("choice", String(8), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("visitor", String(32), nullable=False),
    # The acknowledgement: what the visitor was told, written with the vote.
    Column("elo_a_before", Double, nullable=False),
    Column("elo_b_before", Double, nullable=False),
    Column("elo_a", Double, nullable=False),
    Column("elo_b", Double, nullable=False),
    CheckConstraint("choice in ('a', 'b', 'tie', 'both_bad')", name="choice"),
)
MARKS = Table(
    "marks",
    METADATA,
    Column("battle", String(ID), ForeignKey("votes.battle"), primary_key=True),
    Column("kind", String(32), primary_key=True),
)
RATINGS = Table(
    "ratings",
    METADATA,
    Column("judge", String(NAME), ForeignKey("judges.name"), primary_key=True),
    Column("elo", Double, nullable=False),
    Column("votes", Integer, nullable=False),
)
# One row: who votes holds it until the vote is committed, so that votes have an order on every database.
LAST = Table(
    "last",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, nullable=False),
)

"""The first tables, and triggers that keep what visitors did from being changed or removed."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables. There is no way down: votes are kept."""
    op.create_table(
        "judges",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("added_ms", sa.BigInteger, nullable=False),
        sa.Column("retired_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("name", name="pk_judges"),
    )
    op.create_table(
        "battles",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("visitor", sa.String(32), nullable=False),
        sa.Column("sample", sa.String(200)),
        sa.Column("content", sa.String(32), nullable=False),
        sa.Column("instruction", sa.Text, nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("response", sa.Text, nullable=False),
        sa.Column("rubric", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_battles"),
    )
    op.create_table(
        "judgments",
        sa.Column("battle", sa.String(32), nullable=False),
        sa.Column("side", sa.String(1), nullable=False),
        sa.Column("judge", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(64)),
        sa.Column("critique", sa.Text, nullable=False),
        sa.Column("status", sa.String(64), nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("battle", "side", name="pk_judgments"),
        sa.ForeignKeyConstraint(["battle"], ["battles.id"], name="fk_judgments_battle"),
        sa.ForeignKeyConstraint(["judge"], ["judges.name"], name="fk_judgments_judge"),
        sa.CheckConstraint("side in ('A', 'B')", name="ck_judgments_side"),
    )
    op.create_index("ix_judgments_judge", "judgments", ["judge"])
    op.create_table(
        "votes",
        sa.Column("sequence", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("battle", sa.String(32), nullable=False),
        sa.Column("choice", sa.String(8), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("visitor", sa.String(32), nullable=False),
        sa.Column("elo_a_before", sa.Double, nullable=False),
        sa.Column("elo_b_before", sa.Double, nullable=False),
        sa.Column("elo_a", sa.Double, nullable=False),
        sa.Column("elo_b", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_votes"),
        sa.ForeignKeyConstraint(["battle"], ["battles.id"], name="fk_votes_battle"),
        sa.UniqueConstraint("battle", name="uq_votes_battle"),
        sa.CheckConstraint("choice in ('a', 'b', 'tie', 'both_bad')", name="ck_votes_choice"),
    )
    op.create_table(
        "marks",
        sa.Column("battle", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("battle", "kind", name="pk_marks"),
        sa.ForeignKeyConstraint(["battle"], ["votes.battle"], name="fk_marks_battle"),
    )
    op.create_table(
        "ratings",
        sa.Column("judge", sa.String(64), nullable=False),
        sa.Column("elo", sa.Double, nullable=False),
        sa.Column("votes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("judge", name="pk_ratings"),
        sa.ForeignKeyConstraint(["judge"], ["judges.name"], name="fk_ratings_judge"),
    )
    last = op.create_table(
        "last",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_last"),
    )
    op.bulk_insert(last, [{"id": 1, "sequence": 0}])
    for table in ("battles", "judgments", "votes", "marks"):
        _append_only(table)


def _append_only(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for action in ("update", "delete"):
            op.execute(
                f"create trigger {table}_no_{action} before {action} on {table} "
                f"begin select raise(abort, '{table} is append-only'); end"
            )
    else:
        op.execute(
            f"create function {table}_append_only() returns trigger language plpgsql as "
            f"$$ begin raise exception '{table} is append-only'; end $$"
        )
        op.execute(
            f"create trigger {table}_append_only before update or delete or truncate on {table} "
            f"for each statement execute function {table}_append_only()"
        )

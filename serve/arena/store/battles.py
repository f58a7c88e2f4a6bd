"""Battles as they are stored: two judgments, or the failure of one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, insert

from serve.arena.store.tables import BATTLES, JUDGMENTS


@dataclass(frozen=True)
class Texts:
    """What is judged.

    Attributes:
        instruction: what the response answers.
        response: to be judged.
        rubric: by what; may be empty.
        context: what the instruction speaks of; may be empty.
        sample: id of the sample they are; None: a visitor's own.
    """

    instruction: str
    response: str
    rubric: str = ""
    context: str = ""
    sample: str | None = None


@dataclass(frozen=True)
class Judgment:
    """What one judge said.

    Attributes:
        judge: its name.
        verdict: one of the scale; None if it failed.
        critique: as written.
        status: `ok`, `completed` (the verdict line was put there), `stopped` (the other judge had failed) or
            `error:<reason>`.
        seconds: how long it took.
    """

    judge: str
    verdict: str | None
    critique: str
    status: str
    seconds: float


@dataclass(frozen=True)
class Battle:
    """A battle that was fought."""

    id: str
    at_ms: int
    visitor: str
    content: str
    texts: Texts
    a: Judgment
    b: Judgment

    @property
    def failed(self) -> bool:
        """There is no verdict of both, so that nobody can vote."""
        return self.a.verdict is None or self.b.verdict is None


def add(engine: Engine, battle: Battle) -> None:
    """Store a battle."""
    texts = battle.texts
    with engine.begin() as connection:
        connection.execute(
            insert(BATTLES).values(
                id=battle.id,
                at_ms=battle.at_ms,
                visitor=battle.visitor,
                sample=texts.sample,
                content=battle.content,
                instruction=texts.instruction,
                context=texts.context,
                response=texts.response,
                rubric=texts.rubric,
                status="failed" if battle.failed else "ok",
            )
        )
        connection.execute(
            insert(JUDGMENTS),
            [
                {
                    "battle": battle.id,
                    "side": side,
                    "judge": one.judge,
                    "verdict": one.verdict,
                    "critique": one.critique,
                    "status": one.status,
                    "seconds": one.seconds,
                }
                for side, one in (("A", battle.a), ("B", battle.b))
            ],
        )

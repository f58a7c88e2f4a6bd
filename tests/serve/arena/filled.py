"""Battles and votes written straight into a database."""

from __future__ import annotations

from sqlalchemy import Engine

from serve.arena.ratings.vote import CHOICES
from serve.arena.store import battles
from serve.arena.store.battles import Battle, Judgment, Texts
from serve.arena.store.votes import vote


def fought(
    engine: Engine,
    name: str,
    a: str,
    b: str,
    *,
    visitor: str = "v",
    at_ms: int = 1000,
    content: str = "content",
    failed: str = "",
) -> None:
    """A battle; `failed` names the side that failed."""
    sides = [
        Judgment(judge, None, "", "error:no_answer", 0.1)
        if side in failed
        else Judgment(judge, "3", f"critique {side}", "ok", 0.1)
        for side, judge in (("A", a), ("B", b))
    ]
    battles.add(engine, Battle(name, at_ms, visitor, content, Texts("instruction", "response"), *sides))


def voted(engine: Engine, count: int, *, marks: tuple[str, ...] = ()) -> None:
    """Battles b0, b1, ... of three judges in turn, each with a vote."""
    names = ("oak-judge", "pine-judge", "yew-judge")
    for place in range(count):
        a, b = names[place % 3], names[(place + 1 + place % 2) % 3]
        fought(engine, f"b{place}", a, b, visitor=f"v{place}", content=str(place))
        choice = CHOICES[(place * 7 + place // 5) % 4]
        vote(engine, f"b{place}", choice, f"v{place}", 100_000 + place, marks)

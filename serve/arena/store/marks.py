"""Marks beside votes: what is odd about one. A marked vote counts like any other; the audit shows what it moves.

| kind | meaning |
|---|---|
| `fast` | it came sooner than anybody can read two critiques |
| `duplicate` | the visitor has voted on these texts before |
| `burst` | the visitor has voted very often of late |
| `moved` | it came from another address than the request for the battle |
| `agent` | the browser says that it is a program |
| `trap` | a field was filled in that people do not see |
| `named` | a critique holds the name of a judge of this battle, so that the visitor may have known |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, select

from serve.arena.store.tables import BATTLES, JUDGMENTS, VOTES

FAST_MS = 3_000
BURST, BURST_MS = 20, 600_000
PROGRAMS = re.compile(
    r"bot\b|crawl|spider|curl|wget|python|httpx|aiohttp|requests|headless|phantom|selenium|playwright|puppeteer"
    r"|java/|go-http|okhttp|axios|node-fetch|libwww",
    re.IGNORECASE,
)


def seen(connection: Connection, battle: str, visitor: str, now_ms: int, names: Sequence[str] = ()) -> list[str]:
    """Marks that follow from the battle, whose judges have these names, and from the votes so far."""
    fought = connection.execute(select(BATTLES).where(BATTLES.c.id == battle)).one()
    mine = select(func.count()).select_from(VOTES).where(VOTES.c.visitor == visitor)
    same = mine.join(BATTLES, BATTLES.c.id == VOTES.c.battle).where(BATTLES.c.content == fought.content)
    found = []
    if now_ms - fought.at_ms < FAST_MS:
        found.append("fast")
    if fought.visitor != visitor:
        found.append("moved")
    if connection.execute(same).scalar_one():
        found.append("duplicate")
    if connection.execute(mine.where(VOTES.c.at_ms > now_ms - BURST_MS)).scalar_one() >= BURST:
        found.append("burst")
    critiques = connection.execute(select(JUDGMENTS.c.critique).where(JUDGMENTS.c.battle == battle)).scalars()
    return [*found, "named"] if names_itself(list(critiques), names) else found


def told(headers: Mapping[str, str], trap: str) -> list[str]:
    """Marks that the request tells by itself."""
    agent = headers.get("user-agent", "")
    found = ["agent"] if not agent or PROGRAMS.search(agent) else []
    return [*found, "trap"] if trap else found


def names_itself(critiques: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a critique holds a name, as a word of its own, whatever its case."""
    words = [rf"(?<!\w){re.escape(name)}(?!\w)" for name in names if name]
    return any(re.search(word, critique, re.IGNORECASE) for word in words for critique in critiques)

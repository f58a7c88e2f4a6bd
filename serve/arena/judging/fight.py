"""A battle: who fights is drawn with the arena's key, both judge at once, and both are shown at once."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping, Sequence

from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from serve.arena.judging.judges import ArenaJudge, Failed
from serve.arena.secret import Secret
from serve.arena.store.battles import Battle, Judgment, Texts

log = logging.getLogger("openselene.arena")


def drawn(secret: Secret, battle: str, judges: Sequence[str]) -> tuple[str, str]:
    """Who is A and who is B: all ordered pairs are equally likely, and nobody without the key can tell which it is."""
    names = sorted(judges)
    number = secret.draw("pair", battle, len(names) * (len(names) - 1))
    first, second = divmod(number, len(names) - 1)
    return names[first], names[second + (second >= first)]


async def fight(
    secret: Secret,
    judges: Mapping[str, ArenaJudge],
    texts: Texts,
    visitor: str,
    seconds: float,
) -> Battle:
    """Let two judges judge; where one fails, the other is stopped and the battle has failed.

    Args:
        secret: the arena's key.
        judges: those that fight.
        texts: what they judge.
        visitor: keyed hash of who asked.
        seconds: that they have.
    """
    battle = secrets.token_hex(16)
    names = drawn(secret, battle, list(judges))
    tasks = [asyncio.create_task(_judge(name, judges[name], texts, seconds)) for name in names]
    try:
        for done in asyncio.as_completed(tasks):
            if (await done).verdict is None:
                break
    finally:
        for task in tasks:
            task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    a, b = (
        one if isinstance(one, Judgment) else Judgment(name, None, "", "stopped", 0.0)
        for name, one in zip(names, ended, strict=True)
    )
    content = digest(texts.instruction, texts.context, texts.response, texts.rubric)
    return Battle(battle, int(time.time() * 1000), visitor, content, texts, a, b)


async def _judge(name: str, judge: ArenaJudge, texts: Texts, seconds: float) -> Judgment:
    """One judgment. Whatever goes wrong costs this battle, and is told in the log: a judge may be anybody's program."""
    start = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            said = await judge(texts)
    except Exception as exc:
        reason = _reason(exc)
        log.warning("judge %s failed: %s", name, reason)
        return Judgment(name, None, "", f"error:{reason}"[:64], time.monotonic() - start)
    return Judgment(name, said.verdict, said.critique, said.status, time.monotonic() - start)


def _reason(exc: Exception) -> str:
    if isinstance(exc, Failed):
        return exc.reason
    if isinstance(exc, TimeoutError):
        return "timeout"
    return "refused" if isinstance(exc, UserError) else type(exc).__name__

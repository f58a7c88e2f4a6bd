"""The arena's API: a sample, a battle, a vote, the leaderboard."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy import Engine

from serve.access.limits import Limits
from serve.arena.board import Board
from serve.arena.door import too_many
from serve.arena.judging.fight import fight
from serve.arena.judging.judges import ArenaJudge
from serve.arena.ratings.leaderboard import Leaderboard
from serve.arena.schemas import (
    BattleRequest,
    BattleResponse,
    Named,
    SampleResponse,
    Side,
    VoteRequest,
    VoteResponse,
)
from serve.arena.secret import Secret
from serve.arena.settings import ArenaConfig
from serve.arena.store import battles, marks, votes
from serve.arena.store.battles import Texts
from serve.errors import OwnErrors, documented
from serve.live import judged
from serve.refused import Refused

NEVER_KEPT = {"Cache-Control": "no-store"}
router = APIRouter(route_class=OwnErrors, prefix="/api", tags=["arena"])


@dataclass
class Arena:
    """What the routes share: `app.state.arena`.

    Attributes:
        config: of the arena.
        engine: of the database.
        secret: the key.
        judges: those that fight, by name.
        samples: for visitors who bring no texts.
        board: the leaderboard.
        limits: counts of visitors.
        under_way: battles that are judged now.
        picture: the last drawn history, and of which leaderboard it is.
        by_name: samples by their ids.
        known_as: judge -> names by which a critique would give it away.
    """

    config: ArenaConfig
    engine: Engine
    secret: Secret
    judges: Mapping[str, ArenaJudge]
    samples: list[Texts]
    board: Board
    limits: Limits
    under_way: int = 0
    picture: tuple[Leaderboard, str] | None = None
    by_name: dict[str, Texts] = field(default_factory=dict)
    known_as: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_name = {str(one.sample): one for one in self.samples}
        self.known_as = {name: judge.known_as(name) for name, judge in self.config.judges.items()}

    @asynccontextmanager
    async def place(self, visitor: str) -> AsyncIterator[None]:
        """A place among the battles under way.

        Raises:
            Refused: 429 or 503, there is none.
        """
        name, most = f"battles:{visitor}", self.config.limits.concurrent_battles
        if not self.limits.enter(name, most):
            raise too_many("wait until your other battles are judged", 2)
        try:
            if self.under_way >= self.config.battles_at_once:
                raise Refused(503, "arena_full", "all judges are busy", retry_after=5)
            self.under_way += 1
            try:
                yield
            finally:
                self.under_way -= 1
        finally:
            self.limits.leave(name)


def arena_of(request: Request) -> Arena:
    """The app's arena."""
    found: Arena = request.app.state.arena
    return found


async def _count(request: Request, what: str, per_minute: int) -> str:
    """Count what a visitor does; returns the visitor.

    Raises:
        Refused: 429, too much of it.
    """
    visitor: str = request.scope["visitor"]
    if wait := await arena_of(request).limits.hit(f"{what}:{visitor}", per_minute):
        raise too_many(f"at most {per_minute} {what} a minute", wait)
    return visitor


def _json(found: BaseModel) -> Response:
    return Response(found.model_dump_json(), media_type="application/json", headers=NEVER_KEPT)


@router.get("/sample", response_model=SampleResponse, responses=documented(404, 429))
async def sample(request: Request) -> Response:
    """Texts to be judged, for visitors who bring none."""
    arena = arena_of(request)
    if not arena.samples:
        raise Refused(404, "no_samples", "this arena has no samples")
    number = arena.secret.draw("sample", secrets.token_hex(16), len(arena.samples))
    return _json(SampleResponse(**asdict(arena.samples[number])))


@router.post("/battle", response_model=BattleResponse, responses=documented(404, 422, 429, 503))
async def battle(request: Request, body: BattleRequest) -> Response:
    """Let two hidden judges judge. The answer tells nothing of who they are; a vote within the hour does."""
    arena, began = arena_of(request), time.monotonic()
    limits = arena.config.limits
    visitor = await _count(request, "battles", limits.battles_per_minute)
    texts = _texts(arena, body)
    async with arena.place(visitor):
        fighting = fight(arena.secret, arena.judges, texts, visitor, arena.config.battle_s)
        fought = await judged(request, fighting)  # whose judges are free again if the visitor leaves
        await asyncio.to_thread(battles.add, arena.engine, fought)
    await _on_the_beat(began, arena.config.beat_s)
    if fought.a.verdict is None or fought.b.verdict is None:
        # Which of the two is not said: the next battle may have it again.
        raise Refused(503, "judge_failed", "a judge has failed, so that there is nothing to vote on; try again")
    return _json(
        BattleResponse(
            battle=arena.secret.token(fought.id),
            scale=arena.config.scale,
            a=Side(verdict=fought.a.verdict, critique=fought.a.critique),
            b=Side(verdict=fought.b.verdict, critique=fought.b.critique),
        )
    )


@router.post("/vote", response_model=VoteResponse, responses=documented(403, 404, 422, 429))
async def vote(request: Request, body: VoteRequest) -> Response:
    """Vote on a battle, once; the answer says who the judges were. Sent again, it gets the same answer."""
    arena = arena_of(request)
    visitor = await _count(request, "votes", arena.config.limits.votes_per_minute)
    name = arena.secret.battle(body.battle, arena.config.vote_minutes * 60)
    told = await asyncio.to_thread(
        votes.vote,
        arena.engine,
        name,
        body.choice,
        visitor,
        int(time.time() * 1000),
        marks.told(request.headers, body.website),
        arena.known_as,
    )
    return _json(
        VoteResponse(
            vote=told.sequence,
            repeated=told.repeated,
            a=Named(judge=told.judge_a, elo_before=told.elo_a[0], elo=told.elo_a[1]),
            b=Named(judge=told.judge_b, elo_before=told.elo_b[0], elo=told.elo_b[1]),
        )
    )


@router.get("/leaderboard", responses=documented(429))
async def standings(request: Request) -> Response:
    """The leaderboard as JSON, without the history of the ratings."""
    shown = await arena_of(request).board.shown()
    said: dict[str, Any] = {**asdict(replace(shown.board, history={})), "failures": shown.failures}
    del said["history"]
    return JSONResponse(said, headers=NEVER_KEPT)


def _texts(arena: Arena, body: BattleRequest) -> Texts:
    if body.sample is not None:
        if found := arena.by_name.get(body.sample):
            return found
        raise Refused(404, "no_such_sample", "there is no such sample", param="sample")
    for name in ("instruction", "context", "response", "rubric"):
        if len(getattr(body, name)) > arena.config.text_characters:
            said = f"{name} has more than {arena.config.text_characters} characters"
            raise Refused(422, "field_too_long", said, param=name)
        if "\0" in getattr(body, name) or not _is_unicode(getattr(body, name)):
            raise Refused(422, "invalid_request", f"{name} holds what is no text", param=name)
    return Texts(body.instruction, body.response, body.rubric, body.context)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no database takes
        return False
    return True


async def _on_the_beat(began: float, beat_s: float) -> None:
    """Wait until a multiple of the beat has passed."""
    if beat_s:
        await asyncio.sleep(-(time.monotonic() - began) % beat_s)

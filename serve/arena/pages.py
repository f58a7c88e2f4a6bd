"""The arena's pages: HTML by Jinja, one script, and a picture of how ratings went. Nothing comes from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.evaluation.report.plots import COLOURS, svg
from serve import page
from serve.arena.ratings.elo import PRELIMINARY, START
from serve.arena.routes import arena_of

FOLDER = Path(__file__).with_name("page")
TYPES = {
    "arena.js": "text/javascript; charset=utf-8",
    "arena.css": "text/css; charset=utf-8",
}
SHARED = ("style.css", "icon.svg")  # of the judge's page
# The picture has colours of its own for light and dark; a page that shows it as an image runs nothing of it.
PICTURE = {**page.HEADERS, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
INK = "<style>svg{color:#1c2024}@media (prefers-color-scheme:dark){svg{color:#e8eaed}}</style>"
DRAWN = 8  # judges in the picture: more lines cannot be told apart
POINTS = 400  # of a line
router = APIRouter(include_in_schema=False)


@router.get("/")
async def arena(request: Request) -> Response:
    """Where visitors vote."""
    config = arena_of(request).config
    return _page("arena.html", scale=config.scale, samples=bool(config.samples), most=config.text_characters)


@router.get("/leaderboard")
async def leaderboard(request: Request) -> Response:
    """The ratings."""
    shown = await arena_of(request).board.shown()
    return _page("leaderboard.html", board=shown.board, failures=shown.failures, preliminary=PRELIMINARY)


@router.get("/history.svg")
async def history(request: Request) -> Response:
    """How the ratings went, vote by vote."""
    shared = arena_of(request)
    board = (await shared.board.shown()).board
    if shared.picture is None or shared.picture[0] is not board:
        lines = {one.judge: board.history[one.judge] for one in board.standings if one.votes}
        shared.picture = board, await asyncio.to_thread(drawn, lines)
    return Response(shared.picture[1], media_type="image/svg+xml", headers=PICTURE)


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """A file of the pages; only names of the lists are looked up."""
    if name in SHARED:
        return Response((page.FOLDER / name).read_bytes(), media_type=page.TYPES[name], headers=page.HEADERS)
    if name in TYPES:
        return Response((FOLDER / name).read_bytes(), media_type=TYPES[name], headers=page.HEADERS)
    raise HTTPException(status_code=404, detail="no such file")


def drawn(lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Elo over the votes, of the first judges, as SVG text."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (judge, points) in enumerate(list(lines.items())[:DRAWN]):
            kept = [*points[:: max(1, len(points) // POINTS)], points[-1]]
            x = [max(0, points[0][0] - 1), *(place for place, _ in kept)]
            y = [START, *(rating for _, rating in kept)]
            style = "-" if number < len(COLOURS) else "--"
            axes.plot(x, y, color=COLOURS[number % len(COLOURS)], ls=style, lw=1.6, drawstyle="steps-post", label=judge)
        axes.set_xlabel("votes")
        axes.set_ylabel("Elo")
        axes.grid(alpha=0.15, lw=0.6)
        if lines:
            figure.legend(loc="outside upper left", ncols=2)

    text = svg("history", draw, 3.4)
    head, mark, rest = text.partition(">")
    return f"{head}{mark}{INK}{rest}"


def _page(name: str, **values: Any) -> Response:
    text = _environment().get_template(name).render(values)
    return Response(text, media_type="text/html; charset=utf-8", headers={**page.HEADERS, "Cache-Control": "no-store"})


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("serve.arena", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.0%}"
    environment.filters["points"] = lambda value: "–" if value is None else f"{value:.0f}"
    environment.filters["signed"] = lambda value: f"{value:+.0f}".replace("-", "−")
    environment.filters["half"] = lambda value: f"{value:g}"
    return environment

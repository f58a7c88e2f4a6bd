"""The arena as `openselene arena` starts it, with the embedded model in two wordings: no stand-in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from sqlalchemy import select

from serve.arena.settings import PACKAGED
from serve.arena.store import database
from serve.arena.store.reading import check
from serve.arena.store.tables import JUDGMENTS
from tests.integration.arena_server import ArenaServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]
KEY = "a key of the test, of forty characters.."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arena")


@pytest.fixture(scope="module")
def arena(folder: Path) -> Iterator[ArenaServer]:
    judges = yaml.safe_load(PACKAGED.read_text())["judges"]
    server = ArenaServer(folder, f"sqlite:///{folder}/arena.db", judges, KEY, beat_s=0.5)
    yield server
    server.kill()


def test_real_judges_fight_a_vote_names_them_and_the_board_moves(arena: ArenaServer, folder: Path) -> None:
    with httpx.Client(base_url=arena.address, timeout=240) as http:
        critiques = []
        for place in range(4):
            given = http.get("/api/sample").json()
            found = http.post("/api/battle", json={"sample": given["sample"]}).json()
            assert {found["a"]["verdict"], found["b"]["verdict"]} <= set(found["scale"])
            assert "smollm" not in str(found)
            critiques += [found["a"]["critique"], found["b"]["critique"]]
            choice = ("a", "b", "tie", "both_bad")[place]
            told = http.post("/api/vote", json={"battle": found["battle"], "choice": choice}).json()
            assert {told["a"]["judge"], told["b"]["judge"]} == {"smollm2-compact", "smollm2-original"}
        assert all(critique.strip() for critique in critiques), critiques
        board = http.get("/api/leaderboard").json()
        assert board["votes"] == 4 and sum(one["elo"] for one in board["standings"]) == pytest.approx(2400)
        own = {"instruction": "What is 2 + 2?", "response": "4", "rubric": "1: wrong. 5: right."}
        assert http.post("/api/battle", json=own).status_code == 200
    assert arena.stop() in (0, -signal.SIGTERM)  # uvicorn raises the signal again once it has shut down
    engine = database.connect(f"sqlite:///{folder}/arena.db")
    with database.reading(engine) as connection:
        assert check(connection).problems == []
        rows = connection.execute(select(JUDGMENTS.c.status, JUDGMENTS.c.seconds)).all()
    engine.dispose()
    assert len(rows) == 10 and {row.status for row in rows} <= {"ok", "completed"}
    print("seconds a judgment:", [round(row.seconds, 1) for row in rows])

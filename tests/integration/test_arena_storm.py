"""50 voters at once and kill -9 of the server, on SQLite and PostgreSQL: no vote lost, none counted twice.

The judges are a stand-in, with no model behind it: what is tested are votes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select

from serve.arena.ratings.leaderboard import Leaderboard, leaderboard
from serve.arena.ratings.vote import CHOICES
from serve.arena.secret import Secret
from serve.arena.store import database, transfer
from serve.arena.store.reading import check, judges_of, styles_of, votes_of
from serve.arena.store.tables import VOTES
from tests.integration.arena_server import ArenaServer, StandIn, stand_ins
from tests.integration.postgres import postgres

pytestmark = [pytest.mark.integration, pytest.mark.slow]
VOTERS, ROUNDS, KILLS = 50, 8, 3
KEY = "a key of the test, of forty characters.."
NAMES = ("oak-judge", "pine-judge", "yew-judge", "elm-judge")


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    standing = StandIn(tmp_path_factory.mktemp("stand_in"))
    yield stand_ins(standing.address, *NAMES)
    standing.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/arena.db"
    else:
        with postgres(folder) as found:
            yield found


class Storm:
    """Voters who never give up: what was not acknowledged is sent again.

    Attributes:
        acknowledged: (token, choice, answer) of each vote.
        lost: requests that ended without an answer.
    """

    def __init__(self, server: ArenaServer) -> None:
        self.server = server
        self.acknowledged: list[tuple[str, str, dict[str, Any]]] = []
        self.lost = 0

    async def voter(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self.server.address, timeout=60) as http:
            for place in range(ROUNDS):
                texts = {"instruction": f"Prompt {number}", "response": f"Response {place}"}
                token = (await self.until_answered(http, "/api/battle", texts))["battle"]
                choice = CHOICES[(number + place) % 4]
                told = await self.until_answered(http, "/api/vote", {"battle": token, "choice": choice})
                self.acknowledged.append((token, choice, told))

    async def until_answered(self, http: httpx.AsyncClient, path: str, body: dict[str, str]) -> dict[str, Any]:
        while True:
            try:
                answer = await http.post(path, json=body)
            except httpx.TransportError:
                self.lost += 1
                await asyncio.sleep(0.1)
                continue
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

    async def killer(self) -> None:
        """kill -9 in the middle of the votes, and a new server."""
        for kill in range(1, KILLS + 1):
            while len(self.acknowledged) < VOTERS * ROUNDS * kill / (KILLS + 1):
                await asyncio.sleep(0.01)
            self.server.kill()
            await asyncio.to_thread(self.server.start)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.killer())
            for number in range(VOTERS):
                group.create_task(self.voter(number))


def board_of(engine: Engine) -> Leaderboard:
    with database.reading(engine) as connection:
        votes, judges, styles = votes_of(connection), judges_of(connection), styles_of(connection)
    return leaderboard(votes, judges, styles, resamples=100)


def test_no_vote_is_lost_and_none_is_counted_twice(url: str, judges: dict[str, Any], tmp_path: Path) -> None:
    server = ArenaServer(tmp_path, url, judges, KEY)
    storm = Storm(server)
    try:
        asyncio.run(asyncio.wait_for(storm.run(), 600))
    finally:
        server.kill()
    engine = database.connect(url)
    with database.reading(engine) as connection:
        checked = check(connection)
        stored = {row.battle: row for row in connection.execute(select(VOTES))}
    repeated = sum(told["repeated"] for _, _, told in storm.acknowledged)
    print(
        f"{url.partition(':')[0]}: {len(storm.acknowledged)} votes acknowledged, {len(stored)} stored, {KILLS} kills,"
        f" {storm.lost} requests without an answer, {repeated} votes stored before their answer was lost"
    )
    assert checked.problems == []
    assert len(storm.acknowledged) == len(stored) == VOTERS * ROUNDS
    assert sorted(row.sequence for row in stored.values()) == list(range(1, VOTERS * ROUNDS + 1))
    assert storm.lost > 0  # the kills were felt
    secret = Secret(KEY)
    for token, choice, told in storm.acknowledged:
        row = stored[secret.battle(token, 3600)]
        assert (row.sequence, row.choice) == (told["vote"], choice)
        assert (row.elo_a_before, row.elo_a) == (told["a"]["elo_before"], told["a"]["elo"])
        assert (row.elo_b_before, row.elo_b) == (told["b"]["elo_before"], told["b"]["elo"])

    transfer.export(engine, tmp_path / "export")
    elsewhere = database.connect(f"sqlite:///{tmp_path}/elsewhere.db")
    transfer.bring(elsewhere, tmp_path / "export")
    assert board_of(elsewhere) == board_of(engine)
    engine.dispose()

    replayed = server.run("--check")
    assert replayed.returncode == 0 and json.loads(replayed.stdout)["votes"] == VOTERS * ROUNDS
    audited = server.run("--audit")
    assert audited.returncode == 0, audited.stderr
    assert json.loads(audited.stdout)["visitors"] == 1  # all from this machine
    assert server.run("--audit", "--check").returncode == 2


def test_two_servers_share_one_postgresql(judges: dict[str, Any], tmp_path: Path) -> None:
    """Their votes have one order; each shows the other's."""
    with postgres(tmp_path) as url:
        servers = []
        try:
            for name in ("one", "two"):
                (tmp_path / name).mkdir()
                servers.append(ArenaServer(tmp_path / name, url, judges, KEY))

            async def vote(number: int) -> int:
                async with httpx.AsyncClient(timeout=60) as http:
                    here, there = (servers[number % 2].address, servers[1 - number % 2].address)
                    texts = {"instruction": str(number), "response": "x"}
                    token = (await http.post(f"{here}/api/battle", json=texts)).json()["battle"]
                    told = await http.post(f"{there}/api/vote", json={"battle": token, "choice": "a"})
                    return int(told.json()["vote"])

            async def all_votes() -> list[int]:
                return await asyncio.gather(*map(vote, range(60)))

            assert sorted(asyncio.run(all_votes())) == list(range(1, 61))
            boards = [httpx.get(f"{one.address}/api/leaderboard").json() for one in servers]
            assert boards[0] == boards[1] and boards[0]["votes"] == 60
        finally:
            for server in servers:
                server.kill()
        engine = database.connect(url)
        with database.reading(engine) as connection:
            assert check(connection).problems == []
        engine.dispose()

"""The arena's API with stand-ins for judges: battles, votes, limits, failures, pages."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from serve.arena.app import build
from serve.arena.board import Board
from serve.arena.store import database
from serve.arena.store.reading import check, failures_of, marks_of
from serve.arena.store.tables import BATTLES, VOTES
from tests.serve.arena.conftest import NAMES, config_of
from tests.serve.arena.stand_in import CRITIQUE

OWN = {"instruction": "Name a colour.", "response": "Red."}
PERSON = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
Visit = Callable[..., TestClient]


@pytest.fixture
def visit(tmp_path: Path, endpoint: tuple[FastAPI, str]) -> Iterator[Visit]:
    """Start an arena with some settings."""
    app, address = endpoint
    app.state.say, app.state.wait = {}, {}
    with ExitStack() as stack:

        def start(**settings: Any) -> TestClient:
            client = TestClient(build(config_of(tmp_path, address, **settings)), headers=PERSON)
            return stack.enter_context(client)

        yield start


def test_a_battle_a_vote_and_the_names(visit: Visit) -> None:
    client = visit()
    found = client.post("/api/battle", json=OWN).json()
    assert set(found) == {"battle", "scale", "a", "b"} and found["scale"] == ["1", "2", "3", "4", "5"]
    assert found["a"]["critique"] == CRITIQUE and found["a"]["verdict"] in found["scale"]
    told = client.post("/api/vote", json={"battle": found["battle"], "choice": "b"}).json()
    assert told["vote"] == 1 and not told["repeated"]
    assert {told["a"]["judge"], told["b"]["judge"]} <= set(NAMES) and told["a"]["judge"] != told["b"]["judge"]
    assert (told["a"]["elo"], told["b"]["elo"]) == (1184, 1216)
    assert client.post("/api/vote", json={"battle": found["battle"], "choice": "b"}).json()["repeated"]
    refused = client.post("/api/vote", json={"battle": found["battle"], "choice": "tie"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "already_voted")
    board = client.get("/api/leaderboard").json()
    assert board["votes"] == 1 and board["standings"][0]["judge"] == told["b"]["judge"]


def test_samples_are_drawn_and_judged_as_they_are(visit: Visit, endpoint: tuple[FastAPI, str]) -> None:
    client = visit()
    given = client.get("/api/sample").json()
    assert client.post("/api/battle", json={"sample": given["sample"]}).status_code == 200
    prompt = endpoint[0].state.asked[-1]["messages"][0]["content"]
    assert given["instruction"] in prompt and given["response"] in prompt and given["rubric"] in prompt
    assert len({client.get("/api/sample").json()["sample"] for _ in range(20)}) > 10
    assert client.post("/api/battle", json={"sample": "sample_absolute/none/0"}).status_code == 404
    none = visit(samples=[])
    assert none.get("/api/sample").status_code == 404 and "example" not in none.get("/").text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"instruction": "  ", "response": "x"}, 422),
        ({**OWN, "sample": "x"}, 422),
        ({**OWN, "judge": "oak-judge"}, 422),
        ({**OWN, "rubric": "x" * 200}, 422),
        ({"instruction": "a\0b", "response": "x"}, 422),
        ({"instruction": "half \ud83d", "response": "x"}, 422),
        ({"instruction": "x" * 20_000, "response": "x"}, 413),
    ],
)
def test_what_is_no_battle_is_refused(visit: Visit, body: dict[str, str], status: int) -> None:
    headers = {"content-type": "application/json"}  # of text that the client itself would not encode
    answer = visit(text_characters=150).post("/api/battle", content=json.dumps(body), headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(
    "body",
    [{"battle": "x", "choice": "a"}, {"battle": "x.y.z", "choice": "a"}, {"battle": "x" * 600, "choice": "a"}],
)
def test_a_token_that_was_not_made_here_is_refused(visit: Visit, body: dict[str, str]) -> None:
    assert visit().post("/api/vote", json=body).status_code in (403, 422)


def test_a_token_is_good_for_an_hour_and_for_one_arena(visit: Visit, tmp_path: Path) -> None:
    late = visit(vote_minutes=0.0001)
    token = late.post("/api/battle", json=OWN).json()["battle"]
    time.sleep(2.1)  # tokens know whole seconds
    assert late.post("/api/vote", json={"battle": token, "choice": "a"}).status_code == 403
    (tmp_path / "other").mkdir()
    forged = f"{token[:-3]}{'AAA' if token[-3:] != 'AAA' else 'BBB'}"
    assert late.post("/api/vote", json={"battle": forged, "choice": "a"}).json()["error"]["code"] == "bad_token"


def test_a_judge_that_fails_costs_that_battle_only(visit: Visit, endpoint: tuple[FastAPI, str], tmp_path: Path) -> None:
    state = endpoint[0].state
    state.say = {"model-of-oak-judge": 500, "model-of-pine-judge": "I will not judge."}
    client = visit()
    answers = [client.post("/api/battle", json={**OWN, "response": str(place)}) for place in range(12)]
    assert {one.status_code for one in answers} == {503}  # every pair of three has one of the two
    assert {one.json()["error"]["code"] for one in answers} == {"judge_failed"}
    assert not any(name in one.text for one in answers for name in NAMES)
    state.say = {}
    token = client.post("/api/battle", json=OWN).json()["battle"]
    assert client.post("/api/vote", json={"battle": token, "choice": "a"}).status_code == 200
    with database.connect(f"sqlite:///{tmp_path}/arena.db").connect() as connection:
        assert set(failures_of(connection)) == {"oak-judge", "pine-judge"}
        assert sorted(connection.execute(select(BATTLES.c.status)).scalars()) == ["failed"] * 12 + ["ok"]
    page = client.get("/leaderboard").text
    assert "oak-judge" in page


def test_a_judge_that_is_slow_has_failed(visit: Visit, endpoint: tuple[FastAPI, str], tmp_path: Path) -> None:
    endpoint[0].state.wait = {f"model-of-{name}": 1.0 for name in NAMES}
    assert visit(battle_s=0.2).post("/api/battle", json=OWN).status_code == 503
    with database.connect(f"sqlite:///{tmp_path}/arena.db").connect() as connection:
        assert sum(failures_of(connection).values()) >= 1


def test_an_endpoint_that_refuses_the_key_costs_battles_and_not_the_server(
    visit: Visit, endpoint: tuple[FastAPI, str]
) -> None:
    endpoint[0].state.say = {f"model-of-{name}": 401 for name in NAMES}
    client = visit()
    assert client.post("/api/battle", json=OWN).json()["error"]["code"] == "judge_failed"
    assert client.get("/healthz").json() == {"status": "alive"}


def test_limits_count_what_one_visitor_does(visit: Visit) -> None:
    limits = {"battles_per_minute": 2, "votes_per_minute": 1, "pages_per_minute": 20}
    client = visit(limits=limits, proxies=1)
    one, other = {"x-forwarded-for": "203.0.113.5"}, {"x-forwarded-for": "203.0.113.6"}
    found = [client.post("/api/battle", json=OWN, headers=one) for _ in range(3)]
    assert [answer.status_code for answer in found] == [200, 200, 429] and int(found[2].headers["retry-after"]) > 0
    assert client.post("/api/battle", json=OWN, headers=other).status_code == 200
    tokens = [answer.json()["battle"] for answer in found[:2]]
    votes = [client.post("/api/vote", json={"battle": token, "choice": "a"}, headers=one) for token in tokens]
    assert [answer.status_code for answer in votes] == [200, 429]
    # What the visitor claims before the last proxy is not believed.
    forged = {"x-forwarded-for": "198.51.100.9, 203.0.113.5"}
    assert client.post("/api/battle", json=OWN, headers=forged).status_code == 429
    pages = [client.get("/", headers=other).status_code for _ in range(25)]
    assert pages[0] == 200 and pages[-1] == 429


def test_a_visitor_has_so_many_battles_at_once(visit: Visit, endpoint: tuple[FastAPI, str]) -> None:
    endpoint[0].state.wait = {f"model-of-{name}": 0.3 for name in NAMES}
    many = dict.fromkeys(("battles_per_minute", "votes_per_minute", "pages_per_minute"), 1000)
    client = visit(limits={**many, "concurrent_battles": 2})

    async def storm(app: Any, count: int) -> list[int]:
        import httpx

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://arena") as http:
            return [
                one.status_code
                for one in await asyncio.gather(*(http.post("/api/battle", json=OWN) for _ in range(count)))
            ]

    assert client.portal is not None
    assert sorted(client.portal.call(storm, client.app, 5)) == [200, 200, 429, 429, 429]


def test_the_address_is_nowhere_in_the_database(visit: Visit, tmp_path: Path) -> None:
    client = visit(proxies=1)
    asked = {"x-forwarded-for": "203.0.113.77"}
    token = client.post("/api/battle", json=OWN, headers=asked).json()["battle"]
    client.post("/api/vote", json={"battle": token, "choice": "a"}, headers=asked)
    with database.connect(f"sqlite:///{tmp_path}/arena.db").connect() as connection:
        (visitor,) = connection.execute(select(VOTES.c.visitor)).scalars()
    assert len(visitor) == 32 and int(visitor, 16)
    for path in tmp_path.glob("arena.db*"):
        assert b"203.0.113" not in path.read_bytes()


def test_programs_and_traps_are_marked_beside_the_vote(visit: Visit, tmp_path: Path) -> None:
    client = visit()
    for agent, website in (("python-requests/2", ""), (PERSON["user-agent"], "buy this"), (PERSON["user-agent"], "")):
        token = client.post("/api/battle", json={**OWN, "response": agent + website}).json()["battle"]
        body = {"battle": token, "choice": "a", "website": website}
        assert client.post("/api/vote", json=body, headers={"user-agent": agent}).status_code == 200
    with database.connect(f"sqlite:///{tmp_path}/arena.db").connect() as connection:
        found = {kind: len(battles) for kind, battles in marks_of(connection).items()}
        assert found == {"agent": 1, "trap": 1, "fast": 3} and check(connection).problems == []


def test_a_critique_that_names_its_judge_is_marked(visit: Visit, endpoint: tuple[FastAPI, str], tmp_path: Path) -> None:
    for name in NAMES:
        endpoint[0].state.say[f"model-of-{name}"] = f"Reasoning: As {name.upper()}, I like it.\n\nResult: 3"
    client = visit()
    token = client.post("/api/battle", json=OWN).json()["battle"]
    client.post("/api/vote", json={"battle": token, "choice": "a"})
    with database.connect(f"sqlite:///{tmp_path}/arena.db").connect() as connection:
        assert "named" in marks_of(connection)


def test_a_removed_judge_stays_on_the_board_and_fights_no_more(visit: Visit, endpoint: tuple[FastAPI, str]) -> None:
    client = visit()
    for place in range(12):
        token = client.post("/api/battle", json={**OWN, "response": str(place)}).json()["battle"]
        client.post("/api/vote", json={"battle": token, "choice": "a"})
    before = {one["judge"]: one for one in client.get("/api/leaderboard").json()["standings"]}
    fewer = visit(names=NAMES[:2])
    after = {one["judge"]: one for one in fewer.get("/api/leaderboard").json()["standings"]}
    assert after["yew-judge"] == {**before["yew-judge"], "retired": True}
    assert "retired" in fewer.get("/leaderboard").text
    for place in range(8):
        token = fewer.post("/api/battle", json={**OWN, "response": f"then {place}"}).json()["battle"]
        told = fewer.post("/api/vote", json={"battle": token, "choice": "tie"}).json()
        assert {told["a"]["judge"], told["b"]["judge"]} == set(NAMES[:2])


def test_names_of_judges_and_notes_are_inert(visit: Visit, endpoint: tuple[FastAPI, str], tmp_path: Path) -> None:
    client = visit()
    page = client.get("/leaderboard")
    assert "There are no votes yet." in page.text and "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert client.get("/history.svg").headers["content-security-policy"].startswith("default-src 'none'")


def test_the_board_is_computed_once_for_many_and_anew_for_new_votes(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = visit(refresh_s=30.0)
    computed = []
    former = Board.compute
    monkeypatch.setattr(Board, "compute", lambda self: computed.append(1) or former(self))
    for _ in range(5):
        client.get("/api/leaderboard")
    assert len(computed) == 1


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/page/app.py", "/page/..%2Fapp.py", "/arena.db"])
def test_nothing_else_is_served(visit: Visit, path: str) -> None:
    assert visit().get(path).status_code == 404

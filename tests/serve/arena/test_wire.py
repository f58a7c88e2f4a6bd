"""What a visitor's machine gets before the vote, byte for byte: nothing in it depends on who judges.

Sizes and times are no secret: a critique is as long as it is. All else is the same for all judges, as is proved here.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from serve.arena.app import build
from serve.arena.store import database
from serve.arena.store.tables import JUDGMENTS
from tests.serve.arena.conftest import NAMES, config_of, running

OWN = {"instruction": "Name a colour.", "response": "Red."}
SAME = "Reasoning: As asked.\n\nResult: 4"


class Wire:
    """Requests over plain sockets; every byte that came back is kept.

    Attributes:
        came: all bytes so far.
    """

    def __init__(self, address: str) -> None:
        self.host, self.port = address.removeprefix("http://").split(":")
        self.came = b""

    def ask(self, path: str, body: Any = None) -> bytes:
        """One request; returns the whole answer, headers and all."""
        sent = b"" if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: arena\r\nConnection: close\r\nContent-Length: {len(sent)}\r\n"
        head += "Content-Type: application/json\r\nUser-Agent: Mozilla/5.0\r\n\r\n"
        with socket.create_connection((self.host, int(self.port)), timeout=20) as connection:
            connection.sendall(head.encode() + sent)
            found = b"".join(iter(lambda: connection.recv(65536), b""))
        self.came += found
        return found


def content(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.fixture
def arena(tmp_path: Path, endpoint: tuple[FastAPI, str]) -> Iterator[tuple[Wire, str]]:
    app, address = endpoint
    app.state.wait, app.state.say = {}, {f"model-of-{name}": SAME for name in NAMES}
    with running(build(config_of(tmp_path, address))) as url:
        yield Wire(url), address


def forms(word: str) -> set[bytes]:
    """A word in every writing that a program might use."""
    plain = word.encode()
    coded = {base64.b64encode(b"x" * lead + plain)[(lead * 4 + 2) // 3 : -4].rstrip(b"=") for lead in range(3)}
    others = {plain[::-1], plain.hex().encode(), quote(word, safe="").encode(), codecs.encode(word, "rot13").encode()}
    return {form.lower() for form in {plain, *coded, *others} if len(form) > 3}


def test_no_name_model_or_address_of_a_judge_comes_before_the_vote(arena: tuple[Wire, str]) -> None:
    wire, address = arena
    for path in ("/", "/page/arena.js", "/page/arena.css", "/page/style.css", "/page/icon.svg", "/healthz"):
        assert wire.ask(path).startswith(b"HTTP/1.1 200")
    sample = content(wire.ask("/api/sample"))["sample"]
    tokens = [content(wire.ask("/api/battle", body))["battle"] for body in ({"sample": sample}, *[OWN] * 20)]
    wire.ask("/api/vote", {"battle": "x", "choice": "a"})  # a refused vote tells nothing either
    wire.ask("/api/vote", {"battle": tokens[0], "choice": "everything"})
    words = [word for name in NAMES for word in (name, f"model-of-{name}")]
    words += [address, address.rpartition(":")[2], "smollm", "absolute_compact", "endpoint"]
    seen = wire.came.lower()
    for word in words:
        for form in forms(word):
            assert form not in seen, (word, form)
    told = wire.ask("/api/vote", {"battle": tokens[0], "choice": "a"})
    assert sum(name.encode() in told for name in NAMES) == 2  # and then they are there


def test_the_answer_is_the_same_for_all_judges_and_orders_but_for_its_token(
    arena: tuple[Wire, str], tmp_path: Path
) -> None:
    wire, _ = arena
    answers, pairs = set(), set()
    for _ in range(40):
        found = wire.ask("/api/battle", OWN)
        token = content(found)["battle"]
        assert len(token) == len(content(wire.ask("/api/battle", OWN))["battle"])
        answers.add(re.sub(rb"date: [^\r]*", b"", found.replace(token.encode(), b"TOKEN")))
    engine = database.connect(f"sqlite:///{tmp_path}/arena.db")
    with engine.connect() as connection:
        rows = connection.execute(
            select(JUDGMENTS.c.battle, JUDGMENTS.c.judge).order_by(JUDGMENTS.c.battle, JUDGMENTS.c.side)
        )
        judges: dict[str, list[str]] = {}
        for battle, judge in rows:
            judges.setdefault(battle, []).append(judge)
        pairs = {tuple(pair) for pair in judges.values()}
    assert len(pairs) == 6  # all ordered pairs came
    assert len(answers) == 1, answers  # and one answer


def test_a_token_is_a_random_number_its_time_and_a_signature(arena: tuple[Wire, str], tmp_path: Path) -> None:
    wire, _ = arena
    token = content(wire.ask("/api/battle", OWN))["battle"]
    payload, at, signature = token.split(".")
    name = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert re.fullmatch(r"[0-9a-f]{32}", name)
    assert abs(int.from_bytes(base64.urlsafe_b64decode(at + "==")) - time.time()) < 60
    assert len(base64.urlsafe_b64decode(signature + "==")) == 32


def test_the_leaderboard_does_not_move_before_the_vote(arena: tuple[Wire, str]) -> None:
    """It names all judges, and must not tell which of them are fighting."""
    wire, _ = arena
    paths = ("/leaderboard", "/api/leaderboard", "/history.svg")

    def shown() -> list[bytes]:
        return [re.sub(rb"date: [^\r]*", b"", wire.ask(path)) for path in paths]

    first = content(wire.ask("/api/battle", OWN))["battle"]
    wire.ask("/api/vote", {"battle": first, "choice": "a"})
    before = shown()
    token = content(wire.ask("/api/battle", OWN))["battle"]
    assert shown() == before
    wire.ask("/api/vote", {"battle": token, "choice": "a"})
    now = shown()
    assert all(one != other for one, other in zip(before, now, strict=True))


def test_names_stand_where_their_judges_stood(arena: tuple[Wire, str], endpoint: tuple[FastAPI, str]) -> None:
    wire, _ = arena
    endpoint[0].state.say = {
        f"model-of-{name}": f"Reasoning: Number {place}.\n\nResult: {place + 1}" for place, name in enumerate(NAMES)
    }
    for _ in range(10):
        found = content(wire.ask("/api/battle", OWN))
        told = content(wire.ask("/api/vote", {"battle": found["battle"], "choice": "tie"}))
        for side in ("a", "b"):
            place = NAMES.index(told[side]["judge"])
            assert found[side] == {"verdict": str(place + 1), "critique": f"Number {place}."}


def test_a_visitor_who_leaves_frees_the_judges(tmp_path: Path, endpoint: tuple[FastAPI, str]) -> None:
    app, address = endpoint
    app.state.say, app.state.wait = {}, {f"model-of-{name}": 12.0 for name in NAMES}
    arena = build(config_of(tmp_path, address))
    with running(arena) as url:
        wire = Wire(url)
        sent = json.dumps(OWN).encode()
        head = f"POST /api/battle HTTP/1.1\r\nHost: arena\r\nContent-Length: {len(sent)}\r\n"
        with socket.create_connection((wire.host, int(wire.port))) as connection:
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + sent)
            while not arena.state.arena.under_way:
                time.sleep(0.01)
        left = time.monotonic()
        while arena.state.arena.under_way:
            time.sleep(0.01)
        assert time.monotonic() - left < 10  # on a busy machine
    app.state.wait = {}


def test_a_battle_comes_on_the_beat(tmp_path: Path, endpoint: tuple[FastAPI, str]) -> None:
    app, address = endpoint
    app.state.say = {}
    with running(build(config_of(tmp_path, address, beat_s=1.0))) as url:
        wire = Wire(url)
        for wait in (0.0, 0.3):
            app.state.wait = {f"model-of-{name}": wait for name in NAMES}
            began = time.monotonic()
            wire.ask("/api/battle", OWN)
            assert 0.95 < time.monotonic() - began < 1.9
    app.state.wait = {}

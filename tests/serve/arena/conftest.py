"""An arena whose judges are stand-ins, and databases to keep its votes in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from serve.arena.settings import ArenaConfig
from serve.arena.store import database
from serve.arena.store.judges import enter
from tests.serve.arena.stand_in import stand_in

NAMES = ("oak-judge", "pine-judge", "yew-judge")


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", proxy_headers=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(2)
        server.force_exit = True  # not even for an answer that nobody waits for
        thread.join()


@pytest.fixture(scope="session")
def endpoint() -> Iterator[tuple[FastAPI, str]]:
    """The stand-in for judges, and its address."""
    app = stand_in()
    with running(app) as address:
        yield app, address


def config_of(folder: Path, address: str, names: tuple[str, ...] = NAMES, **settings: Any) -> ArenaConfig:
    """An arena of stand-ins."""
    judges = {
        name: {
            "endpoint": {"endpoint": f"{address}/v1", "model": f"model-of-{name}", "retries": 0},
            "template": "compact",
        }
        for name in names
    }
    many = dict.fromkeys(("battles_per_minute", "votes_per_minute", "pages_per_minute", "concurrent_battles"), 10_000)
    given = {"limits": many, "beat_s": 0, "refresh_s": 0, "resamples": 100, **settings}
    return ArenaConfig.model_validate({"judges": judges, "database": f"sqlite:///{folder}/arena.db", **given})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engine]:
    """An SQLite database with three judges."""
    engine = database.connect(f"sqlite:///{tmp_path}/arena.db")
    enter(engine, dict.fromkeys(NAMES, "fingerprint"), 1)
    yield engine
    engine.dispose()

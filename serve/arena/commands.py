"""What `openselene arena` can do: serve, and look after the votes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import yaml
from sqlalchemy import Engine

from pipelines.core import storage
from pipelines.core.errors import LedgerError
from pipelines.core.progress import say
from serve.arena.ratings.audit import audit
from serve.arena.settings import ArenaConfig
from serve.arena.store import database, transfer
from serve.arena.store.reading import check, judges_of, marks_of, votes_of


def serve(config: ArenaConfig) -> None:
    """Serve until told to stop."""
    import uvicorn

    from serve.arena.app import build

    app = build(config)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            access_log=False,  # addresses stay out of logs too
            proxy_headers=False,  # X-Forwarded-For is believed as the config says
            log_level="warning",
        )
    )
    say(f"arena: {len(config.judges)} judges, votes in {database.shown(config.database)}")
    say(f"arena: http://{config.host}:{config.port} once all judges are loaded")
    server.run()


def plan(config: ArenaConfig) -> None:
    """Print the config, and start nothing."""
    shown = config.model_dump(mode="json")
    shown["database"] = database.shown(config.database)
    print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
    for name, judge in config.judges.items():
        print(f"judge {name}: {judge.fingerprint(config.scale)}")


def check_votes(config: ArenaConfig) -> None:
    """Replay all votes; what is stored must follow from them.

    Raises:
        LedgerError: it does not.
    """
    with _opened(config) as engine, database.reading(engine) as connection:
        found = check(connection)
    print(json.dumps(asdict(found), indent=1))
    if found.problems:
        raise LedgerError(found.problems[0])


def audit_votes(config: ArenaConfig) -> None:
    """Print how far a few votes move the ranking."""
    with _opened(config) as engine, database.reading(engine) as connection:
        votes, judges, marks = votes_of(connection), judges_of(connection), marks_of(connection)
    print(json.dumps(asdict(audit(votes, judges, marks)), indent=1))


def export(config: ArenaConfig, place: str) -> None:
    """Write all battles and votes as parquet files."""
    with _opened(config) as engine:
        manifest = transfer.export(engine, storage.place(place))
    say(f"exported {manifest['rows']} to {place}")


def bring(config: ArenaConfig, place: str) -> None:
    """Fill an empty database from an export."""
    with _opened(config) as engine:
        manifest = transfer.bring(engine, storage.place(place))
    say(f"imported {manifest['rows']} from {place}")


@contextmanager
def _opened(config: ArenaConfig) -> Iterator[Engine]:
    engine = database.connect(config.database)
    try:
        yield engine
    finally:
        engine.dispose()

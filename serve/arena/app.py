"""The arena as one FastAPI app: pages, API, and what they share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from serve.access.limits import Limits
from serve.arena import pages, routes
from serve.arena.board import Board
from serve.arena.door import BYTES_A_CHARACTER, Door
from serve.arena.judging.judges import started
from serve.arena.routes import Arena
from serve.arena.samples import load_samples
from serve.arena.secret import load_secret
from serve.arena.settings import ArenaConfig
from serve.arena.store import database, judges
from serve.errors import install

TEXTS = 4  # of a request


def build(config: ArenaConfig) -> FastAPI:
    """The app; its judges start with it.

    Raises:
        UserError: the database, the key, a source or a judge's name cannot be used.
    """
    engine = database.connect(config.database)
    secret = load_secret(database.folder_of(config.database))
    samples = load_samples(config.samples, config.data_root, config.most_samples, config.seed)
    fingerprints = {name: spec.fingerprint(config.scale) for name, spec in config.judges.items()}
    judges.enter(engine, fingerprints, int(time.time() * 1000))
    board = Board(engine, seed=config.seed, resamples=config.resamples, refresh_s=config.refresh_s)
    limits = Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with started(config) as ready:
            app.state.arena = Arena(config, engine, secret, ready, samples, board, limits)
            yield
        engine.dispose()

    app = FastAPI(title="openselene Judge Arena", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(
        Door,
        secret=secret,
        limits=limits,
        per_minute=config.limits.pages_per_minute,
        body_bytes=TEXTS * config.text_characters * BYTES_A_CHARACTER + 2000,
        proxies=config.proxies,
    )
    app.include_router(routes.router)
    app.include_router(pages.router)
    install(app)
    return app

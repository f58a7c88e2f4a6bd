"""A real Chromium, and a stub of the API for its page."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from tests.integration.page.stub import stub

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FastAPI, str]]:
    """The stub on a free port."""
    app = stub()
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield app, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = server.force_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, served: tuple[FastAPI, str]) -> Iterator[Visit]:
    """Open the stub's page."""
    app, address = served
    app.state.asked, app.state.left, app.state.pause = [], 0, 0.0
    with visiting(browser, address) as visit:
        yield visit


@contextmanager
def visiting(browser: Any, address: str, seconds: float = 10) -> Iterator[Visit]:
    """Open the page as `new_context` is told; at the end there must have been no script error and no other host."""
    wrong: list[str] = []
    contexts = []

    def hear(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # a refused request is no fault
            wrong.append(message.text)

    def visit(**settings: Any) -> Any:
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(seconds * 1000)
        page.on("console", hear)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith(address) or wrong.append(request.url))
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []

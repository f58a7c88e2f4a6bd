"""The page on the real service with the embedded model, in a real Chromium: what a person sees, with no stub at all.

The variable OPENSELENE_SCREENSHOTS names a folder for pictures of what was seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.page.conftest import visiting
from tests.integration.page.steps import DONE, expect, judged
from tests.integration.server import Server

pytestmark = [pytest.mark.integration, pytest.mark.slow]
SECONDS = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), timeout=SECONDS)
    yield running
    running.stop()


@pytest.fixture
def open_page(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    with visiting(browser, f"{server.url}/", seconds=SECONDS) as visit:
        yield visit


@pytest.fixture
def look(tmp_path: Path) -> Callable[[Any, str], None]:
    """Keeps a picture of the whole page."""
    folder = Path(os.environ.get("OPENSELENE_SCREENSHOTS") or tmp_path)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png", full_page=True)


def shares(page: Any) -> dict[str, float]:
    """The probabilities of the judgment's first table, by label."""
    rows = page.locator("table").first.locator("tr").all()
    return {row.locator("th").inner_text().strip("✓ "): percent(row.locator("td").last.inner_text()) for row in rows}


def percent(text: str) -> float:
    found = re.fullmatch(r"[<>]? ?([\d.]+)%", text)  # also `< 0.1%`
    assert found, text
    return float(found[1])


def test_a_pasted_pair_is_judged_in_both_orders_while_the_critique_streams(
    open_page: Callable[..., Any], server: Server, look: Callable[[Any, str], None]
) -> None:
    page = open_page(viewport={"width": 1280, "height": 900})
    page.fill("#instruction", "What is the capital of Norway?")
    page.fill("#response-a", "The capital of Norway is Oslo.")
    page.fill("#response-b", "It is Bergen, I think.\n\n<b>Or</b> not.")
    page.fill(".rubric", "The right answer is better.")
    page.fill("#key", server.key)
    page.click("#judge")
    expect(page.locator(".critique").first).not_to_be_empty(timeout=SECONDS * 1000)
    assert page.get_attribute("#judge", "aria-disabled") == "true" and page.is_visible("#stop")
    assert page.inner_text(".verdict") == "The critique comes first."  # so it was read along, not at the end
    look(page, "streaming")
    page.wait_for_selector(DONE)
    said = page.inner_text("#judgments article")
    assert re.search(r"Response [AB] is better, with a probability of [\d.]+%\.", said), said
    found = shares(page)
    assert set(found) == {"A", "B"} and sum(found.values()) == pytest.approx(100, abs=0.3)
    widths = page.eval_on_selector_all("table >> nth=0 >> .bar", "bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx(list(found.values()), abs=0.1)
    assert page.locator(".orders > section").count() == 2
    assert all(page.locator(".critique").nth(order).inner_text().strip() for order in (0, 1))
    assert re.search(r"[\d,]+ tokens read", page.inner_text("#judgments"))
    look(page, "judged")


def test_a_score_by_two_criteria_and_a_question(open_page: Callable[..., Any], server: Server) -> None:
    page = judged(open_page(), "absolute", server.key)
    assert page.locator("article").count() == 2
    assert re.search(r"Expected score: [\d.]+, on a scale of 1 to 5\.", page.inner_text("article >> nth=0"))
    judged(page, "classify", server.key)
    assert "The answer is “" in page.inner_text("article")


def test_on_a_phone_in_the_dark_by_keyboard_alone(
    open_page: Callable[..., Any], server: Server, look: Callable[[Any, str], None]
) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    for field, text in (
        ("instruction", "Say hello."),
        ("response-a", "Hello!"),
        ("response-b", "Go away."),
        ("key", server.key),
    ):
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == field:
                break
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_selector(DONE)
    assert "is better" in page.inner_text("#judgments article")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    look(page, "phone")


def test_stop_frees_the_engine(open_page: Callable[..., Any], server: Server) -> None:
    page = open_page()
    page.click("[data-example=pairwise]")
    page.fill("#key", server.key)
    page.click("#judge")
    expect(page.locator(".critique").first).not_to_be_empty(timeout=SECONDS * 1000)
    page.click("#stop")
    page.wait_for_selector(DONE)
    server.until(lambda: server.running() == 0, 10)
    assert page.inner_text("#status") == "Stopped."


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_real_judgment(open_page: Callable[..., Any], server: Server, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = judged(open_page(color_scheme=scheme), "pairwise", server.key)
    found = axe.Axe().run(page).response
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found["violations"]] == []


def test_the_page_of_routes_needs_no_other_host(
    open_page: Callable[..., Any], server: Server, look: Callable[[Any, str], None]
) -> None:
    page = open_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{server.url}/docs")
    expect(page.locator("body")).to_contain_text("/v1/judge/pairwise")
    expect(page.locator("body")).not_to_contain_text("/tokenize")
    look(page, "docs")

"""The Judge Arena in a real Chromium, with stand-ins for judges: a visitor votes, names appear, the leaderboard moves.

The variable OPENSELENE_SCREENSHOTS names a folder for pictures of what was seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from serve.arena.app import build
from tests.integration.page.conftest import visiting
from tests.integration.page.steps import expect
from tests.serve.arena.conftest import NAMES, config_of, endpoint, running

__all__ = ["endpoint"]  # a fixture of the other folder
pytestmark = [pytest.mark.integration, pytest.mark.slow]
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, tmp_path: Path, endpoint: tuple[FastAPI, str]) -> Iterator[Visit]:
    """Open an arena of its own."""
    app, address = endpoint
    app.state.say, app.state.wait = {}, {}
    with running(build(config_of(tmp_path, address))) as url, visiting(browser, f"{url}/") as open_page:
        yield open_page


@pytest.fixture
def look(tmp_path: Path) -> Callable[[Any, str], None]:
    """Keeps a picture of the whole page."""
    folder = Path(os.environ.get("OPENSELENE_SCREENSHOTS") or tmp_path)
    return lambda page, name: page.screenshot(path=folder / f"arena-{name}.png", full_page=True)


def judged(page: Any, response: str = "Red.") -> Any:
    page.fill("#instruction", "Name a colour.")
    page.fill("#response", response)
    page.click("#judge")
    page.wait_for_selector("#votes:not([hidden])")
    return page


def voted(page: Any, choice: str = "a", response: str = "Red.") -> Any:
    judged(page, response).click(f"[data-choice={choice}]")
    page.wait_for_selector("#after:not([hidden])")
    return page


def ratings(page: Any) -> dict[str, str]:
    """Judge -> Elo, as the leaderboard shows it."""
    rows = page.locator("#standings tbody tr").all()
    return {row.locator("th").inner_text().split()[0]: row.locator("td").nth(1).inner_text().split()[0] for row in rows}


def test_a_visitor_votes_names_appear_and_the_leaderboard_moves(visit: Visit, look: Callable[[Any, str], None]) -> None:
    page = visit(viewport={"width": 1280, "height": 900})
    page.click("nav >> text=Leaderboard")
    assert set(ratings(page).values()) == {"1200"} and page.inner_text("#votes-in-all") == "0"
    assert "There are no votes yet." in page.inner_text("body")
    page.click("nav >> text=Vote")
    judged(page)
    assert page.inner_text("#critique-a") == page.inner_text("#critique-b") == "The response does what was asked."
    assert not any(name in page.content() for name in NAMES)
    assert page.inner_text("#title-a") == "Judge A"
    look(page, "judged")
    page.click("[data-choice=a]")
    page.wait_for_selector("#after:not([hidden])")
    named = [page.inner_text(f"#title-{side} .named") for side in "ab"]
    assert set(named) < set(NAMES) and named[0] != named[1]
    assert page.inner_text("#status") == f"You voted for A. A was {named[0]}, B was {named[1]}."
    assert "Elo 1216 (+16.0)" in page.inner_text("#title-a") and "Elo 1184 (−16.0)" in page.inner_text("#title-b")
    look(page, "named")
    page.click("text=See the leaderboard")
    assert ratings(page)[named[0]] == "1216" and ratings(page)[named[1]] == "1184"
    assert page.inner_text("#votes-in-all") == "1" and "preliminary" in page.inner_text("#standings")
    page.wait_for_load_state("load")  # of pictures too
    assert page.evaluate("document.querySelector('.picture').naturalWidth") > 100
    look(page, "leaderboard")


def test_an_example_is_filled_in_judged_and_followed_by_another(visit: Visit) -> None:
    page = visit()
    page.click("#sample")
    expect(page.locator("#status")).to_have_text("An example is filled in.")
    first = page.input_value("#instruction"), page.input_value("#response")
    page.click("#judge")
    page.click("[data-choice=tie]")
    page.click("#again")
    expect(page.locator("#status")).to_have_text("An example is filled in.")
    assert (page.input_value("#instruction"), page.input_value("#response")) != first
    assert page.is_hidden("#judges")


def test_on_a_phone_in_the_dark_by_keyboard_alone(visit: Visit, look: Callable[[Any, str], None]) -> None:
    page = visit(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    for field, text in (("instruction", "Name a colour."), ("response", "Red.")):
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == field:
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px"
        page.keyboard.type(text)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#votes:not([hidden])")
    assert page.evaluate(FITS)
    page.keyboard.type(" 1")  # within a field it is text
    assert page.is_hidden("#after")
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.choice || document.activeElement.id"))
        if reached[-1] == "both_bad":
            break
    assert [one for one in reached if one in ("critique-a", "critique-b", "a", "b", "tie", "both_bad")] == [
        "critique-a", "critique-b", "a", "b", "tie", "both_bad"
    ]  # fmt: skip
    page.keyboard.press("2")
    page.wait_for_selector("#after:not([hidden])")
    assert page.inner_text("#status").startswith("You voted for B.")
    assert page.evaluate("document.activeElement.id") == "again"
    assert page.evaluate(FITS)
    look(page, "phone")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#standings")
    assert page.inner_text("#votes-in-all") == "1" and page.evaluate(FITS)
    look(page, "phone-leaderboard")


SCRIPT = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'><a href='javascript:window.ran=3'>x</a>"


def test_a_script_in_a_response_or_a_critique_does_not_run(visit: Visit, endpoint: tuple[FastAPI, str]) -> None:
    for name in NAMES:
        endpoint[0].state.say[f"model-of-{name}"] = f"Reasoning: {SCRIPT}\n\nResult: 3"
    page = judged(visit(), SCRIPT)
    assert page.inner_text("#critique-a") == SCRIPT == page.inner_text("#critique-b")
    assert page.input_value("#response") == SCRIPT
    page.click("[data-choice=b]")
    page.wait_for_selector("#after:not([hidden])")
    page.click("text=See the leaderboard")
    page.wait_for_selector("#standings")
    for path in ("./", "leaderboard"):
        page.goto(page.url.rpartition("/")[0] + "/" + path)
        assert page.evaluate("window.ran") is None
        assert page.locator("img:not(.picture)").count() == 0


def test_what_goes_wrong_is_said_and_can_be_tried_again(visit: Visit, endpoint: tuple[FastAPI, str]) -> None:
    page = visit()
    page.click("#judge")
    assert page.evaluate("document.activeElement.id") == "instruction"  # the browser says what is missing
    endpoint[0].state.say = {f"model-of-{name}": 500 for name in NAMES}
    page.fill("#instruction", "Name a colour.")
    page.fill("#response", "Red.")
    page.click("#judge")
    expect(page.locator("#problem")).to_contain_text("a judge has failed")
    assert page.is_hidden("#votes")
    endpoint[0].state.say = {}
    judged(page)
    assert page.inner_text("#problem") == ""


def test_a_vote_whose_answer_is_lost_is_sent_again_and_counted_once(visit: Visit) -> None:
    page = judged(visit())

    def lose(route: Any) -> None:
        route.fetch()  # it arrives, and its answer does not
        route.abort()

    page.route("**/api/vote", lose, times=1)
    page.click("[data-choice=a]")
    expect(page.locator("#problem")).to_contain_text("cannot be reached")
    page.click("[data-choice=a]")
    page.wait_for_selector("#after:not([hidden])")
    page.click("text=See the leaderboard")
    page.wait_for_selector("#standings")
    assert page.inner_text("#votes-in-all") == "1"


@pytest.mark.parametrize("width", [320, 360, 640, 1280])
def test_nothing_is_wider_than_the_window(visit: Visit, width: int, endpoint: tuple[FastAPI, str]) -> None:
    for name in NAMES:
        endpoint[0].state.say[f"model-of-{name}"] = f"Reasoning: {'long' * 200}\n\nResult: 3"
    page = visit(viewport={"width": width, "height": 740})
    assert page.evaluate(FITS)
    voted(page, response="word" * 300)
    assert page.evaluate(FITS)
    page.click("text=See the leaderboard")
    page.wait_for_selector("#standings")
    assert page.evaluate(FITS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Visit, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = visit(color_scheme=scheme)

    def check() -> None:
        found = axe.Axe().run(page).response
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found["violations"]] == []

    check()
    judged(page)
    check()
    page.click("[data-choice=a]")
    page.wait_for_selector("#after:not([hidden])")
    check()
    page.click("text=See the leaderboard")
    page.wait_for_selector("#standings")
    check()


def test_dark_is_dark_in_the_picture_too(visit: Visit) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        voted(page, response=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        picture = page.request.get(page.url + "history.svg").text()
        assert "prefers-color-scheme:dark" in picture and "currentColor" in picture
    assert len(grounds) == 2

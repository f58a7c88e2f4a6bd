"""Two people on the annotation page in a real browser: keyboard, resuming, phone, dark, no account, one file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from pipelines.experiments.audit.agreement import agreement
from pipelines.experiments.audit.answers import Answers
from pipelines.experiments.audit.sample import as_shown
from serve.audit import launch
from serve.audit.app import build
from tests.experiments.audit_rows import pair
from tests.integration.page.conftest import browser as browser
from tests.integration.page.conftest import visiting
from tests.integration.page.steps import expect

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MARKUP = "<img src=x onerror=\"document.title='hacked'\"> A fruit."
PAIRS = [as_shown(pair(n, chosen_critique=MARKUP if n == 0 else f"Case {n} names a fruit."), 0) for n in range(4)]
TAPPED = {"side_1": "A", "side_2": "B", "substance_1": "3", "substance_2": "3", "better": "equal"}
FOCUS = "document.activeElement.name || document.activeElement.id || document.activeElement.tagName"
Page = tuple[str, Path]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Page]:
    """The real app on a free port, with a database of its own."""
    with serving(tmp_path, PAIRS) as found:
        yield found


@contextmanager
def serving(folder: Path, pairs: list[dict[str, Any]]) -> Iterator[Page]:
    place = folder / "answers.sqlite"
    answers = Answers(place, "f")
    app = build(pairs, answers, 0, None, launch.LOOPBACK)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/", place
    server.should_exit = server.force_exit = True
    thread.join()
    answers.close()


def begin(page: Any, name: str) -> None:
    page.fill("#name", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#pair:not([hidden])")


def answer(page: Any, digits: str = "14u12") -> None:
    """All open questions by keys, and saved by a key; there must be another pair after this one."""
    title = page.inner_text("#title")
    for digit in digits:
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    expect(page.locator("#title")).not_to_have_text(title)


def values(place: Path) -> dict[tuple[str, str], int]:
    with sqlite3.connect(place) as database:
        found = database.execute(
            "select name, pair, count(*) from answer join annotator on annotator.id = annotator_id group by 1, 2"
        ).fetchall()
    return {(name, pair): n for name, pair, n in found}


def test_two_people_answer_with_keys_stop_and_go_on_and_agree(browser: Any, served: Page) -> None:
    address, place = served
    with visiting(browser, address) as visit:
        page = visit()
        begin(page, "Ann")
        assert page.inner_text("#title") == "Pair 1 of 4"
        answer(page)
        answer(page)
        expect(page.locator("#where")).to_have_text("Ann: 2 of 4 answered")
        page.keyboard.press("2")  # chosen and not saved
        page.reload()
        assert page.input_value("#name") == "Ann"
        page.keyboard.press("Enter")
        page.wait_for_selector("#pair:not([hidden])")
        assert page.inner_text("#title") == "Pair 3 of 4"
        assert page.locator("input[name=side_1]:checked").input_value() == "B"
        answer(page, "4u12")  # the first question is answered already
        for digit in "14u12":
            page.keyboard.press(digit)
        page.keyboard.press("Enter")
        page.wait_for_selector("#end:not([hidden])")
        other = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
        begin(other, "Bo")
        for number in range(4):
            for name, value in TAPPED.items():
                other.tap(f"input[name={name}][value='{value}']")
            other.tap("#save")
            expect(other.locator("#where")).to_have_text(f"Bo: {number + 1} of 4 answered")
        other.wait_for_selector("#end:not([hidden])")
    kept = values(place)
    assert len(kept) == 8 and set(kept.values()) == {5} and {name for name, _ in kept} == {"Ann", "Bo"}
    answers = Answers(place, "f")
    found = {one.question: one for one in agreement(answers.table(), 0)}
    answers.close()
    assert (found["substance"].units, found["substance"].annotators) == (8, 2)


def test_open_questions_are_named_and_an_answer_can_be_changed(browser: Any, served: Page) -> None:
    address, place = served
    with visiting(browser, address) as visit:
        page = visit()
        begin(page, "Ann")
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        expect(page.locator("#problem")).to_have_text("4 questions are open.")
        assert page.locator("fieldset[aria-invalid=true]").count() == 4
        answer(page, "4u12")
        page.keyboard.press("b")
        expect(page.locator("#title")).to_have_text("Pair 1 of 4")
        page.check("input[name=better][value=equal]")
        page.click("#save")
        expect(page.locator("#title")).to_have_text("Pair 2 of 4")
    with sqlite3.connect(place) as database:
        assert database.execute("select value from answer where question = 'better'").fetchall() == [("equal",)]


@pytest.mark.parametrize(
    ("allowed", "pressed", "chosen"),
    [
        ([str(n) for n in range(5)], "33u42", ["3", "3", "unclear", "4", "2"]),
        ([str(n) for n in range(1, 11)], "A3941", ["10", "3", "9", "4", "1"]),
    ],
)
def test_on_a_scale_a_key_chooses_what_it_shows(
    browser: Any, tmp_path: Path, allowed: list[str], pressed: str, chosen: list[str]
) -> None:
    questions = ["side_1", "substance_1", "side_2", "substance_2", "better"]
    pairs = [as_shown(pair(n, task="absolute", allowed=allowed), 0) for n in range(2)]
    with serving(tmp_path, pairs) as (address, place), visiting(browser, address) as visit:
        page = visit()
        begin(page, "Ann")
        radio = page.get_by_role("radio", name="score 3", exact=True).first
        assert (
            radio.get_attribute("aria-keyshortcuts") == "3" and page.locator("kbd:visible", has_text="u").count() == 2
        )
        for key in pressed:
            page.keyboard.press(key)
        page.uncheck("#keys")
        assert page.locator(".choice kbd:visible").count() == 0 and radio.get_attribute("aria-keyshortcuts") is None
        page.click("#save")
        expect(page.locator("#title")).to_have_text("Pair 2 of 2")
        assert page.locator(".choice kbd:visible").count() == 0
        with sqlite3.connect(place) as database:
            kept = dict(database.execute("select question, value from answer").fetchall())
    assert [kept[name] for name in questions] == chosen


def test_one_person_on_two_devices_goes_on_where_he_stopped(browser: Any, served: Page) -> None:
    with visiting(browser, served[0]) as visit:
        page = visit()
        begin(page, "Jos\u00e9")
        answer(page)
        other = visit()
        begin(other, "Jose\u0301\u200b")
        expect(other.locator("#where")).to_have_text("Jos\u00e9: 1 of 4 answered")
    assert {name for name, _ in values(served[1])} == {"Jos\u00e9"}


def test_texts_of_the_data_stay_texts(browser: Any, served: Page) -> None:
    with visiting(browser, served[0]) as visit:
        page = visit()
        begin(page, "Ann")
        for _ in range(4):
            if "<img" in page.inner_text("#pair"):
                break
            answer(page)
        assert "<img src=x" in page.inner_text("#pair") and page.locator("#pair img").count() == 0
        assert page.title() == "Critiques to judge"


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_nothing_is_wider_than_the_window(browser: Any, served: Page, width: int) -> None:
    with visiting(browser, served[0]) as visit:
        page = visit(viewport={"width": width, "height": 740})
        begin(page, "x" * 60)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_dark_is_heeded_and_the_focus_is_seen(browser: Any, served: Page) -> None:
    grounds = set()
    with visiting(browser, served[0]) as visit:
        for scheme in ("light", "dark"):
            page = visit(color_scheme=scheme)
            begin(page, f"in the {scheme}")
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            seen = []
            for _ in range(40):
                page.keyboard.press("Tab")
                at = page.evaluate(FOCUS)
                if at == "BODY":
                    break
                seen.append(at)
            for name in ("side_1", "substance_1", "side_2", "substance_2", "better", "save", "leave", "keys"):
                assert name in seen
    assert len(grounds) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, served: Page, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with visiting(browser, served[0]) as visit:
        page = visit(color_scheme=scheme)
        for state in (lambda: None, lambda: begin(page, "Ann"), lambda: page.click("#save")):
            state()
            found = axe.Axe().run(page).response
            assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found["violations"]] == []

"""How the page looks and is used: keyboard, widths, colours, motion, and what axe-core says."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from serve.page import TYPES
from tests.integration.page.conftest import Visit
from tests.integration.page.steps import DONE, judged
from tests.integration.page.stub import KEY

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_everything_can_be_done_with_the_keyboard_and_the_focus_is_seen(visit: Visit) -> None:
    page = visit()
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        at, outline = page.evaluate(
            "() => { const at = document.activeElement; return ["
            "at.dataset.example || at.name || at.id.replace(/-[0-9]+$/, '') || at.tagName,"
            "getComputedStyle(at).outlineWidth]; }"
        )
        if at == "BODY":
            break
        assert outline == "3px", at
        seen.append(at)
    order = ["task", "instruction", "response-a", "response-b", "rubric", "add-criterion", "SUMMARY", "ties"]
    order += ["both-orders", "with-critique", "key", "judge"]
    assert [at for at in seen if at in order] == order
    assert seen[:2] == ["A", "A"] and len(seen) == len(order) + 5  # two links and the examples too


@pytest.mark.parametrize("width", [320, 360, 640, 1280])
def test_nothing_is_wider_than_the_window(visit: Visit, width: int) -> None:
    page = visit(viewport={"width": width, "height": 740})
    page.click("[data-example=classify]")
    page.fill("#labels", f"{'long' * 20}, {'words and ' * 12}, no")
    judged_now = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(judged_now)
    page.fill("#key", KEY)
    page.click("#judge")
    page.wait_for_selector(DONE)
    assert page.evaluate(judged_now)
    judged(page, "pairwise")
    assert page.evaluate(judged_now)
    judged(page, "absolute")
    assert page.evaluate(judged_now)
    for box in page.locator("button:visible, input[type=radio]:visible").all():
        assert box.bounding_box()["x"] + box.bounding_box()["width"] <= width


def test_dark_and_calm_are_heeded(visit: Visit, served: tuple[FastAPI, str]) -> None:
    served[0].state.pause = 0.05
    grounds = set()
    for scheme, motion in (("light", "no-preference"), ("dark", "reduce")):
        page = visit(color_scheme=scheme, reduced_motion=motion)
        page.click("[data-example=pairwise]")
        page.fill("#key", KEY)
        page.click("#judge")
        page.wait_for_selector("#status.busy")
        moving = page.evaluate("getComputedStyle(document.querySelector('#status'), '::before').animationName")
        assert moving == ("pulse" if motion == "no-preference" else "none")
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.wait_for_selector(DONE)
    assert len(grounds) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Visit, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = visit(color_scheme=scheme)
    states = [lambda: None, *[lambda name=name: judged(page, name) for name in ("pairwise", "absolute", "classify")]]
    for state in [*states, lambda: judged(page, "pairwise", "sel_wrong")]:
        state()
        found = axe.Axe().run(page).response
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found["violations"]] == []
        assert len(found["passes"]) > 25


def test_the_page_loads_its_own_files_and_no_others(visit: Visit) -> None:
    page = visit()
    loaded = page.evaluate("performance.getEntriesByType('resource').map(one => new URL(one.name).pathname)")
    assert {name.removeprefix("/page/") for name in loaded} | {"icon.svg"} == set(TYPES) - {"index.html"}

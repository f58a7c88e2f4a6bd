"""A person's way from texts to a verdict, in a real Chromium against a stub of the API: no model is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

import pytest
from fastapi import FastAPI

from tests.integration.page.conftest import Visit
from tests.integration.page.steps import DONE, expect, judged
from tests.integration.page.stub import KEY, critique

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_comparison_from_paste_to_verdict(visit: Visit, served: tuple[FastAPI, str]) -> None:
    page = visit()
    page.fill("#instruction", "Which?")
    page.fill("#response-a", "one")
    page.fill("#response-b", "two\n")
    page.fill(".rubric", "the shorter")
    page.fill("#key", KEY)
    page.check("#ties")
    page.press("#response-b", "Control+Enter")
    page.wait_for_selector(DONE)
    body = {
        "instruction": "Which?",
        "responses": ["one", "two\n"],
        "rubric": "the shorter",
        "allowed": ["A", "B", "Tie"],
        "both_orders": True,
        "with_critique": True,
        "stream": True,
    }
    assert served[0].state.asked == [("pairwise", body)]
    card = page.inner_text("#judgments article")
    assert "Response A is better, with a probability of 49.6%." in card
    assert "The orders disagree" in card
    assert page.locator("table").first.locator("th, td:last-child").all_inner_texts() == [
        *("✓ A", "49.6%"),
        *("B", "28.8%"),
        *("Tie", "21.6%"),
    ]
    assert page.locator(".orders > section").count() == 2
    assert "calls your B “A”" in page.inner_text(".orders > section >> nth=1")
    assert "made to choose" in page.inner_text(".orders > section >> nth=1")
    widths = page.eval_on_selector_all("table >> nth=0 >> .bar", "bars => bars.map(bar => parseFloat(bar.style.width))")
    assert [round(width, 1) for width in widths] == [49.6, 28.8, 21.6]
    assert "1,412 tokens read, 640 of them from the cache, 186 written, 1.9 s" in page.inner_text("#judgments")
    assert "Response A is better" in page.inner_text("#status")  # what a screen reader says


def test_the_critique_is_read_while_it_is_written(visit: Visit, served: tuple[FastAPI, str]) -> None:
    served[0].state.pause = 0.05
    page = visit()
    page.click("[data-example=pairwise]")
    page.fill("#key", KEY)
    page.click("#judge")
    expect(page.locator(".critique").nth(1)).to_contain_text("Response A names")
    assert page.inner_text(".verdict") == "The critique comes first."
    assert critique("given").startswith(page.inner_text(".critique >> nth=0").strip())
    assert page.get_attribute("#judge", "aria-disabled") == "true"
    page.wait_for_selector(DONE)
    assert page.text_content(".critique >> nth=0") == critique("given")


def test_texts_of_the_api_are_never_markup(visit: Visit) -> None:
    page = judged(visit(), "pairwise")
    assert "<img src=x" in page.inner_text(".critique >> nth=0")
    page.fill("#instruction", "refused")
    page.click("#judge")
    page.wait_for_selector("#problem p")
    assert "<img src=x" in page.inner_text("#problem")
    assert page.locator("#result img, #result script").count() == 0
    assert page.title() == "openselene judge"


def test_several_criteria_and_a_scale(visit: Visit, served: tuple[FastAPI, str]) -> None:
    page = visit()
    page.click("[data-example=absolute]")
    page.fill("#highest", "3")
    page.click("#add-criterion")
    page.keyboard.type("short")  # the new name has the focus
    page.fill(".rubric >> nth=2", "1: long. 3: short.")
    page.click("[aria-label='Remove criterion 1']")
    page.fill("#key", KEY)
    page.click("#judge")
    page.wait_for_selector(DONE)
    ((task, body),) = served[0].state.asked
    assert task == "absolute" and "both_orders" not in body and "responses" not in body and "rubric" not in body
    assert body["allowed"] == ["1", "2", "3"]
    assert [one["name"] for one in body["criteria"]] == ["polite", "short"]
    assert page.locator("article h3").all_inner_texts() == ["polite", "short"]
    assert "Expected score: 1.57, on a scale of 1 to 3." in page.inner_text("article >> nth=0")
    assert "Score 3" in page.inner_text("article >> nth=1")


def test_a_question_with_labels_of_its_own_and_no_critique(visit: Visit, served: tuple[FastAPI, str]) -> None:
    page = visit()
    page.click("[data-example=classify]")
    page.fill("#labels", " sure,  not sure ,")
    page.uncheck("#with-critique")
    page.fill("#key", KEY)
    page.click("#judge")
    page.wait_for_selector(DONE)
    ((task, body),) = served[0].state.asked
    assert task == "classify" and body["allowed"] == ["sure", "not sure"] and body["with_critique"] is False
    assert body["context"].startswith("Ancient writers")
    assert "The answer is “sure”, with a probability of 66.7%." in page.inner_text("article")
    assert page.locator(".critique").count() == 0


@pytest.mark.parametrize(
    ("example", "field", "value"),
    [
        ("pairwise", "#instruction", ""),
        ("pairwise", "#response-b", ""),
        ("absolute", "#highest", "2"),
        ("absolute", "#highest", "33"),
        ("absolute", "#highest", "4.5"),
        ("absolute", "#highest", "9e15"),
        ("absolute", ".name >> nth=1", "complete"),
        ("classify", "#labels", "Yes"),
        ("classify", "#labels", "Yes, Yes"),
        ("classify", ".rubric", ""),
    ],
)
def test_what_cannot_be_judged_is_not_sent(
    visit: Visit, served: tuple[FastAPI, str], example: str, field: str, value: str
) -> None:
    page = visit()
    page.click(f"[data-example={example}]")
    before = page.input_value(field)
    page.fill(field, value)
    page.click("#judge")
    assert page.evaluate("document.activeElement.validationMessage") and served[0].state.asked == []
    assert page.locator(field).evaluate("field => field === document.activeElement")
    page.fill(field, before)
    page.fill("#key", KEY)
    page.click("#judge")
    page.wait_for_selector(DONE)
    assert len(served[0].state.asked) == 1


def test_stop_frees_the_service_and_keeps_what_was_written(visit: Visit, served: tuple[FastAPI, str]) -> None:
    page = visit()
    page.click("[data-example=pairwise]")
    page.uncheck("#both-orders")
    page.fill("#instruction", "endless")
    page.fill("#key", KEY)
    page.click("#judge")
    expect(page.locator(".critique")).to_contain_text("more and more and")
    page.click("#stop")
    page.wait_for_selector(DONE)
    assert page.inner_text("#status") == "Stopped." and "more and" in page.inner_text(".critique")
    assert page.inner_text("#problem") == "" and page.inner_text(".verdict") == "No verdict."
    assert page.evaluate("document.activeElement.id") == "judge" and not page.is_visible("#stop")
    for _ in range(100):
        if served[0].state.left:
            break
        time.sleep(0.05)
    assert served[0].state.left == 1
    page.fill("#instruction", "again")
    page.click("#judge")
    page.wait_for_selector(".verdict:not(.waiting)")


@pytest.mark.parametrize(
    ("instruction", "key", "words"),
    [
        ("x", "", "The service wants an API key."),
        ("x", "sel_wrong", "The service does not know this key."),
        ("busy", KEY, "Too many requests with this key. Try again in 7 seconds, at "),
        ("down", KEY, "The service is busy or about to stop. Try again in "),
        ("refused", KEY, "rubric: <img"),
        ("error", KEY, "the engine stopped"),
        ("broken", KEY, "The answer ended without a verdict. Try again."),
        ("page of a proxy", KEY, "The service answered with status 502."),
    ],
)
def test_errors_are_said_in_words(visit: Visit, instruction: str, key: str, words: str) -> None:
    page = visit()
    page.click("[data-example=pairwise]")
    page.fill("#instruction", instruction)
    page.fill("#key", key)
    page.press("#key", "Enter")
    page.wait_for_selector("#problem p")
    said = page.inner_text("#problem")
    assert said.startswith(words)
    assert "Request req-1" in said or instruction == "page of a proxy"
    assert page.inner_text("#status") == "No verdict."
    assert page.is_visible("#copy-curl") and not page.is_visible("#copy-json")
    if "key." in words and key != KEY:
        assert page.evaluate("document.activeElement.id") == "key"
        assert page.get_attribute("#key", "aria-invalid") == "true"


def test_a_service_that_is_away_is_said_too(visit: Visit) -> None:
    page = visit()
    page.route("**/v1/**", lambda route: route.abort())
    judged(page, "pairwise")
    assert page.inner_text("#problem") == "The service cannot be reached. Is it running, and is the network up?"


def test_the_key_stays_in_the_tab(visit: Visit) -> None:
    page = judged(visit(), "pairwise")
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert page.get_attribute("#key", "type") == "password" and KEY not in page.url
    page.reload()
    assert page.input_value("#key") == KEY
    other = page.context.new_page()
    other.goto(page.url)
    assert other.input_value("#key") == ""


def test_the_copied_command_asks_the_same(visit: Visit, served: tuple[FastAPI, str]) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.click("[data-example=pairwise]")
    page.fill("#response-b", 'it\'s "$HOME" `id` \\ é\n!')
    page.fill("#key", KEY)
    page.click("#judge")
    page.wait_for_selector(DONE)
    page.click("#copy-json")
    expect(page.locator("#copied")).to_have_text("JSON copied.")
    answer = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert answer["results"][0]["verdict"] == "A"
    page.click("#copy-curl")
    expect(page.locator("#copied")).to_have_text("Command copied.")
    command = page.evaluate("navigator.clipboard.readText()")
    assert KEY not in command and "$OPENSELENE_API_KEY" in command
    if shutil.which("curl"):
        subprocess.run(
            ["sh", "-c", f"{command} -s"],
            env={**os.environ, "OPENSELENE_API_KEY": KEY},
            check=True,
            capture_output=True,
        )
        (_, first), (_, second) = served[0].state.asked
        assert first == {**second, "stream": True}


def test_copying_works_without_the_clipboard_interface(visit: Visit) -> None:
    page = visit(permissions=["clipboard-read"])
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not here')); }")
    judged(page, "pairwise")
    page.click("#copy-json")
    expect(page.locator("#copied")).to_have_text("JSON copied.")
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["model"] == "stub"
    assert page.evaluate("document.activeElement.id") == "copy-json"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_whole_however_the_network_cuts_them(visit: Visit, size: int) -> None:
    text = (
        ': comment\nevent: critique\ndata: {"text": "é–😀"}\n\n'
        'event: critique\r\ndata: {"text":\r\ndata: "two lines"}\r\n\r\n'
        'data:{"text": "plain"}\r\rid: 7\n\nevent: result\ndata: {"text": "last"}'
    )
    found = visit().evaluate(
        """async ([bytes, size]) => {
          const { events } = await import("/page/stream.js");
          const stream = new ReadableStream({ start(control) {
            for (let at = 0; at < bytes.length; at += size) control.enqueue(new Uint8Array(bytes.slice(at, at + size)));
            control.close();
          } });
          const found = [];
          for await (const [name, data] of events(stream)) found.push([name, data.text]);
          return found;
        }""",
        [list(text.encode()), size],
    )
    assert found == [["critique", "é–😀"], ["critique", "two lines"], ["message", "plain"], ["result", "last"]]

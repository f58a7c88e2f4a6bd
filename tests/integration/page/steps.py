"""What several tests of the page do."""

from __future__ import annotations

from typing import Any

from tests.integration.page.stub import KEY

DONE = "#after:not([hidden])"


def expect(locator: Any) -> Any:
    """Waits for what is asserted next. Playwright's `wait_for_function` would evaluate text, which the page forbids."""
    from playwright.sync_api import expect as wait_for

    return wait_for(locator)


def judged(page: Any, example: str, key: str = KEY) -> Any:
    page.click(f"[data-example={example}]")
    page.fill("#key", key)
    page.click("#judge")
    page.wait_for_selector(DONE)
    return page

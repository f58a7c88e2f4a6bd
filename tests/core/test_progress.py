"""Progress: times as a person reads them."""

from __future__ import annotations

import pytest

from pipelines.core.progress import clock, short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.000345, "0.345 ms"),
        (0.0299, "29.9 ms"),
        (0.69199, "692 ms"),
        (0.99949, "999 ms"),
        (1.19, "1.19 s"),
        (75.4, "75.4 s"),
    ],
)
def test_what_one_item_took(seconds: float, text: str) -> None:
    assert short(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3661, "1:01:01")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text

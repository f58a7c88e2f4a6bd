"""The rounds of the performance scripts: their order, what they report, and that every script takes them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from perf.rounds import add_rounds, compared, interleaved

PERF = Path(__file__).parents[2] / "perf"
# Nothing is timed there, so nothing is repeated.
ARITHMETIC = {"train_flops", "rounds", "clients", "coverage", "calibration", "chaos", "tree"}
# Five minutes of a GPU hold one round of each part.
GPU = {"gpu", "gpu_check", "gpu_reward", "gpu_shapes", "gpu_train"}


def test_the_order_turns_round_and_the_first_way_begins() -> None:
    seen: list[str] = []
    found = interleaved({name: lambda name=name: seen.append(name) or len(seen) for name in "AB"}, 3)  # type: ignore
    assert "".join(seen) == "ABBAAB"
    assert found == {"A": [1, 4, 5], "B": [2, 3, 6]}


def test_the_ratio_is_the_median_over_the_rounds_with_its_least_and_greatest() -> None:
    found = compared([10.0, 30.0, 8.0], [10.0, 10.0, 16.0])
    assert (found["ratio"], found["ratio_min"], found["ratio_max"]) == (1.0, 0.5, 3.0)
    assert (found["ours"], found["baseline"]) == (10.0, 10.0)
    assert found["rounds"] == [[10.0, 30.0, 8.0], [10.0, 10.0, 16.0]]
    assert compared([2.0], [4.0], less_is_better=True)["ratio"] == 2.0


def test_three_rounds_are_the_least(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_rounds(parser)
    assert parser.parse_args([]).rounds == 3 and parser.parse_args(["--rounds", "5"]).rounds == 5
    with pytest.raises(SystemExit):
        parser.parse_args(["--rounds", "2"])
    assert "at least 3" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(PERF.glob("*.py")), ids=lambda path: path.stem)
def test_every_script_that_times_something_takes_rounds(path: Path) -> None:
    if path.stem not in ARITHMETIC | GPU:
        text = path.read_text()
        assert all(f"{name}(" in text for name in ("add_rounds", "interleaved", "compared"))

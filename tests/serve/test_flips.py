"""Verdicts that a new version turns, on two services with STUBS of the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_jobs.flips import app
from serve.client import Judge
from serve.flips import flips
from tests.serve.stub_judge import StubAsk, app_of
from tests.serve.stub_server import serving

LINES = [{"task": "pairwise", "instruction": f"question {n}", "responses": ["a", "b"]} for n in range(20)]
BAD = {"task": "pairwise", "instruction": "q", "responses": ["a"]}


def turns_two(prompt: str, allowed: list[str]) -> dict[str, float]:
    """The second verdict for two of the questions, else the first."""
    turned = "question 3\n" in prompt or "question 7\n" in prompt
    return dict(zip(allowed, [0.2, 0.8] if turned else [0.9, 0.1], strict=True))


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[str, str]]:
    with serving(app_of(StubAsk())) as old, serving(app_of(StubAsk(turns_two))) as new:
        yield old, new


def test_turned_verdicts_are_counted_and_lost_lines_named(services: tuple[str, str]) -> None:
    with Judge(services[0]) as old, Judge(services[1]) as new:
        found = flips(old, new, [*LINES, BAD])
    assert (found.share, found.compared, found.turned) == (0.1, 20, {"A -> B": 2})
    low, high = found.interval
    assert low is not None and high is not None and 0 < low < 0.1 < high < 0.4
    assert found.lost == {"line 21": "invalid_request"}
    assert {name for name, _ in found.largest[:2]} == {"line 4", "line 8"}


@pytest.mark.parametrize(("most", "code"), [("0.05", 1), ("0.2", 0)])
def test_the_command_says_whether_traffic_may_move(
    services: tuple[str, str], tmp_path: Path, most: str, code: int
) -> None:
    probe = tmp_path / "probe.jsonl"
    probe.write_text("\n".join(map(json.dumps, LINES)))
    done = CliRunner().invoke(app, [*services, str(probe), "--most", most])
    assert done.exit_code == code and json.loads(done.stdout)["share"] == 0.1


def test_what_is_no_probe_set_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{broken")
    done = CliRunner().invoke(app, ["http://127.0.0.1:1", "http://127.0.0.1:1", str(tmp_path / "x")])
    assert done.exit_code == 2 and "not a probe set" in done.output

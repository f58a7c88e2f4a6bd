"""The logs: always whole, no step twice after a resume, few writes where they take long."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.core import job_metrics, storage
from pipelines.training import metrics
from tests.counted import Counted

STEP: metrics.Step = {
    "step": 1,
    "steps": 2,
    "loss": 0.5,
    "rewards/accuracies": 1.0,
    "pairs_per_second": 2.0,
    "elapsed": 20.0,
}


def steps(*numbers: int) -> list[metrics.Step]:
    return [{"step": step, "elapsed": 2.0 * step} for step in numbers]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "train" / "metrics.jsonl"


def write(place: Path, *numbers: int) -> metrics.Log:
    log = metrics.Log(place)
    for step in steps(*numbers):
        log.append(step)
    log.flush()
    return log


def test_what_is_appended_is_read_in_order(place: Path) -> None:
    assert metrics.read(place) == []
    write(place, 1, 2, 3)
    assert metrics.read(place) == steps(1, 2, 3)


def test_rewind_drops_what_is_trained_again_and_the_log_goes_on_from_there(place: Path) -> None:
    write(place, 1, 2, 3, 4, 5)
    log = metrics.Log(place)
    assert log.rewind(3) == 6.0  # the seconds trained until then
    assert metrics.read(place) == steps(1, 2, 3)
    log.append(steps(4)[0])
    log.flush()
    assert metrics.read(place) == steps(1, 2, 3, 4)
    assert metrics.Log(place).rewind(0) == 0.0
    assert metrics.read(place) == []


def test_a_log_of_nothing_has_no_file(place: Path) -> None:
    log = metrics.Log(place)
    assert log.rewind(0) == 0.0
    log.flush()
    assert not place.exists()


def test_a_value_that_is_not_a_number_never_reaches_the_file(place: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        metrics.Log(place).append({"step": 1, "loss": float("nan")})


def test_writing_takes_a_small_share_of_the_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, writes = [100.0], list[float]()

    def slow(*_: Any) -> None:
        writes.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(storage, "write_text", slow)
    log = metrics.Log(place)
    for step in range(1, 121):
        log.append({"step": step})
        now[0] += 1.0
    # Two seconds of writing are a twentieth of forty: the next write comes that long after the last has ended.
    assert writes == [100.0, 142.0, 184.0]
    log.flush()
    log.flush()
    assert len(writes) == 4 and log.written == 120


def test_a_line_tells_step_speed_and_time_left() -> None:
    step = STEP | {"step": 4, "steps": 10}
    assert metrics.line(step) == "  train: step 4/10, loss 0.500, preferred 1.00, 2.00 pairs/s, ETA 0:30"


def test_follow_prints_each_new_step_once(place: Path, capsys: pytest.CaptureFixture[str], counted: Counted) -> None:
    with metrics.follow(place, interval=0.02):
        time.sleep(0.1)
        metrics.Log(place).append(STEP)
        time.sleep(0.3)
    assert capsys.readouterr().err.count("step 1/2") == 1
    assert counted.of(job_metrics.STEP_ROWS, step="train", which="done") == 1
    assert counted.of(job_metrics.STEP_ROWS, step="train", which="all") == 2
    assert counted.of(job_metrics.ETA, step="train") == metrics.left(STEP)

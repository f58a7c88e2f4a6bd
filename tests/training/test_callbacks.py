"""What is logged of a step, on a clock of our own; the order of each epoch; no checkpoint where the model follows."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.core import job_metrics
from pipelines.engines.packed.work import Shape, Work
from pipelines.training import metrics
from pipelines.training.callbacks import MetricsLog, NextOrder, NoLastCheckpoint
from tests.counted import Counted

SHAPE = Shape(layers=1, hidden=1, query=0, key=0, ffn=0, vocab=1)  # 2 FLOPs forward for each token that is scored


def state(step: int, first: bool = True, **more: Any) -> Any:
    return SimpleNamespace(global_step=step, max_steps=10, epoch=0.5, is_world_process_zero=first, **more)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def begin(place: Path, shape: Shape | None = SHAPE, at: int = 0, first: bool = True) -> MetricsLog:
    log = MetricsLog(place, shape)
    log.trainer = SimpleNamespace(pairs_seen=5, tokens_seen=50, work_seen=Work(scored=1e12))  # type: ignore[assignment]
    log.on_train_begin(None, state(at, first), None)  # type: ignore[arg-type]
    return log


def move(log: MetricsLog, pairs: int, tokens: int, scored: float) -> None:
    trainer: Any = log.trainer
    trainer.pairs_seen += pairs
    trainer.tokens_seen += tokens
    trainer.work_seen += Work(scored=scored)


def on_log(log: MetricsLog, step: int, logs: dict[str, float] | None, first: bool = True) -> None:
    log.on_log(None, state(step, first), None, logs)  # type: ignore[arg-type]


def test_speed_is_that_since_the_last_line(tmp_path: Path, now: list[float]) -> None:
    place = tmp_path / "metrics.jsonl"
    log = begin(place)
    log.peak_tflops = 8.0
    for seconds, pairs in ((2.0, 8), (4.0, 4)):
        now[0] += seconds
        move(log, pairs, 10 * pairs, 4e12)
        on_log(log, 1, {"loss": 0.5, "learning_rate": 1e-7, "unknown": 3.0})
    log.flush()
    first, second = metrics.read(place)
    assert (first["pairs"], first["tokens"], first["elapsed"]) == (8, 80, 2.0)
    assert (first["pairs_per_second"], first["tokens_per_second"]) == (4.0, 40.0)
    assert (second["pairs_per_second"], second["tokens_per_second"], second["elapsed"]) == (1.0, 10.0, 6.0)
    assert (first["tflops"], second["tflops"], second["mfu"]) == (12.0, 6.0, 0.75)  # 3 × 2 FLOPs for each of 4e12
    assert (first["step"], first["steps"], first["epoch"], first["lr"]) == (1, 10, 0.5, 1e-7)
    assert "unknown" not in first and "grad_norm" not in first


def test_a_model_of_unknown_shape_has_no_flops_and_an_unknown_peak_no_share(tmp_path: Path, now: list[float]) -> None:
    for name, shape in (("a", None), ("b", SHAPE)):
        log = begin(tmp_path / name, shape)
        now[0] += 1.0
        on_log(log, 1, {"loss": 0.5})
        log.flush()
        (line,) = metrics.read(tmp_path / name)
        assert ("tflops" in line) == (shape is not None) and "mfu" not in line


def test_held_out_values_have_a_log_of_their_own(tmp_path: Path, now: list[float]) -> None:
    log = begin(tmp_path / "metrics.jsonl")
    now[0] += 3.0
    on_log(log, 4, {"eval_heldout_accuracy": 0.75, "eval_heldout_judged": 8.0, "epoch": 1.0})
    on_log(log, 4, {"eval_runtime": 1.0})
    log.flush()
    found = {"step": 4, "elapsed": 3.0, "heldout_accuracy": 0.75, "heldout_judged": 8.0}
    assert metrics.read(tmp_path / "heldout.jsonl") == [found]
    assert metrics.read(tmp_path / "metrics.jsonl") == []


def test_a_resumed_run_counts_the_seconds_before_and_drops_what_it_does_again(tmp_path: Path, now: list[float]) -> None:
    place = tmp_path / "metrics.jsonl"
    for name in ("metrics.jsonl", "heldout.jsonl"):
        earlier = metrics.Log(tmp_path / name)
        for step in (1, 2, 3):
            earlier.append({"step": step, "elapsed": 10.0 * step})
        earlier.flush()
    log = begin(place, at=2)
    now[0] += 5.0
    on_log(log, 3, {"loss": 0.5, "eval_heldout_accuracy": 0.5})
    log.flush()
    assert [(line["step"], line["elapsed"]) for line in metrics.read(place)] == [(1, 10.0), (2, 20.0), (3, 25.0)]
    heldout = metrics.read(tmp_path / "heldout.jsonl")
    assert [(line["step"], line["elapsed"]) for line in heldout] == [(1, 10.0), (2, 20.0), (3, 25.0)]


def test_one_rank_writes(tmp_path: Path, now: list[float]) -> None:
    log = begin(tmp_path / "metrics.jsonl", first=False)
    now[0] += 1.0
    on_log(log, 1, {"loss": 0.5}, first=False)
    on_log(log, 1, None)
    log.flush()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("event", ["on_save", "on_train_end"])
def test_what_is_held_back_is_written_with_a_checkpoint_and_at_the_end(
    event: str, tmp_path: Path, now: list[float]
) -> None:
    log = begin(tmp_path / "metrics.jsonl")
    for written in (log.log, log.heldout):
        written.due = 1e9
        written.append({"step": 1})
    assert metrics.read(tmp_path / "metrics.jsonl") == []
    getattr(log, event)(None, state(1), None)
    for name in ("metrics.jsonl", "heldout.jsonl"):
        assert metrics.read(tmp_path / name) == [{"step": 1}]


@pytest.mark.parametrize(("epoch", "expected"), [(None, 0), (0.0, 0), (1.0, 1), (2.4, 2)])
def test_each_epoch_is_told_to_the_order(epoch: float | None, expected: int) -> None:
    order: Any = SimpleNamespace(epoch=7)
    NextOrder(order).on_epoch_begin(None, SimpleNamespace(epoch=epoch), None)  # type: ignore[arg-type]
    assert order.epoch == expected


@pytest.mark.parametrize(
    ("step", "holds_out", "expected"), [(9, False, True), (9, True, True), (10, False, False), (10, True, True)]
)
def test_the_last_step_is_a_checkpoint_only_where_it_may_be_the_best(
    step: int, holds_out: bool, expected: bool
) -> None:
    control: Any = SimpleNamespace(should_save=True, should_evaluate=True)
    args: Any = SimpleNamespace(load_best_model_at_end=holds_out)
    NoLastCheckpoint().on_step_end(args, state(step), control)
    assert (control.should_save, control.should_evaluate) == (expected, expected)


def test_a_logged_step_is_counted_once_and_by_rank_0_alone(tmp_path: Path, now: list[float], counted: Counted) -> None:
    for first in (True, False):
        log = begin(tmp_path / "metrics.jsonl", first=first)
        log.peak_tflops = 8.0
        now[0] += 2.0
        move(log, 8, 80, 4e12)
        on_log(log, 1, {"loss": 0.5}, first)
        on_log(log, 1, {"eval_heldout_accuracy": 0.75}, first)
    assert counted.of(job_metrics.PAIRS) == 8 and counted.of(job_metrics.TRAINED_TOKENS) == 80
    assert counted.of(job_metrics.PAIRS_PER_SECOND) == 4.0 and counted.of(job_metrics.LOSS) == 0.5
    assert counted.of(job_metrics.MFU) == pytest.approx(counted.of(job_metrics.TFLOPS) / 8) != 0
    assert counted.of(job_metrics.HELDOUT) == 0.75


def test_what_is_not_known_is_no_gauge(tmp_path: Path, now: list[float], counted: Counted) -> None:
    log = begin(tmp_path / "metrics.jsonl", shape=None)
    now[0] += 2.0
    move(log, 8, 80, 4e12)
    on_log(log, 1, {"loss": 0.5})
    assert not {job_metrics.TFLOPS.name, job_metrics.MFU.name} & {name for name, _ in counted.numbers}


def test_pairs_after_the_checkpoint_count_as_trained_again(tmp_path: Path, now: list[float], counted: Counted) -> None:
    place = tmp_path / "metrics.jsonl"
    earlier = metrics.Log(place)
    for step in (1, 2, 3, 4):
        earlier.append({"step": step, "elapsed": 1.0, "pairs": 8})
    earlier.flush()
    begin(place, at=2)
    assert counted.of(job_metrics.REPEATED_PAIRS) == 16

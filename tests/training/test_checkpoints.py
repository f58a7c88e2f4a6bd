"""Handing checkpoints to Ray Train: what is reported, in which order, and which one is the best."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
from ray.train import Checkpoint, PreemptionInfo

from pipelines.training import checkpoints


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What reaches Ray Train: ("wait",), ("report", metrics, name, files of the part) or ("copy", name)."""
    calls: list[Any] = []

    def report(metrics: dict[str, float], checkpoint: Checkpoint, checkpoint_dir_name: str, **how: Any) -> None:
        assert how.pop("checkpoint_upload_mode") == checkpoints.CheckpointUploadMode.ASYNC
        files = sorted(path.name for path in Path(checkpoint.path).iterdir())
        calls.append(("report", metrics, checkpoint_dir_name, files))
        assert how.pop("checkpoint_upload_fn")(checkpoint, checkpoint_dir_name) == "copied" and not how

    def copy(part: Checkpoint, name: str) -> str:
        calls.append(("copy", name))
        return "copied"

    def all_reported(consistency_mode: Any) -> list[Any]:
        calls.append(("wait",))
        return [SimpleNamespace(checkpoint=Checkpoint(f"/store/{call[2]}")) for call in calls if call[0] == "report"]

    storage = SimpleNamespace(persist_current_checkpoint=copy)
    monkeypatch.setattr(ray.train, "get_context", lambda: SimpleNamespace(get_storage=lambda: storage))
    monkeypatch.setattr(ray.train, "report", report)
    monkeypatch.setattr(ray.train, "get_all_reported_checkpoints", all_reported)
    return calls


def test_a_part_is_handed_over_once_the_one_before_has_arrived(tmp_path: Path, reported: list[Any]) -> None:
    written: Any = SimpleNamespace(writing=SimpleNamespace(result=lambda: reported.append(("written",))))
    hand_over, args = checkpoints.HandOver(written), SimpleNamespace(output_dir=str(tmp_path))
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").touch()
        hand_over.on_save(args, SimpleNamespace(global_step=step), None)  # type: ignore[arg-type]
    assert reported == [
        ("wait",),
        ("report", {"step": 2}, "checkpoint-2", ["optimizer.pt"]),
        ("written",),
        ("copy", "checkpoint-2"),
        ("wait",),
        ("report", {"step": 4}, "checkpoint-4", ["optimizer.pt"]),
        ("written",),
        ("copy", "checkpoint-4"),
    ]
    hand_over.on_train_end(args, SimpleNamespace(), None)  # type: ignore[arg-type]
    assert reported[-1] == ("wait",)  # before the worker removes its folder


def test_the_score_is_the_accuracy_and_the_earlier_of_two_equals_wins(tmp_path: Path, reported: list[Any]) -> None:
    deepspeed: Any = SimpleNamespace(writing=None)  # writes its parts itself, at once
    hand_over, args = checkpoints.HandOver(deepspeed), SimpleNamespace(output_dir=str(tmp_path))
    for step, accuracy in ((2, 0.5), (4, 0.75), (6, 0.75), (8, 0.74)):
        state: Any = SimpleNamespace(global_step=step)
        hand_over.on_evaluate(args, state, None, {"eval_heldout_accuracy": accuracy})  # type: ignore[arg-type]
        assert (tmp_path / f"checkpoint-{step}").is_dir()  # on every rank, before the library looks for it
        hand_over.on_save(args, state, None)  # type: ignore[arg-type]
    hand_over.on_save(args, SimpleNamespace(global_step=9), None)  # type: ignore[arg-type]  # before a node goes
    assert reported[-2][1] == {"step": 9}  # without the accuracy of step 8
    scores = {call[1]["step"]: call[1]["score"] for call in reported[:-2] if call[0] == "report"}
    assert max(scores, key=scores.__getitem__) == 4
    assert scores == pytest.approx({2: 0.5, 4: 0.75, 6: 0.75, 8: 0.74}, abs=1e-6)
    assert checkpoints.stored(tmp_path, 4) == "/store/checkpoint-4"
    with pytest.raises(LookupError, match="step 5"):
        checkpoints.stored(tmp_path, 5)


def test_two_workers_of_a_machine_write_apart_and_an_earlier_attempt_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    a, b = Path("/runs/a/train"), Path("/runs/b/train")
    first = checkpoints.staging(a, 0)
    (first / "half a checkpoint").touch()
    assert len({first, checkpoints.staging(a, 1), checkpoints.staging(b, 0)}) == 3
    assert checkpoints.staging(a, 0) == first and not list(first.iterdir())
    disk = tmp_path / "nvme" / "parts"
    assert checkpoints.staging(a, 0, disk) == disk / first.name


def test_the_step_stands_in_the_name() -> None:
    assert checkpoints.step_of(Checkpoint("/x/dpo/checkpoint-120")) == 120
    assert checkpoints.step_of(None) == 0


def test_notice_of_a_node_s_end_saves_once_for_each_node_and_not_after_the_last_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    going: list[Any] = [None]
    monkeypatch.setattr(ray.train, "get_preemption_info", lambda: going[0])
    callback, saved = checkpoints.BeforeANodeGoes(), []
    notices = [(), ("a",), ("a",), ("a", "b"), ("a", "b"), ("c",)]
    for step, nodes in enumerate(notices, 1):
        going[0] = PreemptionInfo(None, {node: [0] for node in nodes}) if nodes else None
        control: Any = SimpleNamespace(should_save=False)
        state: Any = SimpleNamespace(global_step=step, max_steps=len(notices))
        callback.on_step_end(None, state, control)  # type: ignore[arg-type]
        saved += [step] if control.should_save else []
    assert saved == [2, 4]

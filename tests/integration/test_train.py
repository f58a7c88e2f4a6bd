"""Training on a real local Ray: one worker, two with FSDP2 or ZeRO-2, a worker that dies, a job that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pipelines.core.errors import UserError
from pipelines.core.ray_internals import run_id_of
from pipelines.core.run import Run
from pipelines.training.config import TrainConfig
from pipelines.training.heldout import evaluate, split
from pipelines.training.train import REQUEST, instead_of_the_last, train
from tests.training.test_shared import encode, trainer_for
from tests.training.tiny import pair_rows, write_model, write_pairs

from .conftest import RAY, ROOT

ZERO_2 = {"zero_optimization": {"stage": 2}}
pytestmark = pytest.mark.usefixtures("plain_ray")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "data", pair_rows(48), group=20)


def config(model: Path, **changes: Any) -> TrainConfig:
    values = {
        "model": str(model),
        "batch_size": 8,
        "bin_tokens": 300,
        "max_length": 256,
        "learning_rate": 2e-3,
        "epochs": 3,
        "precision": "float32",
        "reference": model.with_name("reference-of-the-pairs"),  # one for all tests
    }
    return TrainConfig.model_validate({**values, **changes})


def steps_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "train" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one_worker(model: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("one")
    return out, train(config(model), pairs, Run(out))


def test_one_worker_learns_and_reports_every_step(one_worker: tuple[Path, dict[str, Any]]) -> None:
    out, result = one_worker
    steps = steps_of(out)
    assert [s["step"] for s in steps] == list(range(1, 19))
    assert {s["pairs"] for s in steps} == {8}
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5
    assert steps[-1]["loss_nll"] < steps[0]["loss_nll"] and steps[-1]["rewards/margins"] > 0
    assert all(s["loss"] == pytest.approx(s["loss_dpo"] + s["loss_nll"], rel=1e-3) for s in steps)
    assert steps[0]["loss_dpo"] == pytest.approx(0.6931, abs=1e-3)  # policy = reference at first: ln 2
    assert all(s["tokens_per_second"] > s["pairs_per_second"] > 0 and s["lr"] >= 0 for s in steps)
    assert (result["pairs"], result["steps"], result["last_step"]) == (48, 18, steps[-1])


def test_the_model_loads_and_answers_greedily(one_worker: tuple[Path, dict[str, Any]], model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.judging.chat import encode_prompt

    out = one_worker[0] / "model"
    trained, base = (AutoModelForCausalLM.from_pretrained(folder) for folder in (out, model))
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (out / "model.safetensors").exists() and not list(out.glob("*.bin"))
    assert trained.dtype == torch.float32 and trained.config.use_cache
    assert not torch.equal(trained.lm_head.weight, base.lm_head.weight)
    assert trained.generation_config.do_sample in (None, False) and trained.generation_config.eos_token_id == [2]
    ids = encode_prompt(tokenizer, "Which is better? BBBB")
    answer = trained.generate(torch.tensor([ids]), max_new_tokens=20)[0, len(ids) :]
    assert tokenizer.decode(answer).startswith("R")  # all it has seen chosen begins with it; at random 1 in 259


def test_only_the_results_stay(one_worker: tuple[Path, dict[str, Any]]) -> None:
    out = one_worker[0]
    kept = ["depends.json", "done.json", "metrics.jsonl", "tensorboard"]
    assert sorted(p.name for p in (out / "train").iterdir()) == kept
    assert sorted(p.name for p in out.iterdir()) == ["model", "train"]


def test_a_second_run_does_nothing(one_worker: tuple[Path, dict[str, Any]], model: Path, pairs: Path) -> None:
    out, result = one_worker
    before = (out / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(config(model), pairs, Run(out)) == result
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_two_workers_with_zero_2_take_the_same_steps_as_one(
    one_worker: tuple[Path, dict[str, Any]], model: Path, pairs: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    train(config(model, workers=2, deepspeed=ZERO_2, bin_tokens=130), pairs, Run(tmp_path))  # several bins each
    one, two = steps_of(one_worker[0]), steps_of(tmp_path)
    assert {s["pairs"] for s in two} == {8}
    assert [s["tokens"] for s in two] == [s["tokens"] for s in one]
    assert [s["loss"] for s in two] == pytest.approx([s["loss"] for s in one], rel=2e-3)
    a, b = (AutoModelForCausalLM.from_pretrained(out / "model").state_dict() for out in (one_worker[0], tmp_path))
    assert max((a[name] - b[name]).abs().max().item() for name in a) < 1e-3


def test_trls_own_trainer_on_two_workers_with_zero_2(model: Path, pairs: Path, tmp_path: Path) -> None:
    """The oracle: the same config and outputs, TRL's loss and DeepSpeed's sharding."""
    trl = {"engine": "trl", "nll": "token", "micro_batch_size": 2, "workers": 2, "deepspeed": ZERO_2}
    result = train(config(model, **trl), pairs, Run(tmp_path))
    steps = steps_of(tmp_path)
    assert (result["pairs"], result["steps"]) == (48, 18) and {s["pairs"] for s in steps} == {8}
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5
    assert all(s["loss"] == pytest.approx(s["loss_dpo"] + s["loss_nll"], rel=1e-3) for s in steps)
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_two_workers_without_deepspeed_take_the_same_steps(
    one_worker: tuple[Path, dict[str, Any]], model: Path, pairs: Path, tmp_path: Path
) -> None:
    train(config(model, workers=2), pairs, Run(tmp_path))
    one, two = steps_of(one_worker[0]), steps_of(tmp_path)
    assert [s["loss"] for s in two] == pytest.approx([s["loss"] for s in one], rel=1e-4)
    assert [s["tokens"] for s in two] == [s["tokens"] for s in one]


def test_an_elastic_run_starts_with_what_there_is_room_for(
    one_worker: tuple[Path, dict[str, Any]],
    model: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers of three CPUs do not fit into four: one begins, and its steps are the same."""
    noted: list[str] = []
    monkeypatch.setattr("pipelines.training.train.instead_of_the_last", lambda _, own: noted.append(run_id_of(own)))
    train(config(model, workers=2, min_workers=1, cpus_per_worker=3, peak_tflops=0.5), pairs, Run(tmp_path))
    assert len(noted) == 1 and len(noted[0]) == 32
    one, elastic = steps_of(one_worker[0]), steps_of(tmp_path)
    assert [s["loss"] for s in elastic] == pytest.approx([s["loss"] for s in one], rel=1e-4)
    assert all(s["mfu"] == pytest.approx(s["tflops"] / 0.5) and s["tflops"] > 0 for s in elastic)


def test_what_a_killed_elastic_training_had_asked_for_is_taken_back(tmp_path: Path) -> None:
    """Else the one that goes on in its place waits for the three minutes after which Ray forgets it."""
    import ray
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as ours

    asked, last = ours.get_or_create_autoscaling_coordinator(), "train-killed"
    note, high = tmp_path / REQUEST, ours.ResourceRequestPriority.HIGH
    request = {"requester_id": last, "resources": [{"CPU": 4}], "expire_after_s": 600.0, "priority": high}
    ray.get(asked.request_resources.remote(**request))
    assert ray.get(asked.get_reserved_resources.remote(last, recompute=True))
    for run_id in ("killed", "next"):  # the first finds no note
        instead_of_the_last(note, SimpleNamespace(train_run_context=SimpleNamespace(run_id=run_id)))
    assert not ray.get(asked.get_reserved_resources.remote(last))
    assert json.loads(note.read_text()) == {"run_id": "next"}


def test_a_reference_of_another_model_is_refused(model: Path, pairs: Path, one_worker: Any, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", seed=1)
    reference = config(model).reference
    with pytest.raises(UserError, match=r"reference.* holds a run of another config \(changed: before, reference\)"):
        train(config(other, reference=reference), pairs, Run(tmp_path / "out"))


def test_long_rows_are_refused_and_the_folder_stays_free(model: Path, tmp_path: Path) -> None:
    rows = pair_rows(8)
    rows[2]["prompt"] = "long " * 60
    pairs = write_pairs(tmp_path / "pairs", rows)
    with pytest.raises(UserError, match=r"1 pair\(s\) are longer than train.max_length 256 .* row-0002"):
        train(config(model), pairs, Run(tmp_path / "out"))
    assert not (tmp_path / "out" / "train" / "depends.json").exists()


def test_a_mistake_that_a_task_finds_comes_back_as_one_line(model: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", [{**pair_rows(1)[0], "rejected": ""}])
    with pytest.raises(UserError, match="row 'row-0000' lacks prompt, chosen or rejected"):
        train(config(model), pairs, Run(tmp_path / "out"))


def kill_a_worker_after(step: int, metrics: Path) -> threading.Thread:
    """Kill the training worker of this process's own cluster once `step` is logged."""

    def watch() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if metrics.exists() and len(metrics.read_text().splitlines()) >= step:
                for child in psutil.Process().children(recursive=True):
                    if "RayTrainWorker" in " ".join(child.cmdline()):
                        child.kill()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="one_worker"),
        pytest.param({"workers": 2, "strategy": "fsdp", "save_dtype": "bfloat16"}, id="fsdp"),
        pytest.param({"workers": 2, "deepspeed": ZERO_2}, id="zero_2", marks=pytest.mark.slow),
    ],
)
def test_the_checkpoint_that_judged_best_becomes_the_model(
    changes: dict[str, Any], model: Path, pairs: Path, tmp_path: Path
) -> None:
    """Its parts went to Ray Train's storage in the background; the model is judged again and compared with the log."""
    settings = config(model, holdout=0.25, checkpoint_steps=3, learning_rate=2e-2, **changes)
    result = train(settings, pairs, Run(tmp_path / "out"))
    lines = [json.loads(line) for line in (tmp_path / "out" / "train" / "heldout.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(3, result["steps"] + 1, 3))
    best = next(line for line in lines if line["step"] == result["best"]["step"])
    assert best["heldout_accuracy"] == max(line["heldout_accuracy"] for line in lines)
    losses = [line["heldout_loss_nll"] for line in lines]
    assert losses.count(best["heldout_loss_nll"]) == 1  # so that the loss tells which checkpoint it was
    encoded = encode(model, tmp_path, 48)
    held = [encoded[i] for i in split([row["group"] for row in encoded], 0.25, seed=0)[1]]
    alone = settings.model_copy(update={"workers": 1, "deepspeed": None, "strategy": "auto", "holdout": 0.0})
    judge = trainer_for(alone, tmp_path / "out" / "model", tmp_path / "judge", encoded)
    judged = evaluate(judge, held)["heldout_loss_nll"]
    assert min(losses, key=lambda loss: abs(loss - judged)) == best["heldout_loss_nll"]
    rounded = settings.save_dtype == "bfloat16"
    assert judged == pytest.approx(best["heldout_loss_nll"], rel=2e-2 if rounded else 1e-4)


@pytest.mark.slow
def test_a_worker_that_dies_costs_the_steps_since_the_last_checkpoint(
    one_worker: tuple[Path, dict[str, Any]], model: Path, pairs: Path, tmp_path: Path
) -> None:
    killer = kill_a_worker_after(5, tmp_path / "train" / "metrics.jsonl")
    result = train(config(model, checkpoint_steps=2), pairs, Run(tmp_path))
    killer.join()
    # At most one checkpoint was still on its way.
    assert result["resumed_from"] >= 2
    check_same_run(tmp_path, one_worker[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"workers": 2, "deepspeed": ZERO_2}, {"workers": 2, "strategy": "fsdp"}],
    ids=["one_worker", "zero_2", "fsdp"],
)
def test_a_killed_job_goes_on_from_its_last_checkpoint(
    changes: dict[str, Any],
    one_worker: tuple[Path, dict[str, Any]],
    model: Path,
    pairs: Path,
    tmp_path: Path,
) -> None:
    settings = config(model, checkpoint_steps=2, **changes)
    code = (
        "from pathlib import Path; import ray\n"
        "from pipelines.core.run import Run\n"
        "from pipelines.training.config import TrainConfig; from pipelines.training.train import train\n"
        f"ray.init(**{RAY!r})\n"
        f"train(TrainConfig.model_validate_json({settings.model_dump_json()!r}), Path({str(pairs)!r}), "
        f"Run(Path({str(tmp_path)!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    family = []
    metrics = tmp_path / "train" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) >= 5):
        time.sleep(0.05)
    assert process.poll() is None, "the job ended before it could be killed"
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        if member.is_running():
            member.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "model").exists()
    result = train(settings, pairs, Run(tmp_path))
    assert result["resumed_from"] >= 2
    undisturbed = one_worker[0]
    if changes:
        undisturbed = tmp_path / "undisturbed"
        train(settings, pairs, Run(undisturbed))
    check_same_run(tmp_path, undisturbed)


def check_same_run(out: Path, undisturbed: Path) -> None:
    """Every step once; losses and final weights as without the interruption."""
    from safetensors.torch import load_file

    got, expected = steps_of(out), steps_of(undisturbed)
    assert [s["step"] for s in got] == [s["step"] for s in expected]
    assert [s["tokens"] for s in got] == [s["tokens"] for s in expected]
    assert [s["loss"] for s in got] == pytest.approx([s["loss"] for s in expected], rel=1e-6)
    a, b = (load_file(folder / "model" / "model.safetensors") for folder in (out, undisturbed))
    assert max((a[name] - b[name]).abs().max().item() for name in b) < 1e-6
    elapsed = [s["elapsed"] for s in got]
    assert elapsed == sorted(elapsed)

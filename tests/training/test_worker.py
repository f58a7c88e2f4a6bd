"""What a worker and the driver tell Ray Train and each other, without a cluster."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import ray.train.torch
from ray.train.v2.api.exceptions import WorkerGroupError

from pipelines.core import ray_internals
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.training import checkpoints, train, worker
from pipelines.training.config import TrainConfig
from pipelines.training.diverged import Diverged
from pipelines.training.worker import Job
from tests.training.test_shared import Rows, config, rows, trainer_for
from tests.training.tiny import write_pairs

__all__ = ["rows"]  # the fixture


def job(tmp_path: Path, **changes: Any) -> Job:
    return Job(TrainConfig.model_validate(changes), "model", tmp_path / "rows", Run(tmp_path))


class Trainer:
    """Notes what it is asked for."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails, self.asked = fails, list[Any]()
        self.args = self.control = None
        self.state = SimpleNamespace(global_step=9, best_metric=0.75, best_global_step=6)
        self.accelerator = SimpleNamespace(num_processes=2)
        self.pairs_seen, self.tokens_seen, self.float8_error = 72, 900, {"layers": 2.0}
        self.callback_handler = SimpleNamespace(on_train_end=lambda *_: self.asked.append("train end"))

    def add_callback(self, callback: Any) -> None:
        self.asked.append(type(callback).__name__)

    def train(self, resume_from_checkpoint: str | None) -> None:
        self.asked.append(resume_from_checkpoint)
        if self.fails:
            raise self.fails


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two ranks, of which this is the second; what was saved and joined."""
    done: list[Any] = []
    context = SimpleNamespace(get_world_rank=lambda: 1, get_world_size=lambda: 2)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    monkeypatch.setattr(checkpoints, "staging", lambda work, rank, disk: (disk or tmp_path) / f"local-{rank}")
    monkeypatch.setattr(worker, "save", lambda trainer, job: done.append(job.run.model))
    monkeypatch.setattr(worker, "join_deepspeed", lambda: done.append("deepspeed"))
    monkeypatch.setattr(worker, "join_fsdp", lambda: done.append("fsdp"))
    monkeypatch.setattr(worker.settings, "threads", lambda config: 1)
    ticks = iter([100.0, 104.25])
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(ticks))
    return done


def test_a_worker_trains_saves_and_reports(tmp_path: Path, ranks: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer()
    monkeypatch.setattr(worker, "build", lambda job, local: trainer)
    (tmp_path / "nvme" / "local-1").mkdir(parents=True)
    assert worker.train_worker({"job": job(tmp_path, checkpoint_staging=tmp_path / "nvme")}) == {
        "steps": 9,
        "resumed_from": 0,
        "seconds": 4.25,
        "pairs": 72,
        "tokens": 900,
        "best": {"step": 6, "heldout_accuracy": 0.75},
        "float8_error": {"layers": 2.0},
    }
    assert trainer.asked == ["BeforeANodeGoes", "HandOver", None] and ranks == [tmp_path / "model"]
    assert not (tmp_path / "nvme" / "local-1").exists()


@pytest.mark.parametrize(
    ("changes", "joined"),
    [
        ({}, []),
        ({"deepspeed": {}}, ["deepspeed"]),
        ({"strategy": "fsdp"}, ["fsdp"]),
        ({"strategy": "fsdp", "gpus_per_worker": 1}, []),  # there accelerate knows by itself
    ],
)
def test_accelerate_is_told_of_the_processes_where_it_does_not_find_them(
    changes: dict[str, Any], joined: list[str], ranks: list[Any]
) -> None:
    worker.join(TrainConfig.model_validate(changes))
    assert ranks == joined


def test_a_worker_goes_on_from_the_checkpoint_that_ray_hands_it(
    tmp_path: Path, ranks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, folder = Trainer(), tmp_path / "checkpoint-6"
    kept = SimpleNamespace(path=str(folder), as_directory=lambda: contextlib.nullcontext(str(folder)))
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: kept)
    monkeypatch.setattr(worker, "build", lambda job, local: trainer)
    result = worker.train_worker({"job": job(tmp_path, deepspeed={})})
    assert result["resumed_from"] == 6 and trainer.asked == ["BeforeANodeGoes", "HandOver", str(folder)]
    assert ranks == ["deepspeed", tmp_path / "model"]


def test_a_worker_that_diverges_closes_its_logs_and_saves_nothing(
    tmp_path: Path, ranks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(Diverged("the loss became nan at step 5"))
    monkeypatch.setattr(worker, "build", lambda job, local: trainer)
    assert worker.train_worker({"job": job(tmp_path)}) == {"diverged": "the loss became nan at step 5"}
    assert trainer.asked[-1] == "train end" and ranks == []


def test_ranks_that_do_not_know_of_each_other_stop_the_training(ranks: list[Any]) -> None:
    worker.check_ranks(Trainer())
    alone: Any = SimpleNamespace(accelerator=SimpleNamespace(num_processes=1))
    with pytest.raises(RuntimeError, match="Ray has 2 workers, the trainer sees 1"):
        worker.check_ranks(alone)


def test_without_held_out_pairs_no_checkpoint_is_the_best() -> None:
    assert worker.best(SimpleNamespace(best_metric=None, best_global_step=3)) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_saved_model_is_whole_greedy_and_replaces_what_was_there(
    dtype: str, tiny_model: Path, rows: Rows, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer = trainer_for(config(peak_tflops=3.0), tiny_model, tmp_path, rows)
    (log,) = (each for each in trainer.callback_handler.callbacks if type(each).__name__ == "MetricsLog")
    assert log.peak_tflops == 3.0 * trainer.accelerator.num_processes
    target = tmp_path / "model"
    target.mkdir()
    (target / "left-over.safetensors").touch()
    worker.save(trainer, Job(config(save_dtype=dtype), str(tiny_model), tmp_path / "rows", Run(tmp_path)))
    assert not (target / "left-over.safetensors").exists() and not (target / "training_args.bin").exists()
    saved = AutoModelForCausalLM.from_pretrained(target)
    assert str(saved.dtype) == f"torch.{dtype}" == f"torch.{json.loads((target / 'config.json').read_text())['dtype']}"
    written = load_file(target / "model.safetensors")
    assert "lm_head.weight" not in written  # tied to the embedding
    assert {str(weight.dtype) for weight in written.values()} == {f"torch.{dtype}"}
    for name, weight in trainer.model.state_dict().items():
        torch.testing.assert_close(saved.state_dict()[name], weight.to(saved.dtype), rtol=0, atol=0)
    generation = saved.generation_config
    assert generation.eos_token_id == [2] and generation.do_sample in (None, False) and saved.config.use_cache
    assert AutoTokenizer.from_pretrained(target).chat_template


class Built:
    """Stands for the trainer of an engine, on four ranks: keeps what it was told."""

    def __init__(self, **told: Any) -> None:
        self.told = told
        self.accelerator = SimpleNamespace(num_processes=4)

    def remove_callback(self, kind: type) -> None:
        assert kind.__name__ == "PrinterCallback"


def built(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Built:
    """The trainer of a config, with a model that is only a name."""
    monkeypatch.setattr("pipelines.training.shared.SharedTrainer", type("Shared", (Built,), {}))
    monkeypatch.setattr("pipelines.training.dpo.PairTrainer", type("Trl", (Built,), {}))
    monkeypatch.setattr(worker, "load_model", lambda name, config: SimpleNamespace(name=name, config=None))
    monkeypatch.setattr(
        worker, "with_adapters", lambda model, config: SimpleNamespace(of=model.name, rank=config.lora.rank)
    )
    rows = write_pairs(tmp_path / "rows", [{"row_id": f"r{i}", "group": f"g{i // 2}"} for i in range(40)])
    given = Job(TrainConfig.model_validate(changes), str(tiny_model), rows, Run(tmp_path, seed=3))
    return worker.build(given, tmp_path / "local")


def test_each_engine_has_its_own_trainer(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = built(tmp_path / "a", tiny_model, monkeypatch)
    assert type(shared).__name__ == "Shared" and shared.told["held"] is None
    assert shared.told["rows"]["row_id"] == shared.told["order"].row_ids == [f"r{i}" for i in range(40)]
    assert shared.told["order"].seed == 3 and shared.told["model"].name == str(tiny_model)
    trl = built(tmp_path / "b", tiny_model, monkeypatch, engine="trl", nll="token", alpha=0.5, batch_size=4)
    assert type(trl).__name__ == "Trl" and trl.told["alpha"] == 0.5 and len(trl.told["train_dataset"]) == 40


def test_the_log_knows_the_trainer_and_the_peak_of_all_workers(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, changes, peak in (("a", {"peak_tflops": 3.0}, 12.0), ("b", {}, None)):
        trainer = built(tmp_path / name, tiny_model, monkeypatch, **changes)
        log = trainer.told["callbacks"][0]
        assert log.trainer is trainer and log.peak_tflops == peak
        assert log.log.place == tmp_path / name / "train" / "metrics.jsonl"


def test_held_out_pairs_are_kept_from_training(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = built(tmp_path, tiny_model, monkeypatch, holdout=0.3).told
    kept, held = told["rows"]["row_id"], told["held"]["row_id"]
    assert sorted([*kept, *held]) == sorted(f"r{i}" for i in range(40)) and 0 < len(held) < len(kept)
    assert told["order"].row_ids == kept and not set(told["rows"]["group"]) & set(told["held"]["group"])


def test_adapters_are_put_on_where_they_are_asked_for(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = built(tmp_path, tiny_model, monkeypatch, lora={"rank": 5}).told
    assert (told["model"].of, told["model"].rank) == (str(tiny_model), 5)


@pytest.mark.parametrize(
    ("changes", "attention", "made"),
    [
        ({}, "of split", ["kernels auto", "prepared for split, 2048 tokens"]),
        ({"compile": True}, "of split", ["kernels auto", "compiled", "prepared for split, 2048 tokens"]),
        ({"engine": "trl", "nll": "token", "attention": "eager"}, "eager", []),
    ],
)
def test_a_model_is_loaded_for_its_engine(
    changes: dict[str, Any], attention: str, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    done, told = list[str](), dict[str, Any]()
    monkeypatch.setattr("pipelines.engines.packed.backends.implementation", "of {}".format)
    monkeypatch.setattr(
        "pipelines.training.kernels.fuse", lambda model, kernels, gpu: done.append(f"kernels {kernels}")
    )
    monkeypatch.setattr("pipelines.training.scoring.compile_layers", lambda model: done.append("compiled"))
    monkeypatch.setattr(
        "pipelines.training.scoring.prepare",
        lambda model, name, longest: done.append(f"prepared for {name}, {longest} tokens"),
    )
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda name, **given: told.update(given))
    worker.load_model("org/model", TrainConfig.model_validate(changes))
    assert told == {"dtype": torch.float32, "attn_implementation": attention} and done == made


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load the model"):
        worker.load_model(str(tmp_path), TrainConfig())


@pytest.mark.parametrize("first", [True, False], ids=["rank 0", "another rank"])
def test_every_rank_takes_part_in_saving_and_one_writes(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[Any]()
    monkeypatch.setattr(worker, "write", lambda trainer, job, state, folder: done.append((state, folder)))
    trainer: Any = SimpleNamespace(
        model_wrapped="wrapped",
        accelerator=SimpleNamespace(
            get_state_dict=lambda model: done.append(f"gathered from {model}") or "state",
            wait_for_everyone=lambda: done.append("wait"),
        ),
        is_world_process_zero=lambda: first,
    )
    worker.save(trainer, job(tmp_path))
    written = [("state", tmp_path / "model")] if first else []
    assert done == ["gathered from wrapped", "wait", *written, "wait"]


# ---- the driver


class Torch:
    """Stands for Ray Train's trainer: keeps what it was told."""

    told: dict[str, Any]
    made = 0
    raises: Exception | None = None

    def __init__(self, loop: Any, **told: Any) -> None:
        type(self).told = {"loop": loop, **told}
        type(self).made += 1
        self.train_run_context = SimpleNamespace(run_id=f"run {self.made}")

    def fit(self) -> Any:
        if self.raises:
            raise self.raises
        return SimpleNamespace(return_value={"steps": 3})


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> type[Torch]:
    kind = type("Torch", (Torch,), {})
    monkeypatch.setattr(ray.train.torch, "TorchTrainer", kind)
    return kind


def test_ray_train_is_told_what_the_config_says(tmp_path: Path, driver: type[Torch]) -> None:
    given = job(tmp_path, workers=4, cpus_per_worker=2, max_failures=5)
    assert train.fit(given) == {"steps": 3}
    scaling, run = driver.told["scaling_config"], driver.told["run_config"]
    assert driver.told["loop"] is worker.train_worker and driver.told["train_loop_config"] == {"job": given}
    assert scaling.num_workers == 4 and not scaling.use_gpu and scaling.resources_per_worker == {"CPU": 2.0}
    assert run.storage_path == str(tmp_path / "train" / "ray") and run.failure_config.max_failures == 5
    assert run.checkpoint_config.num_to_keep == 1 and run.checkpoint_config.checkpoint_score_attribute is None


def test_gpus_elastic_workers_and_held_out_pairs_are_passed_on(tmp_path: Path, driver: type[Torch]) -> None:
    train.fit(job(tmp_path, workers=4, min_workers=2, gpus_per_worker=1, holdout=0.1))
    scaling, run = driver.told["scaling_config"], driver.told["run_config"]
    assert scaling.num_workers == (2, 4) and scaling.use_gpu
    assert scaling.resources_per_worker == {"CPU": 1.0, "GPU": 1.0}
    assert run.checkpoint_config.checkpoint_score_attribute == "score"
    assert run.checkpoint_config.checkpoint_score_order == "max"


def test_only_an_elastic_training_takes_back_what_the_last_one_asked_for(
    tmp_path: Path, driver: type[Torch], monkeypatch: pytest.MonkeyPatch
) -> None:
    back: list[str] = []
    monkeypatch.setattr(ray_internals, "give_back_request", back.append)
    train.fit(job(tmp_path, workers=4))
    for _ in range(3):
        train.fit(job(tmp_path, workers=4, min_workers=2))
    assert back == ["run 2", "run 3"]


def test_a_users_mistake_in_a_worker_comes_back_as_itself(tmp_path: Path, driver: type[Torch]) -> None:
    mistake = UserError("cannot load the model")
    wrapped, cause = RuntimeError("ray's own"), RuntimeError("in between")
    wrapped.cause, cause.__cause__ = cause, mistake  # type: ignore[attr-defined]
    driver.raises = WorkerGroupError("failed", {0: RuntimeError("another rank"), 1: wrapped})
    with pytest.raises(UserError, match="cannot load the model"):
        train.fit(job(tmp_path))
    driver.raises = WorkerGroupError("failed", {0: RuntimeError("no mistake of the user")})
    with pytest.raises(WorkerGroupError):
        train.fit(job(tmp_path))


def test_quiet_sets_what_libraries_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    worker.quiet()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1" and os.environ["TQDM_DISABLE"] == "1"

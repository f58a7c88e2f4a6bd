"""The job without Ray: skipped when done, refused for another config, errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.placement import Placement
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.core.storage import read_json, write_json
from pipelines.training import train as job
from pipelines.training.config import TrainConfig
from pipelines.training.worker import Job
from tests.training.tiny import pair_rows, write_pairs

OUTCOME = {"steps": 2, "resumed_from": 0, "seconds": 4.0, "pairs": 8, "tokens": 100, "best": None}


@pytest.fixture
def finished(tmp_path: Path, tiny_model: Path) -> tuple[TrainConfig, Path, Run]:
    """A run in which training is done."""
    config, run = TrainConfig(model=str(tiny_model), precision="float32"), Run(tmp_path / "out")
    pairs = write_pairs(tmp_path / "pairs", pair_rows(5))
    step.once(run.training, job.depends_on(config, pairs, str(tiny_model), 0), lambda _: {"pairs": 5, "steps": 1})
    run.model.mkdir()
    (run.training / "ray").mkdir()
    return config, pairs, run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What the workers were told, in place of a training."""
    jobs: list[Job] = []

    def fit(told: Job) -> dict[str, Any]:
        jobs.append(told)
        return OUTCOME

    counts = {"rows": 8, "sequences": 16, "tokens": 100, "fingerprint": "x"}
    monkeypatch.setattr(job, "fit", fit)
    monkeypatch.setattr(job, "encode_pairs", lambda pairs, work, *_, paired: (Rows(work / "encoded-rows", "x"), counts))
    monkeypatch.setattr(job, "refuse_long", lambda *_: None)
    monkeypatch.setattr(job, "reference_log_probs", lambda config, model, rows, folder: Rows(folder / "rows", "y"))
    return jobs


def test_a_finished_run_is_skipped_before_any_work(
    finished: tuple[TrainConfig, Path, Run], trained: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    config, pairs, run = finished
    result = job.train(config, pairs, run)
    assert (result["pairs"], result["steps"]) == (5, 1) and not trained
    assert not (run.training / "ray").exists()
    assert "already done, 5 pairs in 1 steps" in capsys.readouterr().err


def test_a_finished_run_whose_model_is_gone_trains_again(
    finished: tuple[TrainConfig, Path, Run], trained: list[Job]
) -> None:
    config, pairs, run = finished
    run.model.rmdir()
    assert job.train(config, pairs, run)["steps"] == 2 and len(trained) == 1


def test_another_config_seed_or_pairs_in_the_same_folder_is_refused(finished: tuple[TrainConfig, Path, Run]) -> None:
    config, pairs, run = finished
    with pytest.raises(UserError, match=r"another config \(changed: learning_rate\)"):
        job.train(config.model_copy(update={"learning_rate": 1e-5}), pairs, run)
    with pytest.raises(UserError, match="changed: seed"):
        job.train(config, pairs, Run(run.out, seed=1))
    with pytest.raises(UserError, match="changed: pairs"):
        job.train(config, write_pairs(pairs.parent / "other", pair_rows(6)), run)


def test_how_a_run_is_run_may_change(finished: tuple[TrainConfig, Path, Run], tmp_path: Path) -> None:
    config, pairs, run = finished
    operational: dict[str, Any] = {
        "checkpoint_staging": tmp_path,
        "checkpoint_steps": 7,
        "compile": True,
        "cpus_per_worker": 2.0,
        "gpus_per_worker": 1.0,
        "gradient_checkpointing": True,
        "kernels": "none",
        "logging_steps": 3,
        "max_failures": 4,
        "min_workers": 1,
        "peak_tflops": 1.0,
        "placement": Placement(accelerator_type="H100"),
        "reference": tmp_path,
        "reshard_after_forward": False,
        "trackers": [],
    }
    job.train(config.model_copy(update=operational), pairs, run)
    # Every other key counts, also one that is added tomorrow.
    assert set(config.identity()) == set(TrainConfig.model_fields) - set(operational)


def test_every_byte_of_the_base_model_counts(tmp_path: Path) -> None:
    pairs, model = write_pairs(tmp_path / "pairs", pair_rows(3)), tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    found = []
    for middle in (b"\0", b"\1"):
        (model / "model.safetensors").write_bytes(bytes(2**20) + middle + bytes(2**20))
        found.append(job.depends_on(TrainConfig(), pairs, str(model), 0)["model"])
    assert found[0] != found[1]


def test_a_batch_that_does_not_add_up_is_refused_before_anything_else(tmp_path: Path, tiny_model: Path) -> None:
    config = TrainConfig(model=str(tiny_model), engine="trl", nll="token", batch_size=8, micro_batch_size=3)
    with pytest.raises(UserError, match="not a multiple"):
        job.train(config, tmp_path / "nothing", Run(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_refused_input_leaves_the_folder_free(
    tmp_path: Path, tiny_model: Path, trained: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(*_: Any) -> None:
        raise UserError("1 pair(s) are longer")

    pairs, run = write_pairs(tmp_path / "pairs", pair_rows(5)), Run(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(job, "refuse_long", too_long)
        with pytest.raises(UserError, match="are longer"):
            job.train(TrainConfig(model=str(tiny_model), max_length=16), pairs, run)
    assert job.train(TrainConfig(model=str(tiny_model), max_length=64), pairs, run)["steps"] == 2


def test_divergence_is_one_clear_line_and_leaves_no_result(
    tmp_path: Path, tiny_model: Path, trained: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "fit", lambda _: {"diverged": "the loss became nan at step 5"})
    pairs, run = write_pairs(tmp_path / "pairs", pair_rows(5)), Run(tmp_path / "out")
    with pytest.raises(UserError, match=r"metrics.jsonl: the loss became nan at step 5 \(lower train.learning_rate"):
        job.train(TrainConfig(model=str(tiny_model)), pairs, run)
    assert step.result_of(run.training) is None and not step.is_whole(run.training)


def test_done_json_tells_the_speed(
    tmp_path: Path, tiny_model: Path, trained: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, run = write_pairs(tmp_path / "p", pair_rows(8)), Run(tmp_path / "out")
    write_json(run.training_log, {"step": 1})
    run.training_log.write_text('{"step": 1}\n{"step": 2}\n')
    (run.training / "cache").mkdir()
    result = job.train(TrainConfig(model=str(tiny_model)), pairs, run)
    assert (result["pairs_per_second"], result["tokens_per_second"]) == (2.0, 25.0)
    assert (result["pairs"], result["tokens"], result["last_step"]) == (8, 100, {"step": 2})
    assert result == {**read_json(run.training / "done.json")} and result["fingerprint"]
    assert not (run.training / "cache").exists()
    assert "8 pairs, 6 tokens a sequence" in capsys.readouterr().err  # 100 tokens in 16 sequences


@pytest.mark.parametrize(("engine", "rows"), [("shared", "curated/reference/rows"), ("trl", "encoded/encoded-rows")])
def test_each_engine_trains_on_its_own_rows(
    engine: str, rows: str, tmp_path: Path, tiny_model: Path, trained: list[Job]
) -> None:
    pairs, run = write_pairs(tmp_path / "p", pair_rows(8)), Run(tmp_path / "out", seed=3)
    config = TrainConfig.model_validate({"model": str(tiny_model), "engine": engine, "nll": "token"})
    job.train(config, pairs, run)
    (told,) = trained
    assert str(told.rows).endswith(rows) and (told.run, told.model) == (run, str(tiny_model))


def test_the_reference_may_be_kept_elsewhere(tmp_path: Path, tiny_model: Path, trained: list[Job]) -> None:
    pairs = write_pairs(tmp_path / "p", pair_rows(8))
    job.train(TrainConfig(model=str(tiny_model), reference=tmp_path / "kept"), pairs, Run(tmp_path / "out"))
    assert trained[0].rows == tmp_path / "kept" / "rows"


@pytest.mark.parametrize(
    "record", ['{"checkpoint_res', '{"checkpoint_results": [{"checkpoint_dir_name": "gone"}]}', "[]"]
)
def test_a_record_of_checkpoints_that_a_kill_cut_off_is_dropped(
    record: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ray" / "dpo"
    folder.mkdir(parents=True)
    (folder / "checkpoint_manager_snapshot.json").write_text(record)
    job.drop_broken(tmp_path / "ray")
    assert not (tmp_path / "ray").exists()
    assert "training starts again" in capsys.readouterr().err


def test_a_whole_record_of_checkpoints_stays(tmp_path: Path) -> None:
    folder = tmp_path / "ray" / "dpo"
    (folder / "checkpoint-2").mkdir(parents=True)
    write_json(
        folder / "checkpoint_manager_snapshot.json", {"checkpoint_results": [{"checkpoint_dir_name": "checkpoint-2"}]}
    )
    job.drop_broken(tmp_path / "ray")
    assert (folder / "checkpoint-2").exists()
    job.drop_broken(tmp_path / "elsewhere")

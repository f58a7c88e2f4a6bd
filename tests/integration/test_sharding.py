"""Weights in shards on two gloo ranks: the steps of one worker, whoever keeps which part, and with other ranks after.

Every rank has several bins of unequal length and, the head being computed in small chunks, another number of chunks.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from pipelines.core.errors import UserError
from tests.training import ranks
from tests.training.test_shared import config, encode, trainer_for
from tests.training.tiny import write_model

CHUNK = 259 * 5  # five rows of logits
VALUES: dict[str, Any] = {
    "batch_size": 6,
    "bin_tokens": 110,
    "epochs": 2,
    "checkpoint_steps": 2,
    "learning_rate": 1e-2,
    "trackers": [],
}
FSDP = {"strategy": "fsdp"}
HALF = {"precision": "bfloat16_autocast", "holdout": 0.3, "epochs": 1}


def zero(stage: int) -> dict[str, Any]:
    """Nothing is too small to be kept in shards."""
    return {"deepspeed": {"zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose head is not its embedding, and pairs."""
    made = tmp_path_factory.mktemp("sharding")
    model = write_model(made / "model", tied=False)
    rows = [{**row, "group": row["row_id"], "alone": True} for row in encode(model, made, 12)]
    datasets.Dataset.from_list(rows).to_parquet(str(made / "rows" / "0.parquet"))
    return made


def rows_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = datasets.Dataset.from_parquet(str(folder / "rows" / "0.parquet")).to_list()
    return found


@pytest.fixture(scope="module")
def one(folder: Path) -> Any:
    """One worker's training, in this process."""
    trainer = trainer_for(config(**VALUES), folder / "model", folder / "one", rows_of(folder))
    trainer.train()
    trainer.wait()
    return trainer


def cases(folder: Path, wanted: dict[str, tuple[dict[str, Any], Path | None]]) -> list[dict[str, Any]]:
    common = {"model": str(folder / "model"), "rows": str(folder / "rows"), "chunk": CHUNK}
    base = {**VALUES, "max_length": 256, "precision": "float32", "workers": 2}
    return [
        {**common, "name": name, "config": {**base, **changes}, "resume": str(resume) if resume else None}
        for name, (changes, resume) in wanted.items()
    ]


@pytest.fixture(scope="module")
def fsdp(folder: Path, one: Any) -> dict[str, Any]:
    mine, theirs = folder / "fsdp" / "whole" / "checkpoint-2", Path(one.args.output_dir) / "checkpoint-2"
    recomputed = {**FSDP, "reshard_after_forward": False, "gradient_checkpointing": True}
    wanted = {
        "whole": (FSDP, None),
        "resumed": (recomputed, mine),
        "from_one": (FSDP, theirs),
        "half": ({**FSDP, **HALF}, None),
        "adapters": ({**FSDP, "precision": "bfloat16_autocast", "lora": {"rank": 2}, "epochs": 1}, None),
    }
    return ranks.run(folder / "fsdp", cases(folder, wanted))


@pytest.fixture(scope="module")
def deepspeed(folder: Path) -> dict[str, Any]:
    wanted = {f"zero_{stage}": (zero(stage), None) for stage in (3, 2, 1)}
    return ranks.run(folder / "zero", cases(folder, {**wanted, "half": ({**zero(2), **HALF}, None)}))


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def same_weights(trainer: Any, model: Path, tolerance: float) -> None:
    written, expected = load_file(model / "model.safetensors"), trainer.model.state_dict()
    assert written.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(written[name], weight, rtol=0, atol=tolerance)


def test_fsdp_takes_the_steps_of_one_worker(folder: Path, one: Any, fsdp: dict[str, Any]) -> None:
    told = fsdp["whole"]
    assert all(each["strategy"].endswith("FSDP") and 0.4 < each["share"] < 0.6 for each in told)
    assert told[0]["chunks"] != told[1]["chunks"]  # of the head, whose weight both gather equally often
    assert told[0]["losses"] == told[1]["losses"] == pytest.approx(losses(one), rel=1e-6)
    same_weights(one, folder / "fsdp" / "whole" / "model", 1e-6)
    config = json.loads((folder / "fsdp" / "whole" / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_takes_the_steps_of_one_worker(stage: int, folder: Path, one: Any, deepspeed: dict[str, Any]) -> None:
    told = deepspeed[f"zero_{stage}"]
    assert all(each["strategy"].endswith("DEEPSPEED") for each in told)
    assert all((each["share"] < 0.6) == (stage == 3) for each in told)
    assert told[0]["chunks"] != told[1]["chunks"]
    assert told[0]["losses"] == pytest.approx(losses(one), rel=1e-5)
    same_weights(one, folder / "zero" / f"zero_{stage}" / "model", 1e-4)


def test_each_weight_is_in_a_checkpoint_once_and_each_rank_writes_its_part(
    folder: Path, one: Any, fsdp: dict[str, Any]
) -> None:
    parts = [folder / "fsdp" / f"parts-{rank}" / "whole" / "checkpoint-2" for rank in range(2)]
    assert [[file.name for file in part.glob("*.distcp")] for part in parts] == [["__0_0.distcp"], ["__1_0.distcp"]]
    found = FileSystemReader(parts[0]).read_metadata()  # of both parts
    names = {index.fqn for index in found.storage_data}
    assert {f"model.{name}" for name, _ in one.model.named_parameters()} < names
    kept: dict[str, int] = {}
    for index, where in found.storage_data.items():
        chunks = getattr(found.state_dict_metadata[index.fqn], "chunks", [])
        kept[where.relative_path] = kept.get(where.relative_path, 0) + sum(
            math.prod(chunk.sizes) for chunk in chunks if chunk.offsets == index.offset
        )
    weights = sum(weight.numel() for weight in one.model.parameters())
    steps = len(list(one.model.parameters()))  # a counter of AdamW's for each
    assert sum(kept.values()) == 3 * weights + steps  # themselves and two moments
    assert max(kept.values()) < 0.6 * sum(kept.values())
    assert not [path for part in parts for path in part.rglob("*.safetensors")]


def test_a_resumed_run_ends_as_the_undisturbed(folder: Path, one: Any, fsdp: dict[str, Any]) -> None:
    """Also with layers kept whole after the forward pass and computed again: neither changes a number."""
    assert fsdp["resumed"][0]["losses"] == pytest.approx(fsdp["whole"][0]["losses"], rel=1e-6)
    same_weights(one, folder / "fsdp" / "resumed" / "model", 1e-6)


def test_two_ranks_go_on_where_one_stopped_and_one_where_two_did(folder: Path, one: Any, fsdp: dict[str, Any]) -> None:
    same_weights(one, folder / "fsdp" / "from_one" / "model", 1e-6)
    again = trainer_for(config(**VALUES), folder / "model", folder / "again", rows_of(folder))
    again.train(resume_from_checkpoint=str(folder / "fsdp" / "whole" / "checkpoint-2"))
    assert losses(again) == pytest.approx(losses(one), rel=1e-6)
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], weight, rtol=0, atol=1e-6)


def test_one_rank_goes_on_alone_with_what_two_had_in_shards(folder: Path, one: Any, fsdp: dict[str, Any]) -> None:
    """As an elastic run does that has lost all nodes but one."""
    mine = folder / "fsdp" / "whole" / "checkpoint-2"
    (case,) = cases(folder, {"alone": ({**FSDP, "workers": 1}, mine)})
    (told,) = ranks.run(folder / "single", [case], ranks=1)["alone"]
    assert told["strategy"].endswith("FSDP") and told["share"] == 1
    assert told["losses"] == pytest.approx(losses(one), rel=1e-6)
    same_weights(one, folder / "single" / "alone" / "model", 1e-6)


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed"])
def test_held_out_pairs_are_judged_in_the_precision_of_training(strategy: str, request: pytest.FixtureRequest) -> None:
    for told in request.getfixturevalue(strategy)["half"]:
        assert told["dtypes"] == {"train": ["bfloat16"], "eval": ["bfloat16"]}
        assert told["stored"] == told["comm"] == ["torch.float32"]  # weights, and what gradients are averaged in


def test_adapters_are_trained_on_a_base_in_shards_and_merged(folder: Path, fsdp: dict[str, Any]) -> None:
    assert fsdp["adapters"][0]["stored"] == ["torch.bfloat16", "torch.float32"]
    base, written = (
        load_file(path / "model.safetensors") for path in (folder / "model", folder / "fsdp" / "adapters" / "model")
    )
    assert base.keys() == written.keys()
    changed = {name for name, weight in base.items() if not torch.equal(weight, written[name])}
    assert changed == {name for name in base if "proj" in name}


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_line(folder: Path, one: Any, tmp_path: Path) -> None:
    old = tmp_path / "checkpoint-2"
    old.mkdir()
    for name in ("trainer_state.json", "scheduler.pt"):
        (old / name).write_bytes((Path(one.args.output_dir) / "checkpoint-2" / name).read_bytes())
    again = trainer_for(config(**VALUES), folder / "model", tmp_path / "again", rows_of(folder))
    with pytest.raises(UserError, match="the checkpoint is of an earlier version"):
        again.train(resume_from_checkpoint=str(old))

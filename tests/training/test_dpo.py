"""The trainer: its loss against plain torch, its precision, its order, its stop at NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipelines.core.run import Run
from pipelines.training.config import TrainConfig
from pipelines.training.diverged import Diverged
from pipelines.training.dpo import PairTrainer
from pipelines.training.order import HashOrder
from pipelines.training.pairs import encode_group
from pipelines.training.worker import Job, build
from tests.training.tiny import pair_rows, write_pairs


def trainer_for(config: TrainConfig, tiny_model: Path, folder: Path, n: int = 8) -> PairTrainer:
    source = write_pairs(folder / "pairs", pair_rows(n)) / "part-0.parquet"
    (folder / "encoded").mkdir()
    encode_group(source, 0, folder / "encoded" / "0.parquet", str(tiny_model))
    return build(Job(config, str(tiny_model), folder / "encoded", Run(folder)), folder / "checkpoints")


def config(**changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "batch_size": 4,
        "micro_batch_size": 2,
        "max_length": 256,
        "precision": "float32",
        "learning_rate": 1e-3,
    }
    values |= {"engine": "trl", "nll": "token"}
    return TrainConfig.model_validate({**values, **changes})


def disturb(model: torch.nn.Module) -> None:
    """Move the policy away from its reference."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)


def log_probs(model: torch.nn.Module, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Log-probabilities of the completion's tokens, one unpadded sequence, full logits."""
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return F.log_softmax(logits.float(), -1).gather(-1, torch.tensor(completion)[:, None])[:, 0]


def test_loss_is_dpo_plus_alpha_times_the_token_mean_nll(tmp_path: Path, tiny_model: Path) -> None:
    trainer = trainer_for(config(alpha=0.5, beta=0.3), tiny_model, tmp_path)
    disturb(trainer.model)
    rows = [trainer.train_dataset[i] for i in range(3)]
    rows[0]["rejected_ids"] = [9, 8, 7, *rows[0]["rejected_ids"]]  # all three lengths differ, so masks matter
    rows[1]["chosen_ids"] = rows[1]["chosen_ids"][3:]
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    dpo, tokens = [], []
    for row in rows:
        ratio = {}
        for side in ("chosen", "rejected"):
            policy = log_probs(trainer.model, row["prompt_ids"], row[f"{side}_ids"])
            ratio[side] = (policy - log_probs(trainer.ref_model, row["prompt_ids"], row[f"{side}_ids"])).sum()
            tokens += [policy] if side == "chosen" else []
        dpo.append(-F.logsigmoid(0.3 * (ratio["chosen"] - ratio["rejected"])))
    nll = -torch.cat(tokens).mean()
    expected = torch.stack(dpo).mean() + 0.5 * nll
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    logged = trainer._metrics["train"]
    assert logged["loss_nll"][-1] == pytest.approx(nll.item(), rel=1e-5)
    assert logged["loss_dpo"][-1] == pytest.approx(torch.stack(dpo).mean().item(), rel=1e-4)
    assert abs(logged["loss_dpo"][-1] - 0.693) > 0.01  # policy and reference do differ here


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16_autocast", torch.bfloat16)])
def test_autocast_is_on_when_asked_for_and_weights_stay_float32(
    precision: str, dtype: torch.dtype, tmp_path: Path, tiny_model: Path
) -> None:
    trainer = trainer_for(config(precision=precision, warmup_ratio=0), tiny_model, tmp_path, n=4)
    seen = []
    layer = trainer.model.model.layers[1].mlp.down_proj
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    before = layer.weight.detach().clone()
    trainer.train()
    assert set(seen) == {dtype}
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}
    assert not torch.equal(before, layer.weight)


def test_a_step_far_below_half_a_bfloat16_ulp_is_kept(tmp_path: Path, tiny_model: Path) -> None:
    trainer = trainer_for(
        config(learning_rate=1e-7, warmup_ratio=0, precision="bfloat16_autocast"), tiny_model, tmp_path, n=4
    )
    before = trainer.model.model.layers[0].mlp.up_proj.weight.detach().clone()
    trainer.train()
    after = trainer.model.model.layers[0].mlp.up_proj.weight
    assert not torch.equal(before, after)
    assert torch.equal(before.bfloat16(), after.bfloat16()) or (before - after).abs().max() < 1e-6


def test_order_depends_on_seed_epoch_and_row_id_alone() -> None:
    ids = [f"row-{i}" for i in range(20)]
    order = HashOrder(ids, seed=0)
    first = [ids[i] for i in order]
    shuffled = list(reversed(ids))
    assert [shuffled[i] for i in HashOrder(shuffled, seed=0)] == first
    assert sorted(first) == sorted(ids) and first != ids
    assert [ids[i] for i in HashOrder(ids, seed=1)] != first
    order.epoch = 1
    assert [ids[i] for i in order] != first


def test_each_epoch_has_its_own_order(tmp_path: Path, tiny_model: Path) -> None:
    trainer = trainer_for(config(epochs=2), tiny_model, tmp_path)
    seen = []
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: (seen.extend(tuple(row["prompt_ids"]) for row in rows), collate(rows))[1]
    trainer.train()
    assert sorted(seen[:8]) == sorted(seen[8:]) and seen[:8] != seen[8:]


def test_a_loss_that_is_no_number_stops_training_at_its_step(tmp_path: Path, tiny_model: Path) -> None:
    trainer = trainer_for(config(learning_rate=1e30, warmup_ratio=0, scheduler="constant"), tiny_model, tmp_path)
    with pytest.raises(Diverged, match=r"became (nan|inf) at step [12]"):
        trainer.train()


def test_reference_log_probs_may_be_computed_ahead(tmp_path: Path, tiny_model: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    in_loop = trainer_for(config(epochs=2), tiny_model, tmp_path / "a")
    ahead = trainer_for(config(epochs=2, precompute_reference=True), tiny_model, tmp_path / "b")
    assert ahead.ref_model is None
    losses = []
    for trainer in (in_loop, ahead):
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)

"""Held-out pairs: chosen by hash, judged by likelihood, and the best checkpoint is the model."""

from __future__ import annotations

import contextlib
import json
import math
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.errors import UserError
from pipelines.training import settings
from pipelines.training.heldout import evaluate, split
from pipelines.training.shared import SharedTrainer
from pipelines.training.worker import best
from tests.training.fakes import Accelerator, pair, trainer_of
from tests.training.test_shared import Rows, config, disturb, encode, plain_log_probs, trainer_for


@pytest.fixture(scope="module")
def rows(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    found = encode(tiny_model, tmp_path_factory.mktemp("rows"), 24)
    return [{**row, "group": f"g{i // 2}", "alone": i % 4 == 0} for i, row in enumerate(found)]


def test_rows_of_one_instruction_stay_together_whatever_their_order() -> None:
    groups = [f"g{i // 3}" for i in range(300)]
    kept, held = split(groups, 0.2, seed=1)
    assert sorted(kept + held) == list(range(300)) and 30 < len(held) < 90
    assert not {groups[i] for i in kept} & {groups[i] for i in held}
    held_back = split(groups[::-1], 0.2, seed=1)[1]
    assert {groups[::-1][i] for i in held_back} == {groups[i] for i in held}
    assert split(groups, 0.2, seed=2)[1] != held


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"train\.holdout"):
        split(["a", "b", "c"], share, seed=0)


@pytest.mark.parametrize("alone", [True, False], ids=["judgments", "critiques"])
def test_accuracy_is_that_of_plain_log_probs(alone: bool, tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    some: Rows = [{**row, "alone": alone and row["alone"]} for row in rows]
    trainer = trainer_for(config(), tiny_model, tmp_path, some)
    disturb(trainer.model)
    counted = [row for row in some if row["alone"]] or some
    right = 0
    for row in counted:
        with torch.no_grad():
            good, bad = (
                plain_log_probs(trainer.model, row["prompt_ids"], row[side]).sum()
                for side in ("chosen_ids", "rejected_ids")
            )
        right += int(good > bad)
    assert 0 < right < len(counted)
    assert evaluate(trainer, some)["heldout_accuracy"] == pytest.approx(right / len(counted))


def test_accuracy_and_losses_by_hand() -> None:
    """Four pairs: right, wrong, equal, right; of the judgments alone, which are the ones that count, one in three."""
    alone = [(-2.0, -4.0, True), (-4.0, -2.0, True), (-3.0, -3.0, True), (-1.0, -5.0, False)]
    pairs = [pair(i, good, bad, alone=judgment) for i, (good, bad, judgment) in enumerate(alone)]
    trainer = trainer_of(SharedTrainer, pairs)
    found = evaluate(trainer, pairs)
    assert found["heldout_accuracy"] == pytest.approx(1 / 3) and found["heldout_judged"] == 3
    # With one reference of -3 for all, margins are 0.5 times the difference of the log-probabilities.
    dpo = [math.log(1 + math.exp(-0.5 * difference)) for difference in (2.0, -2.0, 0.0, 4.0)]
    assert found["heldout_loss_dpo"] == pytest.approx(sum(dpo) / 4)
    assert found["heldout_loss_nll"] == pytest.approx((2 + 4 + 3 + 1) / 2 / 4)  # two chosen tokens each
    assert trainer.model.tokens == [12, 12]  # pairs of six tokens, in bins of at most sixteen


@pytest.mark.parametrize(
    ("changes", "cast"),
    [
        ({"precision": "float32"}, False),
        ({"precision": "bfloat16_autocast"}, True),
        ({"precision": "bfloat16_autocast", "deepspeed": {}}, True),  # whose own forward pass is not used here
        ({"precision": "bfloat16_autocast", "strategy": "fsdp"}, False),  # its weights are gathered in bfloat16
    ],
)
def test_they_are_judged_in_the_precision_of_training(changes: dict[str, Any], cast: bool) -> None:
    pairs = [pair(0, -2.0, -4.0), pair(1, -4.0, -2.0)]
    trainer = trainer_of(SharedTrainer, pairs, **changes)
    evaluate(trainer, pairs)
    assert set(trainer.model.autocast) == {cast}


def test_without_judgments_alone_every_pair_counts() -> None:
    pairs = [pair(0, -2.0, -4.0), pair(1, -4.0, -2.0), pair(2, -1.0, -2.0), pair(3, -1.0, -2.0)]
    found = evaluate(trainer_of(SharedTrainer, pairs), pairs)
    assert (found["heldout_accuracy"], found["heldout_judged"]) == (0.75, 4)


def test_workers_share_the_held_out_pairs_and_one_without_a_pair_adds_nothing() -> None:
    pairs = [pair(0, -2.0, -4.0, alone=True), pair(1, -4.0, -2.0), pair(2, -1.0, -2.0)]
    whole = Accelerator()
    evaluate(trainer_of(SharedTrainer, pairs, whole), pairs)
    ranks = [Accelerator(4, rank) for rank in range(4)]
    for accelerator in ranks:
        with contextlib.suppress(ZeroDivisionError):  # of a rank alone, which the sum over all ranks never meets
            evaluate(trainer_of(SharedTrainer, pairs, accelerator), pairs)
    parts = [accelerator.reduced[0] for accelerator in ranks]
    assert [bool(part.any()) for part in parts].count(False) == 1
    torch.testing.assert_close(torch.stack(parts).sum(0), whole.reduced[0])


def test_a_group_at_the_edge_of_the_share_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.training.pairs.unit", lambda seed, purpose, group: float(group))
    assert split(["0.25", "0.2", "0.25"], 0.25, seed=0) == ([0, 2], [1])


def test_the_best_checkpoint_becomes_the_model(
    tiny_model: Path, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = chain([0.5, 0.9, 0.7], repeat(0.6))
    weights: list[torch.Tensor] = []

    def judged(trainer: Any, held: Any) -> dict[str, float]:
        assert len(held) + len(trainer.steps.order) == len(rows) and held
        weights.append(next(trainer.model.parameters()).detach().clone())
        return {"heldout_accuracy": next(accuracies)}

    monkeypatch.setattr("pipelines.training.heldout.evaluate", judged)
    settings_ = config(holdout=0.3, checkpoint_steps=2, epochs=2, learning_rate=1e-2)
    trainer = trainer_for(settings_, tiny_model, tmp_path, rows)
    trainer.train()
    assert best(trainer.state) == {"step": 4, "heldout_accuracy": 0.9}
    assert not torch.equal(weights[1], weights[-1])
    torch.testing.assert_close(next(trainer.model.parameters()).detach(), weights[1], rtol=0, atol=0)
    logged = [json.loads(line) for line in (tmp_path / "train" / "heldout.jsonl").read_text().splitlines()]
    assert [(line["step"], line["heldout_accuracy"]) for line in logged][:2] == [(2, 0.5), (4, 0.9)]
    assert logged[-1]["step"] == trainer.state.max_steps  # the last step is a candidate too


def test_the_best_checkpoint_is_fetched_from_where_it_is_kept(
    tiny_model: Path, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = chain([0.9], repeat(0.6))
    monkeypatch.setattr(
        "pipelines.training.heldout.evaluate", lambda trainer, held: {"heldout_accuracy": next(accuracies)}
    )
    trainer = trainer_for(config(holdout=0.3, checkpoint_steps=2, epochs=2), tiny_model, tmp_path, rows)

    def stored(step: int) -> str:
        """As Ray Train does: the checkpoint has left the worker's disk."""
        return str((tmp_path / "checkpoints" / f"checkpoint-{step}").rename(tmp_path / "kept"))

    trainer.stored = stored
    trainer.train()
    assert (tmp_path / "kept" / ".metadata").exists()
    assert best(trainer.state) == {"step": 2, "heldout_accuracy": 0.9}


def test_trls_engine_holds_nothing_out() -> None:
    with pytest.raises(UserError, match=r"train\.holdout"):
        settings.validate(config(engine="trl", nll="token", holdout=0.1))

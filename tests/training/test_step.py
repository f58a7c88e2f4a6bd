"""One optimizer step of engine `shared`, worked out by hand: its loss, what is logged, what the workers exchange."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
import transformers

from pipelines.engines.packed.work import Work
from pipelines.training.diverged import Diverged
from pipelines.training.order import HashOrder
from pipelines.training.shared import SUMS, SharedTrainer, Steps
from tests.training.fakes import Accelerator, Pair, pair, trainer_of

PAIRS = [pair(0, -2.0, -4.0), pair(1, -4.0, -2.0), pair(2, -3.0, -3.0)]
DPO = [math.log(1 + math.exp(-0.5 * difference)) for difference in (2.0, -2.0, 0.0)]
NLL = [1.0, 2.0, 1.5]  # of two chosen tokens each


def stepper(pairs: list[Pair], accelerator: Accelerator, **config: Any) -> Any:
    trainer = trainer_of(SharedTrainer, pairs, accelerator, **config)
    rows = datasets.Dataset.from_list(pairs)
    order = HashOrder(rows["row_id"], 0)
    arguments = (trainer.config.batch_size, trainer.config.bin_tokens, accelerator.num_processes)
    trainer.steps = Steps(rows, order, *arguments, accelerator.process_index)
    trainer.pairs_seen = trainer.tokens_seen = 0
    trainer.work_seen = Work()
    trainer._window, trainer._steps = [], []
    trainer._prepare_inputs = lambda inputs: inputs
    return trainer


def test_a_step_by_hand() -> None:
    accelerator = Accelerator()
    trainer = stepper(PAIRS, accelerator, alpha=0.5)
    loss = trainer.training_step(trainer.model, trainer.steps[0])
    trainer.settle()
    dpo, nll = sum(DPO) / 3, sum(NLL) / 3
    assert loss.item() == pytest.approx(dpo + 0.5 * nll)
    assert sum(accelerator.backwards) == pytest.approx(dpo + 0.5 * nll)
    means = dict(zip(SUMS, trainer._window[0].tolist(), strict=True))
    assert means == pytest.approx(
        {
            "loss_dpo": dpo,
            "loss_nll": nll,
            "rewards/chosen": 0.5 * (1 - 1 + 0) / 3,
            "rewards/rejected": 0.5 * (-1 + 1 + 0) / 3,
            "rewards/accuracies": 1 / 3,  # a tie is not right
            "logps/chosen": -3.0,
            "logps/rejected": -3.0,
            "entropy": 0.5,
            "mean_token_accuracy": 0.25,
            "tokens": 6.0,
            "scored": 3.0,
            "attended": 1 + 2 + 3 + 4 + 5 + 4,
        }
    )
    assert (trainer.pairs_seen, trainer.tokens_seen) == (3, 18)
    assert trainer.work_seen == Work(tokens=18, scored=9, attended=3 * 19)


def test_gradients_are_exchanged_after_the_last_bin_only_and_as_a_mean_over_workers() -> None:
    whole = Accelerator()
    trainer = stepper(PAIRS, whole)
    trainer.training_step(trainer.model, trainer.steps[0])
    assert trainer.model.tokens == [12, 6]  # two bins
    assert whole.synced == [False, "no_sync", True]
    sharded = Accelerator()
    trainer = stepper(PAIRS, sharded, strategy="fsdp")
    trainer.training_step(trainer.model, trainer.steps[0])
    assert sharded.synced == [False, True]  # whole gradients would not fit until the last bin
    halves = [Accelerator(2, rank) for rank in range(2)]
    for accelerator in halves:
        part = stepper(PAIRS, accelerator)
        part.training_step(part.model, part.steps[0])
    # accelerate takes the mean of the workers' gradients, so each is told twice its share of the sum.
    assert sum(sum(each.backwards) for each in halves) / 2 == pytest.approx(sum(whole.backwards))
    torch.testing.assert_close(sum(each.reduced[0] for each in halves), whole.reduced[0])


def test_a_loss_that_is_no_number_names_step_and_rows() -> None:
    trainer = stepper([pair(0, math.nan, -1.0)], Accelerator())
    trainer.training_step(trainer.model, trainer.steps[0])
    with pytest.raises(Diverged, match="the loss became nan at step 7, row_ids r0"):
        trainer.settle()


def test_of_several_steps_the_first_that_went_wrong_is_named() -> None:
    trainer = stepper([pair(0, math.nan, -1.0)], Accelerator())
    trainer.training_step(trainer.model, trainer.steps[0])  # step 7
    trainer._norms = ((5, torch.tensor(1.0)), (6, torch.tensor(math.inf)), (7, torch.tensor(math.nan)))
    with pytest.raises(Diverged, match="the gradient norm became inf at step 6"):
        trainer.settle()


def test_the_log_has_the_means_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, float]] = []
    monkeypatch.setattr(transformers.Trainer, "log", lambda self, logs, *_: logged.append(dict(logs)))
    trainer = stepper(PAIRS, Accelerator())
    for sums in ([1.0, 2.0, 3.0], [3.0, 4.0, 9.0]):
        padded = [sums[0], 0.0, *sums[1:], *[0.0] * (len(SUMS) - 4)]
        trainer._window.append(torch.tensor(padded, dtype=torch.float64))
    trainer.log({"eval_loss": 1.0})
    trainer.log({"loss": 1.0})
    trainer.log({"loss": 2.0})
    assert logged[0] == {"eval_loss": 1.0} and logged[2] == {"loss": 2.0}
    assert logged[1]["loss_dpo"] == 2.0
    assert (logged[1]["rewards/chosen"], logged[1]["rewards/rejected"]) == (3.0, 6.0)
    assert logged[1]["rewards/margins"] == -3.0 and "tokens" not in logged[1]


def test_an_epoch_is_cut_into_steps_in_its_own_order() -> None:
    pairs = [pair(i, -1.0, -2.0, chosen_ids=[1] * (i + 1)) for i in range(5)]
    rows = datasets.Dataset.from_list(pairs)
    order = HashOrder(rows["row_id"], 0)
    steps = Steps(rows, order, 2, 100, 1, 0)
    assert len(steps) == 3
    seen = [row_id for i in range(3) for row_id in steps[i]["row_ids"]]
    assert seen == [f"r{i}" for i in order] and [steps[i]["step"].pairs for i in range(3)] == [2, 2, 1]
    assert sum(steps[i]["step"].chosen_tokens for i in range(3)) == 15
    packed = steps[0]["micro"][0]["packed"]
    assert sorted(int(packed["tree"].ids[path[0]]) for path in packed["tree"].paths[::2]) == sorted(list(order)[:2])
    order.epoch = 1
    assert [row_id for i in range(3) for row_id in steps[i]["row_ids"]] == [f"r{i}" for i in order] != seen


def test_evaluation_is_logged_and_handed_to_the_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, calls = stepper(PAIRS, Accelerator()), list[Any]()
    trainer.held, trainer.control = PAIRS, None
    trainer.log = lambda logs: calls.append(logs)
    trainer.callback_handler = SimpleNamespace(on_evaluate=lambda args, state, control, found: calls.append(found))
    found = trainer.evaluate()
    assert found["eval_heldout_accuracy"] == pytest.approx(1 / 3) and calls == [found, found]

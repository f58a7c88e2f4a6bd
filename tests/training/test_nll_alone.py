"""Recipe `rs_sft` in the trainer: the NLL of completions without a rejected one, on the real tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.core.run import Run
from pipelines.engines.packed.packing import pack
from pipelines.training.callbacks import MetricsLog
from pipelines.training.config import TrainConfig
from pipelines.training.heldout import evaluate
from pipelines.training.loss import Step, pair_loss, reference_of
from pipelines.training.pairs import encode_group
from pipelines.training.shared import SharedTrainer
from pipelines.training.worker import Job, build
from tests.training.test_shared import plain_log_probs
from tests.training.tiny import pair_rows, write_pairs

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Encoded rows without a rejected completion, of different lengths, but for one that has both."""
    folder = tmp_path_factory.mktemp("rows")
    made = [{**row, "rejected": None, "chosen": row["chosen"] * (1 + i % 3)} for i, row in enumerate(pair_rows(9))]
    source = write_pairs(folder / "pairs", [*made[:-1], pair_rows(9)[-1]]) / "part-0.parquet"
    counts = encode_group(source, 0, folder / "0.parquet", str(tiny_model), paired=False)
    found: Rows = pq.read_table(folder / "0.parquet").to_pylist()
    assert (counts["rows"], counts["sequences"]) == (9, 10)
    assert [row["rejected_ids"] == [] for row in found] == [True] * 8 + [False]
    both = [len(row["prompt_ids"]) + len(row["chosen_ids"]) for row in found]
    assert counts["tokens"] == sum(both) + len(found[-1]["prompt_ids"]) + len(found[-1]["rejected_ids"])
    return found


def trainer_of(tiny_model: Path, folder: Path, rows: Rows, **changes: Any) -> SharedTrainer:
    values = {"batch_size": 4, "bin_tokens": 100, "max_length": 256, "precision": "float32", "learning_rate": 1e-3}
    config = TrainConfig.model_validate({"recipe": "rs_sft", **values, **changes})
    (folder / "rows").mkdir(parents=True)
    datasets.Dataset.from_list(rows, features=features()).to_parquet(str(folder / "rows" / "0.parquet"))
    trainer = build(Job(config, str(tiny_model), folder / "rows", Run(folder)), folder / "checkpoints")
    assert isinstance(trainer, SharedTrainer)
    return trainer


def features() -> datasets.Features:
    ids = datasets.Sequence(datasets.Value("int32"))
    texts = dict.fromkeys(("row_id", "group", "source", "status"), datasets.Value("string"))
    lists = {"prompt_ids": ids, "chosen_ids": ids, "rejected_ids": ids}
    return datasets.Features({**texts, "alone": datasets.Value("bool"), **lists, "tokens": datasets.Value("int32")})


@pytest.mark.parametrize("nll", ["sequence", "sequence_with_prompt", "token"])
def test_a_step_is_the_nll_of_separate_sequences(nll: str, tiny_model: Path, tmp_path: Path, rows: Rows) -> None:
    trainer = trainer_of(tiny_model, tmp_path, rows[:8], nll=nll)
    batch, model = trainer.steps[0], trainer.model
    loss = trainer.training_step(model, batch)
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    taken = [row for row in rows if row["row_id"] in batch["row_ids"]]
    logps = [plain_log_probs(model, row["prompt_ids"], row["chosen_ids"]).sum() for row in taken]
    chosen, prompts = ([len(row[name]) for row in taken] for name in ("chosen_ids", "prompt_ids"))
    over = {
        "sequence": chosen,
        "sequence_with_prompt": [a + b for a, b in zip(chosen, prompts, strict=True)],
        "token": [sum(chosen) / 4] * 4,
    }[nll]
    expected = sum(-logp / n for logp, n in zip(logps, over, strict=True)) / 4
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(ours[name], weight.grad, rtol=1e-4, atol=1e-7)
    assert batch["tokens"] == sum(chosen) + sum(prompts)


def test_the_log_has_no_figure_of_pairs(tiny_model: Path, tmp_path: Path, rows: Rows) -> None:
    trainer = trainer_of(tiny_model, tmp_path, rows[:8])
    trainer.remove_callback(MetricsLog)  # it writes what it is given, once a training has begun
    loss = trainer.training_step(trainer.model, trainer.steps[0]).item()
    logs = {"loss": loss}
    trainer.log(logs)
    assert set(logs) >= {"loss", "loss_nll", "logps/chosen", "entropy", "mean_token_accuracy"}
    assert not [name for name in logs if name == "loss_dpo" or "rewards" in name or "rejected" in name]
    assert logs["loss_nll"] == pytest.approx(loss)


def test_held_out_pairs_are_judged_by_both_completions(tiny_model: Path, tmp_path: Path, rows: Rows) -> None:
    trainer = trainer_of(tiny_model, tmp_path, rows[:8])
    pair = [rows[-1]]
    found = evaluate(trainer, pair)
    chosen, rejected = (
        plain_log_probs(trainer.model, pair[0]["prompt_ids"], pair[0][side]).sum().item()
        for side in ("chosen_ids", "rejected_ids")
    )
    assert found["heldout_accuracy"] == float(chosen > rejected) and found["heldout_judged"] == 1
    assert found["heldout_loss_nll"] == pytest.approx(-chosen / len(pair[0]["chosen_ids"]), rel=1e-5)
    assert "heldout_loss_dpo" not in found


def test_without_a_reference_the_nll_is_the_same_and_nothing_else_is_left() -> None:
    policy, lengths = torch.tensor([[-3.0, 0.0], [-8.0, 0.0]]), torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    given = (lengths, torch.tensor([5, 6]), Step(2, 7), 0.1, 0.0, "sequence")
    alone = pair_loss(policy, None, *given)
    assert alone.nll.tolist() == pair_loss(policy, torch.zeros(2, 2), *given).nll.tolist() == [1.0, 2.0]
    assert alone.dpo.tolist() == alone.chosen_rewards.tolist() == alone.rejected_rewards.tolist() == [0.0, 0.0]
    assert reference_of([{"row_id": "x"}]) is None
    assert reference_of([{"ref_chosen_logp": -1.0, "ref_rejected_logp": -2.0}]).tolist() == [[-1.0, -2.0]]


def test_a_completion_without_a_partner_is_packed_as_a_path_of_its_own(rows: Rows) -> None:
    packed = pack(rows[:8])
    assert set(packed["completions"].tolist()) == set(range(0, 16, 2))
    assert len(packed["members"]) == sum(len(row["chosen_ids"]) for row in rows[:8])

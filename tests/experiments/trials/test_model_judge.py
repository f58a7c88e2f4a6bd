"""The judge of a trial: equal to the whole model and to the trainer, and the same in every trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.core.errors import UserError
from pipelines.experiments.trials.families import Family, Shelf, bins
from pipelines.experiments.trials.model_judge import ModelJudge
from pipelines.training.config import TrainConfig
from tests.training.tiny import write_model

Values = list[list[float]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("judge")))


def config(**changes: Any) -> TrainConfig:
    values = {
        "batch_size": 4,
        "bin_tokens": 120,
        "max_length": 256,
        "precision": "float32",
        "learning_rate": 3e-3,
        "warmup_ratio": 0,
    }
    return TrainConfig.model_validate({**values, **changes})


def families(pairs: int = 8, asked: int = 5) -> list[Family]:
    """Pairs that begin alike, and held-out prompts with closed sets of two to four verdicts, one of several tokens."""
    random = np.random.default_rng(0)

    def ids(count: int) -> list[int]:
        return [int(one) for one in random.integers(3, 250, count)]

    start = ids(6)
    found = [Family([*start, *ids(5 + i)], [ids(2), ids(2 + i % 3)]) for i in range(pairs)]
    return found + [
        Family([*start, *ids(4 + i)], [[7, 2], [8, 2], [9, 9, 2], [10, 2]][: 2 + i % 3]) for i in range(asked)
    ]


def judge(model: str, layers: int | None = None, settings: TrainConfig | None = None) -> tuple[ModelJudge, Values]:
    made = ModelJudge(settings or config(), model, layers, families())
    expected, states = made.first_pass(range(13))
    made.begin(states, expected)
    return made, expected


def train(made: ModelJudge, expected: Values, rows: Sequence[int] = range(8), seed: int = 0) -> Values:
    rows = list(rows)
    made.fit(rows, [f"r{i}" for i in rows], [expected[i] for i in rows], seed=seed, config=made.config)
    return made.judge(range(8, 13))


def close(ours: Values, theirs: Values, tolerance: float = 2e-4) -> bool:
    return all(np.allclose(a, b, atol=tolerance) for a, b in zip(ours, theirs, strict=True))


def alike(ours: Values, theirs: Values, before: Values) -> bool:
    """Whether two trainings differ by a small part of what each has changed: Adam makes whole steps of rounding."""
    one, two, base = (np.concatenate([np.array(row) for row in values]) for values in (ours, theirs, before))
    return bool(np.abs(one - two).max() < 0.1 * np.abs(two - base).max())


def test_a_shelf_has_every_token_once_and_in_order() -> None:
    shelf = Shelf.of(families())
    last = shelf.families[-1]
    assert shelf.starts[0] == 0 and shelf.starts[1] == shelf.families[0].tokens
    path = shelf.path(12, 1)
    begin = shelf.starts[12] + len(last.prompt)
    assert path.tolist() == [*range(shelf.starts[12], begin), begin + 2, begin + 3]
    assert sorted(one for chosen in bins(shelf.families, 60) for one in chosen) == list(range(13))


def test_the_first_pass_is_the_librarys_own_model(model: str) -> None:
    made = ModelJudge(config(), model, None, families())
    found, states = made.first_pass(range(13))
    assert states.numel() == 0 and [len(one) for one in found[8:]] == [2, 3, 4, 2, 3]
    for values, family in zip(found, made.shelf.families, strict=True):
        for value, completion in zip(values, family.completions, strict=True):
            ids = torch.tensor([[*family.prompt, *completion]])
            logits = type(made.model).forward(made.model, ids).logits[0, len(family.prompt) - 1 : -1]
            plain = torch.log_softmax(logits, -1).gather(-1, torch.tensor(completion)[:, None]).sum()
            assert abs(float(plain) - value) < 1e-3


def test_the_upper_layers_on_the_table_are_the_whole_model(model: str) -> None:
    made, expected = judge(model, layers=1)
    assert len(made.backbone.layers) == 1
    assert close(made.judge(range(13)), expected)
    assert close([made.judge([i])[0] for i in range(13)], expected)  # whatever shares its bin


def test_training_on_the_table_is_training_with_the_lower_layers_frozen(model: str) -> None:
    shared, expected = judge(model, layers=1)
    whole, _ = judge(model)
    whole.model.requires_grad_(False)
    for part in (whole.backbone.layers[1], whole.backbone.norm):
        part.requires_grad_(True)
    ours, theirs = train(shared, expected), train(whole, expected)
    assert alike(ours, theirs, expected[8:])
    assert not alike(train(shared, expected, range(4)), theirs, expected[8:])


def test_a_trial_is_the_training_that_the_job_does(model: str, tmp_path: Path) -> None:
    import datasets

    from pipelines.core.run import Run
    from pipelines.experiments.trials.model_judge import features
    from pipelines.training.worker import Job, build

    made, expected = judge(model)
    ours = train(made, expected)
    names = ("ref_chosen_logp", "ref_rejected_logp")
    rows = [
        {**made.shelf.families[i].rows()[0], "row_id": f"r{i}", **dict(zip(names, expected[i], strict=True))}
        for i in range(8)
    ]
    (tmp_path / "rows").mkdir()
    datasets.Dataset.from_list(rows, features=features()).to_parquet(str(tmp_path / "rows" / "0.parquet"))
    settings = made.config.model_copy(update={"trackers": []})
    trainer = build(Job(settings, model, tmp_path / "rows", Run(tmp_path)), tmp_path / "checkpoints")
    trainer.train()
    other, _ = judge(model)
    other.model.load_state_dict(trainer.model.state_dict())
    assert alike(ours, other.judge(range(8, 13)), expected[8:])


@pytest.mark.parametrize("precision", ["float32", "bfloat16_autocast"])
@pytest.mark.parametrize("settings", [{"layers": 1}, {"layers": None}, {"layers": 1, "lora": {"rank": 2}}])
def test_no_trial_knows_of_the_one_before(model: str, settings: dict[str, Any], precision: str) -> None:
    lora = {"lora": settings["lora"]} if "lora" in settings else {}
    made, expected = judge(model, settings["layers"], config(**lora, precision=precision))
    first = train(made, expected, range(4))
    assert close(made.judge(range(8, 13)), first)
    train(made, expected, range(2, 8), seed=1)
    assert train(made, expected, range(4)) == first != expected[8:]
    assert train(made, expected) != train(made, expected, seed=3)


def test_more_layers_than_there_are_are_refused(model: str) -> None:
    with pytest.raises(UserError, match=r"trials\.layers: the model has 2 layers"):
        ModelJudge(config(), model, 3, families()).first_pass(range(2))


def test_a_model_that_does_more_than_its_layers_is_refused(model: str) -> None:
    made = ModelJudge(config(), model, 1, families())
    expected, states = made.first_pass(range(13))
    with pytest.raises(UserError, match="differ from the whole model"):
        made.begin(states, [[value + 1 for value in row] for row in expected])


def test_what_bfloat16_does_to_one_completion_is_no_reason_to_refuse(model: str) -> None:
    made = ModelJudge(config(), model, 1, families())
    expected, states = made.first_pass(range(13))
    made.begin(states, [[expected[0][0] + 0.3, *expected[0][1:]], *expected[1:]])

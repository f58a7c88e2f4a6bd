"""The two recipes: what each depends on, what it refuses, and that the driver hands the right rows on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.training import recipes, settings
from pipelines.training import train as job
from pipelines.training.config import TrainConfig
from pipelines.training.metrics import line
from pipelines.training.rounds import Material
from pipelines.training.worker import Job
from tests.training.tiny import pair_rows, write_pairs


def config(recipe: str = "rs_sft", **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({"recipe": recipe, **changes})


def test_the_papers_recipe_is_the_default() -> None:
    assert TrainConfig().recipe == "dpo_nll" and recipes.settled(config("dpo_nll", alpha=0.5)).alpha == 0.5


def test_a_result_depends_on_what_its_recipe_looks_at() -> None:
    other = {"beta": 0.3, "alpha": 0.5, "label_smoothing": 0.1}
    assert recipes.identity(config(**other)) == recipes.identity(config())
    assert recipes.identity(config("dpo_nll", **other)) != recipes.identity(config("dpo_nll"))
    own: dict[str, Any] = {"own_critiques": {"samples": 9}}
    assert recipes.identity(config("dpo_nll", **own)) == recipes.identity(config("dpo_nll"))
    assert recipes.identity(config(**own)) != recipes.identity(config())
    pools = {"own_critiques": {"rows_per_block": 7, "engine": {"engines": [1, 3]}}}
    assert recipes.identity(config(**pools)) == recipes.identity(config())
    assert recipes.identity(config()) != recipes.identity(config("dpo_nll"))


def test_alone_the_nll_has_the_weight_one() -> None:
    assert recipes.settled(config(alpha=0.25)).alpha == 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "trl", "nll": "token"}, r"train\.recipe: engine 'trl' trains on pairs only"),
        ({"own_critiques": {"keep": 5}}, r"train\.own_critiques: keep 5 is more than samples 4"),
        (
            {"own_critiques": {"engine": {"max_model_len": 256}}},
            r"max_model_len: an answer of 512 tokens leaves no room",
        ),
    ],
)
def test_what_does_not_fit_the_recipe_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        settings.validate(config(**changes))
    settings.validate(config("dpo_nll", **changes))


def test_the_plan_says_what_is_sampled(tmp_path: Path) -> None:
    said = "\n".join(settings.describe(config(own_critiques={"rounds": 2}), Run(tmp_path)))
    assert "NLL by sequence" in said and "2 round(s)" in said and "up to 4 answers" in said and "beta" not in said
    assert "rejection" not in "\n".join(settings.describe(config("dpo_nll"), Run(tmp_path)))


def test_a_line_of_the_log_does_without_rewards() -> None:
    step = {"step": 1, "steps": 2, "loss": 0.5, "pairs_per_second": 1.0, "elapsed": 3.0}
    assert line(step) == "  train: step 1/2, loss 0.500, 1.00 pairs/s, ETA 0:03"
    assert "preferred 0.75, 1.00 pairs/s" in line({**step, "rewards/accuracies": 0.75})


def test_what_is_kept_is_trained_on_without_a_reference(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def fit(given: Job) -> dict[str, Any]:
        told.append(given)
        return {"steps": 2, "resumed_from": 0, "seconds": 4.0, "pairs": 3, "tokens": 100, "best": None}

    def encode(pairs: Path, work: Path, *_: Any, paired: bool) -> Any:
        told.append((pairs, paired))
        return Rows(work / "rows", "x"), {"rows": 3, "sequences": 3, "tokens": 30}

    kept = write_pairs(tmp_path / "kept", pair_rows(3))
    monkeypatch.setattr(job, "own_rows", lambda config, pairs, run, fit: Material(kept, "of the rounds", None))
    monkeypatch.setattr(job, "encode_pairs", encode)
    monkeypatch.setattr(job, "refuse_long", lambda *_: None)
    monkeypatch.setattr(job, "reference_log_probs", lambda *_: pytest.fail("there is nothing to compare with"))
    monkeypatch.setattr(job, "fit", fit)
    run = Run(tmp_path / "out")
    made = config(model=str(tiny_model), alpha=0.5)
    result = job.train(made, tmp_path / "pairs", run)
    assert told[0] == (kept, False) and told[1].rows == run.training / "encoded" / "rows"
    assert told[1].config.alpha == 1.0 and told[1].model == str(tiny_model)
    # Rows that are the same, made again: the run holds another training.
    monkeypatch.setattr(job, "own_rows", lambda config, pairs, run, fit: Material(kept, "of other rounds", None))
    run.model.mkdir()
    with pytest.raises(UserError, match=r"changed: made_from"):
        job.train(made, tmp_path / "pairs", run)
    assert result["pairs"] == 3


def test_a_material_may_name_the_model_to_go_on_with(tmp_path: Path, tiny_model: Path) -> None:
    kept = write_pairs(tmp_path / "kept", pair_rows(3))
    with pytest.raises(UserError, match="no model 'gone'"):
        job.train_on(config(model=str(tiny_model)), Material(kept, "x", "gone"), Run(tmp_path / "out"))

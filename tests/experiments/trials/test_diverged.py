"""Trials whose weights are no longer numbers: no verdicts are written, and a job that needs them ends in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.experiments.trials import running
from pipelines.experiments.trials.trial import BASE, DIVERGED, Trial, trial
from pipelines.experiments.trials.worker import VERDICTS, Ground, Worker
from pipelines.training.config import TrainConfig
from tests.training.tiny import write_model

ROWS = [f"r{i}" for i in range(8)]
HUGE = {"learning_rate": 1e38}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("diverged")))


def ground(folder: Path, model: str, layers: int | None = None, **changes: Any) -> Ground:
    settings = {"bin_tokens": 600, "max_length": 256, "precision": "float32", "batch_size": 4, "warmup_ratio": 0}
    config = TrainConfig.model_validate({**settings, "learning_rate": 3e-3, **changes})
    pairs = [{"row_id": name, "source": "flipped", "prompt": name, "chosen": "A", "rejected": "B"} for name in ROWS]
    asked = [{"judgment_id": f"j{i}", "prompt": f"say {i}", "completions": ["A", "B"]} for i in range(3)]
    return Ground(folder, "f", config, model, layers, pairs, asked)


def worker(where: Ground) -> Worker:
    made = Worker(where)
    for number in range(where.blocks):
        made.first_pass(number)
    return made


def probs(where: Ground, one: Trial) -> list[list[float]]:
    return [row["probs"] for row in storage.read_table(where.place(one) / VERDICTS).to_pylist()]


@pytest.mark.parametrize("layers", [None, 1])
@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        (ROWS[:4], r"its verdicts are no numbers after step 1, the last"),
        (ROWS, r"the (loss|gradient norm) became nan at step 2"),
    ],
)
def test_a_trial_that_diverges_is_done_without_verdicts_and_the_next_knows_nothing_of_it(
    tmp_path: Path, model: str, rows: list[str], seen: str, layers: int | None
) -> None:
    plain, bad = trial(ROWS, 0), trial(rows, 0, HUGE)
    alone, after = ground(tmp_path / "a", model, layers), ground(tmp_path / "b", model, layers)
    worker(alone).run(plain)
    one = worker(after)
    result = one.run(bad)
    assert re.fullmatch(seen, result[DIVERGED])
    assert result["seconds"] > 0 and result["tokens"] > 0 and result["pairs"] == len(rows)
    assert not storage.exists(after.place(bad) / VERDICTS)
    assert one.run(bad) == result  # read, not done again
    one.run(plain)
    assert probs(after, plain) == probs(alone, plain)


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """Run trials without Ray, until one has no verdicts where that ends the job; those that were run."""
    ran: list[Trial] = []

    def run(where: Ground, left: list[Trial], concurrent: int, keep_diverged: bool) -> None:
        one = worker(where)
        for each in left:
            ran.append(each)
            if not (running.judged(one.run(each)) or keep_diverged):
                return

    monkeypatch.setattr(running, "_run", run)
    return ran


def test_a_job_that_needs_all_verdicts_ends_in_one_line_and_so_does_the_next(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = in_this_process(monkeypatch)
    where = ground(tmp_path, model)
    trials = [BASE, trial(ROWS[:4], 0), trial(ROWS[:4], 1, HUGE), trial(ROWS, 2)]
    line = (
        "trial on 4 pairs of flipped, learning_rate 1e+38, seed 1: diverged: its verdicts are no numbers after "
        "step 1, the last (lower trials.train.learning_rate, which is 1e+38)"
    )
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            running.run_trials(where, trials, 1)
        assert str(caught.value) == line
        assert ran == trials[:3]


def test_a_job_that_keeps_them_goes_on_and_does_none_again(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = in_this_process(monkeypatch)
    where, trials = ground(tmp_path, model), [BASE, trial(ROWS[:4], 1, HUGE), trial(ROWS, 2)]
    for _ in range(2):
        places = running.run_trials(where, trials, 1, keep_diverged=True)
        assert [DIVERGED in (step.result_of(places[one]) or {}) for one in trials] == [False, True, False]
        assert ran == trials


def test_a_model_that_says_no_numbers_is_refused_before_any_training(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = write_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    where = ground(tmp_path / "out", str(folder))
    with pytest.raises(UserError, match="its log-probabilities are no numbers before any training"):
        worker(where)
    assert step.result_of(where.block(0)) is None

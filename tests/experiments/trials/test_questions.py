"""Verdicts of held-out rows: by the tokens that tell them apart, as the batch job has them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.experiments.trials.questions import Question
from pipelines.experiments.trials.trial import BASE, trial
from pipelines.experiments.trials.worker import VERDICTS, Ground, Worker
from pipelines.training.config import TrainConfig
from tests.training.tiny import write_model

END = 2


def test_a_place_for_each_parting_and_what_is_in_common_belongs_to_the_prompt() -> None:
    one = Question.of([5, 6], [[7, 8, END], [7, 9, END], [7, 9, 8, END]])
    assert [(list(family.prompt), family.completions) for family in one.families()] == [
        ([5, 6, 7], [[8], [9]]),
        ([5, 6, 7, 9], [[END], [8]]),
    ]
    found = one.logprobs([[math.log(0.1), math.log(0.3)], [math.log(0.02), math.log(0.06)]])
    assert np.exp(found).tolist() == pytest.approx([0.25, 0.75 * 0.25, 0.75 * 0.75])


def test_answers_of_the_same_tokens_are_refused() -> None:
    with pytest.raises(UserError, match="do not tell the answers of two verdicts apart"):
        Question.of([5], [[7, END], [8, END], [7, END]])


def ground(folder: Path, layers: int | None) -> Ground:
    """Two pairs, and rows whose verdicts have one token, two tokens, and one that begins with another."""
    model = str(write_model(folder / "model"))
    settings: dict[str, Any] = {"bin_tokens": 300, "max_length": 256, "precision": "float32", "batch_size": 2}
    pairs = [{"row_id": f"r{i}", "prompt": f"which {i}?", "chosen": "R: A", "rejected": "R: B"} for i in range(2)]
    allowed = (["A", "B"], ["Yes", "No"], ["1", "2", "10"])
    asked = [
        {"judgment_id": f"j{i}", "prompt": f"say {i}", "completions": [f"R: {one}" for one in own], "allowed": own}
        for i, own in enumerate(allowed)
    ]
    config = TrainConfig.model_validate({**settings, "learning_rate": 3e-3, "warmup_ratio": 0})
    return Ground(folder / "out", "f", config, model, layers, pairs, asked)


@pytest.mark.parametrize("layers", [None, 1])
def test_a_trial_writes_what_the_librarys_own_model_says_at_the_verdict(tmp_path: Path, layers: int | None) -> None:
    from transformers import AutoModelForCausalLM

    from pipelines.engines.llm.verdict_tokens import branches, path_logprobs, tree_of, verdict_tokens
    from pipelines.judging.chat import encode_prompt
    from pipelines.training.pairs import load_tokenizer

    made = ground(tmp_path, layers)
    worker = Worker(made)
    for number in range(made.blocks):
        worker.first_pass(number)
    worker.run(BASE)
    rows = storage.read_table(made.place(BASE) / VERDICTS).to_pylist()
    tokenizer, model = load_tokenizer(made.model), AutoModelForCausalLM.from_pretrained(made.model)
    for row, asked in zip(rows, made.asked, strict=True):
        shared, paths = verdict_tokens(tokenizer, asked["completions"])
        ids, found = [*encode_prompt(tokenizer, asked["prompt"]), *shared], {}
        for place, after in branches(tree_of(paths)):
            with torch.no_grad():
                likely = model(torch.tensor([[*ids, *place]])).logits[0, -1].log_softmax(-1)
            found[place] = {token: float(likely[token]) for token in after}
        assert row["probs"] == pytest.approx(np.exp(path_logprobs(paths, found)).tolist(), abs=1e-5)

    one = trial(["r0", "r1"], 0)
    worker.run(one)
    trained = storage.read_table(made.place(one) / VERDICTS).to_pylist()
    assert [len(row["probs"]) for row in trained] == [2, 2, 3]
    assert all(abs(np.array(a["probs"]) - b["probs"]).max() > 1e-4 for a, b in zip(trained, rows, strict=True))
    assert all(sum(row["probs"]) == pytest.approx(1) for row in [*rows, *trained])

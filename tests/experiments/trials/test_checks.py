"""What is refused before any trial is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config
from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.experiments.trials import ground as grounds
from pipelines.experiments.trials import heldout
from pipelines.experiments.trials.checks import require_answers, require_layers, require_measurable, unmeasurable
from tests.training.tiny import write_model


def rows(gold: list[str], groups: str = "", task: str = "absolute", name: str = "mine") -> list[Row]:
    groups = groups or "abcdefghij"[: len(gold)]
    return [
        {"benchmark": name, "task": task, "gold": one, "group_id": group}
        for one, group in zip(gold, groups, strict=True)
    ]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (rows(["3"] * 4), "all its gold scores are 3, and with a constant nothing correlates"),
        (
            rows(["3", "3", "3", "4"]),
            "its gold scores differ in one group of rows alone (d), and an interval needs two",
        ),
        (rows(["1", "2", "3"], "aaa"), "its 3 judgments are one group of rows, and an interval needs two"),
        (rows(["A", "B"], "aa", "pairwise"), "its 2 judgments are one group of rows, and an interval needs two"),
        (rows(["A", "A"], "ab", "pairwise"), ""),
        (rows(["1", "2", "2.5"]), ""),
    ],
)
def test_a_set_without_a_figure_or_an_interval_says_why(found: list[Row], why: str) -> None:
    assert unmeasurable(found) == why


def test_what_is_accepted_has_a_figure_without_each_group_and_what_is_refused_has_none() -> None:
    import numpy as np
    import pandas as pd

    from pipelines.evaluation.scoring.metrics.pearson import without_groups

    random = np.random.default_rng(0)
    for _ in range(200):
        found = rows([str(one) for one in random.integers(1, 3, 4)], "".join(random.choice(list("abc"), 4)))
        table = pd.DataFrame(found).assign(gold=lambda t: t["gold"].astype(float), score=random.random(4))
        assert bool(unmeasurable(found)) == bool(
            table["group_id"].nunique() < 2 or np.isnan(without_groups(table)).any()
        )


def test_the_one_set_of_several_is_named() -> None:
    good = rows(["A", "B"], "ab", "pairwise", "good")
    with pytest.raises(UserError) as caught:
        require_measurable([*good, *rows(["3"] * 4, name="constant")])
    assert str(caught.value) == (
        "trials.heldout.benchmarks: constant: nothing can be measured on it: all its gold scores are 3, and with a "
        "constant nothing correlates (raise trials.heldout.sample or max_tokens, or leave it out)"
    )
    require_measurable(good)


CONSTANT = """
name: constant
task: absolute
about: Rows of one score.
files: [rows.jsonl]
license: CC0-1.0
published: 2024
allowed: 1..5
expected_n: 8
metric: pearson
fields:
  instruction: record.text
  responses: "[record.text]"
  rubric: "'Good?'"
  verdict: "'3'"
"""


def config(tmp_path: Path, **trials: Any) -> Config:
    raw = {
        "out_dir": tmp_path / "out",
        "curation": {"sources": ["sample_pairwise", "sample_absolute"]},
        "evaluation": {"benchmarks": ["heldout_pairwise"]},
        "train": {"model": str(write_model(tmp_path / "model"))},
        "trials": {"heldout": {"benchmarks": ["heldout_pairwise"]}, **trials},
    }
    return Config.model_validate(raw)


def test_layers_are_counted_before_anything_else_is_done(tmp_path: Path) -> None:
    made = config(tmp_path, layers=99)
    (tmp_path / "model" / "model.safetensors").unlink()  # the config alone is read
    with pytest.raises(UserError) as caught:
        grounds.validate(made.train, made.curation, made.trials)
    assert str(caught.value) == "trials.layers: the model has 2 layers (name fewer, or set null)"
    other = made.trials.model_copy(update={"judge": "stand_in"})
    grounds.validate(made.train, made.curation, other)
    require_layers(made.train.model, 2)


def asked(answers: list[str]) -> list[Row]:
    return [
        {"judgment_id": "j", "benchmark": "mine", "template": "odd.yaml", "prompt": "x", "completions": answers}
        | {"task": "classification", "gold": "a", "group_id": group}
        for group in "ab"
    ]


def test_answers_of_the_same_tokens_are_refused_by_the_driver_and_named(tmp_path: Path) -> None:
    model = str(write_model(tmp_path / "model"))
    require_answers(model, asked(["R: A", "R: B"]))
    with pytest.raises(UserError) as caught:
        require_answers(model, asked(["R: A", "R: B", "R: A"]))
    assert str(caught.value) == (
        "trials.heldout.benchmarks: mine, template odd.yaml: the model's tokens do not tell the answers of two "
        "verdicts apart (name a template with other verdicts)"
    )


@pytest.mark.parametrize(
    ("layers", "answers", "words"),
    [(99, ["R: A", "R: B"], "the model has 2 layers"), (None, ["R: A", "R: A"], "do not tell the answers")],
)
def test_the_ground_is_not_laid_for_trials_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: int | None, answers: list[str], words: str
) -> None:
    import pyarrow as pa

    from pipelines.core import storage
    from pipelines.core.segment import Rows

    storage.write_table(tmp_path / "rows" / "0.parquet", pa.Table.from_pylist(asked(answers)))
    monkeypatch.setattr(grounds, "write_heldout", lambda *_: Rows(tmp_path / "rows", "f"))
    made = config(tmp_path, layers=layers)
    with pytest.raises(UserError, match=words):
        grounds.lay_on(Run(tmp_path / "out"), [], "f", made.train, made.curation, made.trials)


def test_a_held_out_set_of_one_gold_score_is_refused_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.jsonl").write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(8)))
    (tmp_path / "constant.yaml").write_text(CONSTANT)
    monkeypatch.setenv("OPENSELENE_DATA_ROOT", str(data))
    made = config(tmp_path).trials.heldout.model_copy(update={"benchmarks": [str(tmp_path / "constant.yaml")]})
    run = Run(tmp_path / "out", data_root=data)
    for _ in range(2):  # also where it has been written before
        with pytest.raises(UserError, match="constant: nothing can be measured on it: all its gold scores are 3"):
            heldout.write_heldout(run, made, {}, "embedded")

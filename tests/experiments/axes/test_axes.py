"""Axes: which settings are tried, which pairs they take, and the leaderboard with what other jobs have made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import Config
from pipelines.core import step, storage
from pipelines.core.determinism import unit
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.experiments.axes.config import AxesConfig
from pipelines.experiments.axes.job import both_forms, checked, leaderboard, place_of
from pipelines.experiments.axes.leaderboard import others
from pipelines.experiments.axes.points import OWN, Point, points_of, trials_of
from pipelines.experiments.sweep.config import SweepConfig
from pipelines.experiments.trials.trial import BASE, Trial, trial
from pipelines.experiments.trials.worker import JUDGED, VERDICTS, Ground
from ray_jobs.axes import describe


def config(tmp_path: Path, **changes: Any) -> Config:
    raw = {
        "out_dir": tmp_path,
        "curation": {"sources": ["sample_pairwise", "sample_absolute"]},
        "evaluation": {"benchmarks": ["heldout_pairwise"]},
        "trials": {"heldout": {"benchmarks": ["heldout_pairwise"]}},
        **changes,
    }
    return Config.model_validate(raw)


def points(tmp_path: Path, axes: AxesConfig | None = None) -> list[Point]:
    made = config(tmp_path)
    sweep = SweepConfig(learning_rate=[1e-7, 1e-6], alpha=[0.5, 1.0], weight_decay=[0.1])
    return points_of(axes or made.axes, sweep, made.train, made.curation)


def test_each_setting_differs_in_one_value_and_none_comes_twice(tmp_path: Path) -> None:
    found = points(tmp_path, AxesConfig(beta=[0.05, 0.1], cot_share=[0.7, 1.0], nll=["token"]))
    assert [one.name for one in found] == [
        OWN,
        "beta 0.05",
        "nll token",
        "cot_share 1",
        "drop_inconsistent_rejected true",
    ]
    assert found[1].changes(found[0]) == {"beta": 0.05} and found[3].changes(found[0]) == {}


def test_the_grid_of_the_sweep_is_among_them(tmp_path: Path) -> None:
    none = {"beta": [], "nll": [], "cot_share": [], "drop_inconsistent_rejected": []}
    found = points(tmp_path, AxesConfig.model_validate({**none, "grid": True, "learning_rate": [1e-6]}))
    assert [one.name for one in found] == [OWN, "learning_rate 1e-06", "alpha 0.5", "learning_rate 1e-06, alpha 0.5"]


def test_a_row_keeps_its_critiques_and_changes_its_format_with_the_share() -> None:
    rows = [{"row_id": f"r{i}", "rejected_consistent": i % 2 == 0} for i in range(60)]
    values = {"cot_share": 0.5, "drop_inconsistent_rejected": False}
    values |= dict.fromkeys(("learning_rate", "alpha", "weight_decay", "beta", "nll"), 1)
    own = Point(OWN, values)

    def rows_of(**changes: Any) -> set[str]:
        return set(trials_of(Point("x", values | changes), own, rows, 20, [3], 7)[0].rows)

    half, whole, none = rows_of(), rows_of(cot_share=1.0), rows_of(cot_share=0.0)
    assert {row.split(".")[0] for row in half} == {row.split(".")[0] for row in whole} and len(half) == 20
    assert all(row.endswith(".cot") for row in whole) and all(row.endswith(".judgment_only") for row in none)
    assert all((unit(7, "format", row.split(".")[0]) < 0.5) == row.endswith(".cot") for row in half)
    dropped = rows_of(drop_inconsistent_rejected=True)
    assert len(dropped) == 20 and all(int(row[1:].split(".")[0]) % 2 == 0 for row in dropped)


def test_only_rows_with_both_formats_are_taken() -> None:
    pools = {"cot": [{"row_id": "a"}, {"row_id": "b"}], "judgment_only": [{"row_id": "c"}, {"row_id": "b"}]}
    rows, pairs = both_forms(pools)
    assert [row["row_id"] for row in rows] == ["b"]
    assert [row["row_id"] for row in pairs] == ["b.cot", "b.judgment_only"]


def test_other_jobs_trainings_stand_on_the_same_board(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert others(run) == []
    header = "trial,learning_rate,alpha,weight_decay,heldout_accuracy,low,high,judged,seconds\n"
    storage.write_text(run.sweep / "table.csv", header + "lr1,1e-7,1,0.1,0.75,0.6,0.9,40,12.5\n")
    storage.write_json(run.sweep / "lr1" / "train" / "done.json", {"tokens": 900})
    storage.write_text(
        run.recipes / "table.csv",
        "model,pairwise,absolute,training_seconds,sampling_seconds,tokens\nbase,0.5,0.1,,,\nrs_sft,0.6,0.2,30,12,700\n",
    )
    sweep, recipe, base = others(run)
    assert (sweep["value"], sweep["tokens"], sweep["seconds"], sweep["by"]) == (0.75, 900, 12.5, "sweep")
    assert (recipe["training"], recipe["value"], recipe["seconds"]) == ("rs_sft", pytest.approx(0.4), 42)
    assert (base["training"], base["seconds"], base["tokens"]) == ("base", 0, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": {"judge": "stand_in"}}, "a stand-in knows none"),
        ({"axes": {"beta": [], "nll": [], "cot_share": [], "drop_inconsistent_rejected": []}}, "nothing is varied"),
        ({"train": {"workers": 2}}, "one process"),
        ({"train": {"engine": "trl", "nll": "token"}}, "engine 'trl'"),
        ({"trials": {"train": {"bta": 1}}}, r"trials\.train: bta"),
        ({"trials": {"seeds": [1, 1]}}, "a seed comes twice"),
        ({"trials": {"pool": 10, "pairs": 20}}, "20 pairs cannot be taken from 10 rows"),
        ({"train": {"max_length": 512}}, "allow 2048 tokens"),
    ],
)
def test_trials_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    made = config(tmp_path, **changes)
    with pytest.raises(UserError, match=words):
        checked(made.train, made.curation, made.trials, made.axes, made.sweep)


def test_rows_that_curation_drops_cannot_be_kept(tmp_path: Path) -> None:
    changes = {"critique": {"drop_inconsistent_rejected": True}, "sources": ["sample_pairwise"]}
    made = config(tmp_path, curation=changes, axes={"drop_inconsistent_rejected": [False]})
    with pytest.raises(UserError, match="dropped already"):
        checked(made.train, made.curation, made.trials, made.axes, made.sweep)


def test_the_dry_run_says_how_many_trials(tmp_path: Path) -> None:
    said = "\n".join(describe(config(tmp_path)))
    assert "24 trials: 8 settings, 3 seeds, 128 pairs each" in said and "  beta 0.05" in said


def board(tmp_path: Path, bad: set[str]) -> tuple[Any, list[dict[str, Any]], str]:
    """The leaderboard of three settings on held-out pairs, of which some diverge with the second of three seeds."""
    made = config(tmp_path, trials={"seeds": [0, 1, 2]}, axes={"beta": [0.05, 0.5], "nll": [], "cot_share": []})
    found = points(tmp_path, AxesConfig(beta=[0.05, 0.5], nll=[], cot_share=[], drop_inconsistent_rejected=[]))
    asked = [
        {"judgment_id": f"j{i}", "benchmark": "p", "task": "pairwise", "group_id": str(i), "gold": "A"}
        for i in range(40)
    ]
    asked = [{**row, "allowed": ["A", "B"]} for row in asked]
    ground = Ground(tmp_path, "f", made.train, "embedded", None, [], asked)
    arms = {
        one.name: tuple(trial([f"{one.name}-{seed}"], seed, one.changes(found[0])) for seed in range(3))
        for one in found
    }

    def write(one: Trial, gone: bool, right: float) -> None:
        def verdicts(folder: Any) -> step.Result:
            result = {"seconds": 2.0, "tokens": 50, "pairs": 1}
            if gone:
                return {**result, "diverged": "the loss became nan at step 3"}
            share = np.random.default_rng([one.seed, int(100 * right)]).random(40) < right
            lines = [
                {"judgment_id": f"j{i}", "probs": [0.9, 0.1] if yes else [0.1, 0.9]} for i, yes in enumerate(share)
            ]
            storage.write_table(folder / VERDICTS, pa.Table.from_pylist(lines, JUDGED))
            return result

        step.once(ground.place(one), ground.depends(one), verdicts)

    write(BASE, False, 0.5)
    for number, (name, mine) in enumerate(arms.items()):
        for one in mine:
            write(one, name in bad and one.seed == 1, 0.6 + 0.15 * number)
    places = {one: ground.place(one) for one in [BASE, *(one for mine in arms.values() for one in mine)]}
    return leaderboard(Run(tmp_path), found, arms, places, ground, made.trials, made.axes)


def test_a_setting_that_diverges_is_a_line_with_its_cost_and_never_the_best(tmp_path: Path) -> None:
    made, table, plot = board(tmp_path, {"beta 0.5"})
    assert [line["training"] for line in table] == ["beta 0.05", OWN, "beta 0.5"]
    gone = table[-1]
    assert (gone["figure"], gone["value"], gone["low"], gone["pairwise"]) == ("diverged", None, None, None)
    assert (gone["seconds"], gone["tokens"], gone["beta"]) == (2.0, 50, 0.5)
    assert all(line["value"] is not None for line in table[:2])
    said = {one.about: (one.verdict, one.why) for one in made.decisions}
    assert said["beta 0.5"] == ("diverged", "with 1 of 3 seeds; seed 1: the loss became nan at step 3")
    assert said["beta 0.05"][1].startswith("+0.")
    assert {one.of for one in made.figures} == {OWN, "beta 0.05"} and made.cost.trials == 9
    assert made.notes[-1].startswith("Diverged with one seed or more") and made.notes[-1].endswith(
        "Holm counts: beta 0.5."
    )
    assert "<svg" in plot


def test_what_diverges_takes_no_part_in_holms_count(tmp_path: Path) -> None:
    """Two settings beside the config's own: without the one that diverged, the other is tested alone."""
    from pipelines.experiments.axes import job

    counted: list[set[str]] = []
    plain = job.more_than_chance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "more_than_chance", lambda gaps, error: counted.append({*gaps}) or plain(gaps, error))
        board(tmp_path / "none", set())
        board(tmp_path / "one", {"beta 0.5"})
    assert counted == [{"beta 0.05", "beta 0.5"}, {"beta 0.05"}]


@pytest.mark.parametrize("bad", [{OWN}, {OWN, "beta 0.05", "beta 0.5"}])
def test_a_leaderboard_stands_also_where_the_configs_own_settings_diverge(tmp_path: Path, bad: set[str]) -> None:
    made, table, _ = board(tmp_path, bad)
    said = {one.about: one for one in made.decisions}
    assert said[OWN].verdict == "diverged" and len(table) == 3
    for name in {"beta 0.05", "beta 0.5"} - bad:
        assert (said[name].verdict, said[name].why) == ("no difference shown", "the config's own settings diverged")
    assert {line["training"] for line in table if line["figure"] == "diverged"} == bad


def test_what_diverged_stands_below_the_worst_and_what_is_undefined() -> None:
    lines = [
        {"figure": "diverged", "value": None},
        {"figure": "gain", "value": None},
        {"figure": "gain", "value": -0.3},
        {"figure": "gain", "value": 0.1},
    ]
    assert sorted(lines, key=place_of) == lines[::-1]

"""Recipes compared without engines: equally many tokens, what is refused, what is benchmarked, and the table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import Config
from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.evaluation.scoring.comparison import Comparison, Difference
from pipelines.evaluation.scoring.results import Results
from pipelines.evaluation.scoring.task_means import TaskEntry
from pipelines.experiments.recipes import job, records
from pipelines.experiments.recipes.budget import Sizes, count, cut
from pipelines.experiments.recipes.table import Trained, shown, write_table
from pipelines.experiments.records import record
from pipelines.training.pairs import is_held_out
from pipelines.training.rounds import Cost, Material
from ray_jobs.recipes import describe
from tests.training.tiny import pair_rows, write_pairs


def config(tmp_path: Path, **changes: Any) -> Config:
    raw = {
        "out_dir": tmp_path,
        "curation": {"sources": []},
        "evaluation": {"benchmarks": ["heldout_pairwise"]},
        **changes,
    }
    return Config.model_validate(raw)


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 50), max_size=30), st.integers(0, 500))
def test_a_budget_is_kept_and_used_up_to_less_than_a_row(tokens: dict[str, int], most: int) -> None:
    sizes = Sizes(tokens, "x")
    kept = sizes.within(most, 0)
    used = sum(tokens[name] for name in kept)
    assert used <= most
    if kept != tokens.keys():
        assert used + max(tokens[name] for name in tokens.keys() - kept) > most
    assert sizes.within(sizes.total, 0) == tokens.keys()


def test_recipes_keep_the_same_rows_as_far_as_their_tokens_reach() -> None:
    names = [f"row-{i}" for i in range(200)]
    short, long = Sizes(dict.fromkeys(names, 10), "x"), Sizes(dict.fromkeys(names[:150], 20), "y")
    few, many = long.within(1000, 3), short.within(1000, 3)
    assert len(few) == 50 and len(many) == 100 and few <= short.within(1000 + 20 * 50, 3)
    assert short.within(1000, 4) != many


def test_tokens_count_once_each_and_those_held_out_not_at_all(tmp_path: Path) -> None:
    held = next(f"g{i}" for i in range(100) if is_held_out(f"g{i}", 0.3, 0))
    free = next(f"g{i}" for i in range(100) if not is_held_out(f"g{i}", 0.3, 0))
    rows = [
        {"row_id": "pair", "group": free, "prompt_ids": [1, 2, 3], "chosen_ids": [4], "rejected_ids": [5, 6]},
        {"row_id": "alone", "group": free, "prompt_ids": [1, 2], "chosen_ids": [4], "rejected_ids": []},
        {"row_id": "held", "group": held, "prompt_ids": [1, 2], "chosen_ids": [4], "rejected_ids": [5]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert count(tmp_path, 0.3, 0).to_pylist() == [{"row_id": "pair", "tokens": 6}, {"row_id": "alone", "tokens": 3}]


def test_the_cut_leaves_what_is_held_out_and_is_done_once(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", [{**row, "more": "x"} for row in pair_rows(6)])
    run, given = Run(tmp_path / "out"), Material(pairs, "rounds", "model")
    sizes = Sizes({f"row-{i:04d}": 10 for i in range(4)}, "rows")  # of the last two nothing is known: they are held out
    found = cut(given, sizes, 25, run)
    table = storage.read_table(found.pairs)
    kept = set(table["row_id"].to_pylist())
    assert len(kept) == 4 and {"row-0004", "row-0005"} < kept and kept - {"row-0004", "row-0005"} == sizes.within(25, 0)
    assert table.column_names == ["row_id", "prompt", "chosen", "rejected", "status"] and found.model == "model"
    assert cut(given, sizes, 25, run) == found and found.made_from != given.made_from
    with pytest.raises(UserError, match="changed: tokens"):
        cut(given, sizes, 35, run)


def test_more_tokens_than_a_recipe_has_are_refused(tmp_path: Path) -> None:
    totals = {"dpo_nll": 900, "rs_sft": 400}
    assert job.budget_of(totals, config(tmp_path).recipes) == 400
    assert job.budget_of(totals, config(tmp_path, recipes={"tokens": 300}).recipes) == 300
    with pytest.raises(UserError, match=r"recipes\.tokens: 500 tokens are more than there are: rs_sft has 400"):
        job.budget_of(totals, config(tmp_path, recipes={"tokens": 500}).recipes)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a recipe comes twice"):
        describe(config(tmp_path, recipes={"names": ["rs_sft", "rs_sft"]}))
    with pytest.raises(UserError, match=r"train\.recipe: engine 'trl' trains on pairs only"):
        describe(config(tmp_path, train={"engine": "trl", "nll": "token"}))


def test_each_recipe_is_a_run_of_its_own_and_all_are_benchmarked_with_the_base(tmp_path: Path) -> None:
    made = config(
        tmp_path,
        recipes={"learning_rate": {"rs_sft": 1e-5}},
        evaluation={"benchmarks": ["heldout_pairwise"], "models": {"x": "y"}},
    )
    configs = {name: job.config_of(name, made.train, made.recipes) for name in made.recipes.names}
    assert {name: (one.recipe, one.learning_rate) for name, one in configs.items()} == {
        "dpo_nll": ("dpo_nll", 1e-7),
        "rs_sft": ("rs_sft", 1e-5),
    }
    run, evaluation, base = job.benchmark_of(made.run, made.train, made.evaluation, made.recipes)
    out = made.run.recipes
    models = {"base": "embedded", "dpo_nll": str(out / "dpo_nll" / "model"), "rs_sft": str(out / "rs_sft" / "model")}
    assert (run.out, evaluation.models, base) == (out, models, "embedded")
    said = "\n".join(describe(made))
    assert "compare dpo_nll and rs_sft on as many tokens as the recipe with the fewest has" in said
    assert f"{made.run.pairs} -> {out / 'rs_sft' / 'model'}" in said and "benchmark base, dpo_nll, rs_sft on 1" in said


def results() -> Results:
    """Three models on one task, by hand."""

    def task(value: float) -> TaskEntry:
        rest: dict[str, Any] = {"accuracy": value, "pearson": None, "parse_rate": 1.0, "baseline": 0.5, "chance": 0.5}
        rest |= {"position_consistency": None, "position_consistency_n": 0, "partial": False, "benchmarks": ["b"]}
        return TaskEntry(n=60, metric="accuracy", value=value, ci_low=value - 0.1, ci_high=value + 0.1, **rest)

    def gap(against: str, value: float, model: str | None = None) -> Comparison:
        found: dict[str, Any] = {"n": 60, "metric": "accuracy", "shown": "", "sentence": f"{model}: {value}"}
        entry = Difference(difference=value, ci_low=value - 0.0625, ci_high=value + 0.0625, **found)
        return Comparison(model=model, against=against, benchmarks={}, tasks={"pairwise": entry})

    return Results.model_construct(
        models={"base": {}, "dpo_nll": {}, "rs_sft": {}},
        tasks={
            name: {"pairwise": task(value)} for name, value in (("base", 0.5), ("dpo_nll", 0.75), ("rs_sft", 0.625))
        },
        comparison={"dpo_nll": gap("base", 0.25), "rs_sft": gap("base", 0.125)},
        other_comparisons=[gap("dpo_nll", -0.125, "rs_sft")],
    )


TRAINED = {
    "dpo_nll": Trained(40, 9000, 1.0, 10, 12.5, Cost()),
    "rs_sft": Trained(50, 8990, 1.0, 13, 11.0, Cost(200, 90, 3000, 2000, 1500, 7.25, True, 500, 2.5)),
}


def test_the_table_has_a_line_a_model_with_its_cost_and_its_differences(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", TRAINED, results())
    base, dpo, sft = csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text()))
    assert (base["model"], base["rows"], base["pairwise"]) == ("base", "", "0.5")
    assert (dpo["tokens"], dpo["answers"], dpo["pairwise_minus_base"]) == ("9000", "0", "0.25")
    assert dpo["pairwise_minus_dpo_nll"] == ""
    assert (sft["pairwise_minus_dpo_nll"], sft["pairwise_minus_dpo_nll_low"]) == ("-0.125", "-0.1875")
    assert (sft["sampled_output_tokens"], sft["sampling_seconds"], sft["sampling_resumed"]) == ("1500", "7.25", "True")
    assert (sft["earlier_rounds_tokens"], sft["rows"], sft["training_seconds"]) == ("500", "50", "11.0")


def test_the_comparison_is_one_of_the_runs_experiments(tmp_path: Path) -> None:
    made = config(tmp_path)
    write_table(made.run.recipes / "table.csv", TRAINED, results())
    records.write(made.run, made.recipes, TRAINED, results())
    about = record.read(made.run.experiments / "recipes")
    gaps = {one.of: one.value for one in about.figures}
    assert gaps == {"dpo_nll minus base": 0.25, "rs_sft minus base": 0.125, "rs_sft minus dpo_nll": -0.125}
    assert about.cost.tokens == 17990 and about.cost.seconds == pytest.approx(12.5 + 11 + 7.25 + 2.5, abs=0.06)
    assert "<svg" in (made.run.experiments / "index.html").read_text()


def test_the_terminal_shows_the_same_side_by_side() -> None:
    said = shown(TRAINED, results())
    lines = {line.strip().split("  ")[0]: line for line in said.splitlines()}
    assert said.splitlines()[0].split() == ["base", "dpo_nll", "rs_sft"]
    pairwise = next(line for name, line in lines.items() if name.startswith("pairwise"))
    assert pairwise.endswith("0.62 (0.53, 0.72)") and lines["− dpo_nll"].endswith("  -0.12 (-0.19, -0.06)")
    assert lines["right answers"].split()[2:] == ["–", "–", "90", "of", "200"]
    assert lines["sampling, s"].endswith("at least 7") and lines["rounds before, tokens"].endswith("500")
    assert said.splitlines()[-1] == "rs_sft: -0.125"
    alone = {"dpo_nll": TRAINED["dpo_nll"]}
    assert "rounds before" not in shown(alone, results())

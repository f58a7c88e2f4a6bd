"""The six formats: which rows are asked again, and what comes out where the format changes the verdicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.core.segment import Rows
from pipelines.evaluation.asking.judgments import write_judgments
from pipelines.evaluation.asking.prompt_formats import FORMATS, OURS, write_formats
from pipelines.evaluation.scoring.results import summarise
from pipelines.judging.templates import load
from tests.evaluation.conftest import JudgedRun, judge_all

ORIGINAL = {"pairwise": "pairwise_original"}  # in place of the compact one of the packaged sets
SEVERAL = ["original", "markdown", "json", "brackets"]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(tables).to_pylist()


def ask(made: JudgedRun, *formats: str, **settings: Any) -> Rows | None:
    """The pairs of a run in further formats."""
    config = made.config.model_copy(update={"formats": list(formats), **settings})
    return write_formats(made.run, config, made.rows)


def judge_formats(made: JudgedRun, rules: dict[str, Callable], formats: list[str]) -> dict[str, Path]:
    asked = ask(made, *formats) or pytest.fail("nothing to ask")
    found = {}
    for model, rule in rules.items():
        folder = judge_all(asked.folder, rule, made.out / "judged-formats" / model)
        found[model] = write_judgments(folder, asked.folder, made.out / "benchmark" / "formats" / f"{model}.parquet")
    return found


def test_the_paper_names_five_formats_and_the_sixth_is_marked_as_ours() -> None:
    assert len(FORMATS) == 6
    for name, template in FORMATS.items():
        assert load(template).task == "pairwise"
        assert load(template).origin.startswith("ours" if name in OURS else "arXiv 2501.17195, Appendix E")


def test_pairs_are_asked_again_in_every_other_format_and_nothing_else_changes(make_run: Callable) -> None:
    run = make_run({}, sample=8, templates=ORIGINAL)
    before = [row for row in rows_of(run.examples) if row["task"] == "pairwise"]
    asked = rows_of((ask(run, *SEVERAL) or pytest.fail("nothing to ask")).folder)
    # The run itself asks in the original format.
    for name in SEVERAL[1:]:
        again = [row for row in asked if row["template"] == FORMATS[name]]
        as_before = [
            {**row, "template": "pairwise_original", "judgment_id": row["judgment_id"].removeprefix(f"{name}:")}
            for row in again
        ]
        assert as_before == before
    assert len(asked) == 3 * len(before) == 48
    assert len({row["judgment_id"] for row in [*asked, *before]}) == 64


def test_a_run_in_a_format_of_its_own_is_asked_in_the_original_too(make_run: Callable) -> None:
    rules = {"steady": lambda row: f"Result: {row['gold']}"}
    run = make_run(rules, ["heldout_pairwise"], sample=4)
    formats = judge_formats(run, rules, ["original"])
    assert {row["template"] for row in rows_of(run.run.work / "formats" / "rows")} == {"pairwise_original"}
    results = summarise(run.judgments, run.examples, run.config, 0, formats).to_json()
    found = results["robustness"]["steady"]["heldout_pairwise"]
    assert {name: one["ours"] for name, one in found["formats"].items()} == {"original": False, "compact": True}


def test_only_the_benchmarks_named_are_asked_again(make_run: Callable, write_benchmark: Callable) -> None:
    mine = write_benchmark([{"q": str(n), "a": "x", "b": "y", "label": "A"} for n in range(3)])
    run = make_run({}, ["heldout_pairwise", mine], sample=2)
    asked = ask(run, "json", format_benchmarks=["mine"]) or pytest.fail("nothing to ask")
    assert {row["benchmark"] for row in rows_of(asked.folder)} == {"mine"}
    with pytest.raises(UserError, match="'other' is not among"):
        ask(run, "json", format_benchmarks=["other"])


def test_there_may_be_nothing_to_ask(make_run: Callable) -> None:
    run = make_run({}, ["heldout_absolute", "heldout_pairwise"], sample=2, templates=ORIGINAL)
    assert ask(run, "original") is None
    assert ask(run, "original") is None  # once it is written too


def test_an_unknown_format_and_another_config_are_refused(make_run: Callable) -> None:
    run = make_run({}, ["heldout_pairwise"], sample=2)
    with pytest.raises(UserError, match="no format 'yaml'"):
        ask(run, "yaml")
    first = ask(run, "json", "brackets")
    assert ask(run, "brackets", "json") == first
    with pytest.raises(UserError, match=r"another config \(changed: formats\)"):
        ask(run, "json")
    run.rows = Rows(run.rows.folder, "of another config")
    with pytest.raises(UserError, match=r"another config \(changed: examples\)"):
        ask(run, "json", "brackets")


def moody(row: dict[str, Any]) -> str:
    """Right in the original, always A in Markdown, silent in JSON, wrong in brackets."""
    wrong = {"A": "B", "B": "A"}.get(row["gold"], "A")
    answers = {
        "pairwise_original": f"Result: {row['gold']}",
        "pairwise_markdown": "**Result:** A",
        "pairwise_json": "I cannot say.",
        "pairwise_brackets": f"[[{wrong}]]",
    }
    return answers.get(row["template"], "Result: 3")


def steady(row: dict[str, Any]) -> str:
    return f"Result: {row['gold']}"


def test_robustness_is_the_headline_in_every_format_with_spread_and_worst_case(make_run: Callable) -> None:
    rules = {"steady": steady, "moody": moody}
    run = make_run(rules, ["heldout_pairwise"], templates=ORIGINAL)
    formats = judge_formats(run, rules, SEVERAL)
    found = summarise(run.judgments, run.examples, run.config, 0, formats).to_json()
    entry = found["robustness"]["moody"]["heldout_pairwise"]
    assert {name: one["value"] for name, one in entry["formats"].items()} == {
        "original": 1.0,
        "markdown": 0.5,
        "json": 0.0,
        "brackets": 0.0,
    }
    assert [one["parse_rate"] for one in entry["formats"].values()] == [1.0, 1.0, 0.0, 1.0]
    assert [name for name, one in entry["formats"].items() if one["ours"]] == ["brackets"]
    assert (entry["best"], entry["worst"], entry["spread"], entry["worst_value"]) == ("original", "json", 1.0, 0.0)
    markdown = entry["formats"]["markdown"]
    assert markdown["ci_low"] <= 0.5 <= markdown["ci_high"]
    assert markdown["against"]["difference"] == -0.5
    assert "moody is worse than steady" in markdown["against"]["sentence"]
    assert entry["formats"]["original"]["against"]["difference"] == 0.0
    other = found["robustness"]["steady"]["heldout_pairwise"]
    assert (other["spread"], other["worst_value"]) == (0.0, 1.0)
    assert {one["against"] for one in other["formats"].values()} == {None}
    # The run's own figures do not move.
    assert found["models"] == summarise(run.judgments, run.examples, run.config, 0).to_json()["models"]


def test_without_other_formats_there_is_no_robustness(make_run: Callable, two_models: dict) -> None:
    run = make_run(two_models, ["heldout_pairwise"], sample=4)
    assert summarise(run.judgments, run.examples, run.config, 0).to_json()["robustness"] == {}


def test_the_same_judgments_make_the_same_file_whatever_the_order_of_the_rows(make_run: Callable) -> None:
    run = make_run({}, ["heldout_pairwise"], sample=4)
    asked = (ask(run, *SEVERAL) or pytest.fail("nothing to ask")).folder
    judged = judge_all(asked, moody, run.out / "judged")
    first = write_judgments(judged, asked, run.out / "first.parquet").read_bytes()
    (judged / "0.parquet").rename(judged / "2.parquet")
    assert write_judgments(judged, asked, run.out / "second.parquet").read_bytes() == first

"""Benchmarks as YAML: the packaged ones load, a broken one says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.evaluation.asking.benchmark_rows import benchmark_examples, unconfirmed, write_benchmark_rows
from pipelines.evaluation.benchmarks.registry import BENCHMARKS, PAPER_BENCHMARKS
from pipelines.evaluation.config import EvaluationConfig
from pipelines.judging import templates
from pipelines.judging.tasks import TASKS

OURS = {"heldout_pairwise", "heldout_absolute", "heldout_classification"}


@pytest.mark.parametrize("name", BENCHMARKS.names())
def test_a_packaged_benchmark_is_well_formed(name: str) -> None:
    benchmark = BENCHMARKS.load(name)
    assert benchmark.name == name
    assert benchmark.split == "test"
    assert benchmark.about and benchmark.notes
    assert templates.load(benchmark.template_name).task == benchmark.task
    assert benchmark.whole_n is None or benchmark.whole_n > benchmark.expected_n


def test_the_packaged_benchmarks_cover_every_task() -> None:
    wanted = OURS | {"hhh_alignment", "evalbiasbench", "auto_j", "mt_bench"}
    assert wanted <= set(BENCHMARKS.names())
    assert {BENCHMARKS.load(name).task for name in BENCHMARKS.names()} == set(TASKS)


ON_THE_HUB = {
    "flask": "ContextualAI/Flask",
    "reward_bench": "allenai/reward-bench",
    "reward_bench_2": "allenai/reward-bench-2",
    "judge_bench": "ScalerLab/JudgeBench",
    "rm_bench": "THU-KEG/RM-Bench",
    "biggen_bench": "prometheus-eval/BiGGen-Bench-Results",
    "llm_aggrefact": "lytang/LLM-AggreFact",
}


def test_the_paper_benchmarks_are_all_registered() -> None:
    assert set(PAPER_BENCHMARKS) <= set(BENCHMARKS.names())
    assert {name for name in BENCHMARKS.names() if BENCHMARKS.load(name).hub} == set(ON_THE_HUB)


def test_what_the_docs_say_of_a_benchmark_is_so() -> None:
    lines = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text().splitlines()
    table = {cells[1].strip("` "): cells for line in lines if len(cells := line.split("|")) == 7}
    described = set(table) & set(BENCHMARKS.names())
    assert set(PAPER_BENCHMARKS) <= described  # others may be added by their YAML file alone
    for name in described:
        benchmark = BENCHMARKS.load(name)
        _, _, task, rows, here, eleven, _ = table[name]
        assert task.strip() == benchmark.task
        assert rows.split()[0] == f"{benchmark.expected_n:,}"
        assert benchmark.whole_n is None or f"{benchmark.whole_n:,}" in rows
        known = "partial" if benchmark.partial and benchmark.files else "hub only" if benchmark.hub else "complete"
        assert known in here
        assert (eleven.strip() == "yes") == (name in PAPER_BENCHMARKS)


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_a_benchmark_of_the_hub_says_what_is_not_confirmed_and_names_its_id_when_it_is_out_of_reach(
    name: str, tmp_path: Path
) -> None:
    benchmark = BENCHMARKS.load(name)
    assert benchmark.hub is not None
    assert unconfirmed(benchmark, tmp_path)
    with pytest.raises(UserError, match=rf"hub dataset {ON_THE_HUB[name]}: cannot be read") as caught:
        benchmark_examples([name], tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_not_confirmed_is_said_before_a_benchmark_is_read(
    write_benchmark: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_benchmark([{"q": "q", "a": "x", "b": "y", "label": "A"}], to_confirm="all of it")
    write_benchmark_rows(Run(tmp_path / "out"), EvaluationConfig(benchmarks=[path]))
    assert "mine, to confirm: all of it" in capsys.readouterr().err


def test_an_unknown_benchmark_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"did you mean 'auto_j'"):
        BENCHMARKS.load("autoj")


def test_a_benchmark_named_twice_is_refused() -> None:
    with pytest.raises(UserError, match="'auto_j' and 'auto_j' are both named 'auto_j'"):
        BENCHMARKS.load_all(["auto_j", "auto_j"], "evaluation.benchmarks")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"allowed": ["1", "2"]}, "map 1 -> A, 2 -> B"),
        (
            {"task": "absolute", "metric": "pearson", "allowed": ["low", "high"]},
            "map low -> 1, high -> 3",
        ),
        ({"partial": True}, "partial and reason"),
        ({"reason": "half of it"}, "partial and reason"),
        ({"extra": {"other": "record.q"}}, "subset"),
        ({"expected_n": 0}, "expected_n"),
        ({"sections": {"x": ["one"], "y": ["one"]}}, "belongs to one section"),
        ({"sections": {"x": ["one"]}, "row_weights": {"two": [2, 1]}}, "the subset two is in no section"),
        ({"sections": {"x": ["one"]}, "row_weights": {"one": [2, 0]}}, "at least 1"),
        ({"balanced": True}, "balanced is for classification"),
        ({"task": "classification", "allowed": ["Yes", "No"], "best_of": True}, "best_of is for pairwise"),
        ({"ordres": "given"}, "did you mean 'orders'"),
        ({"fields": {"instruction": "record.q"}}, "fields"),
    ],
)
def test_a_broken_benchmark_is_one_clear_line(write_benchmark: Callable[..., str], changes: dict, words: str) -> None:
    path = write_benchmark([{"q": "x"}], **changes)
    with pytest.raises(UserError, match=words) as caught:
        BENCHMARKS.load(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)

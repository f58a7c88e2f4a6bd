"""The paper's tables: their averages follow from their figures; our models above them, where that is fair."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from pipelines.evaluation.benchmarks.registry import PAPER_BENCHMARKS
from pipelines.evaluation.report import page, published_judges
from pipelines.evaluation.report.published_judges import MISPRINTS, Judge, averages, table, task_of, with_ours
from pipelines.evaluation.scoring.results import summarise


@pytest.mark.parametrize(("number", "rows"), [(1, 7), (3, 19)])
def test_the_printed_averages_follow_from_the_figures(number: Literal[1, 3], rows: int) -> None:
    assert len(table(number)) == rows
    whole = 0
    for judge in table(number):
        fixed = judge.values | {name: value for (model, name), value in MISPRINTS.items() if model == judge.model}
        found = averages(fixed)
        assert (found is None) == (judge.tasks is None) == (judge.benchmarks is None)
        if found:
            whole += 1
            assert found == (pytest.approx(judge.tasks, abs=6e-4), pytest.approx(judge.benchmarks, abs=6e-4)), judge
    assert whole == {1: 5, 3: 13}[number]


def test_the_misprint_is_one() -> None:
    (judge,) = (judge for judge in table(3) if judge.model == "Llama-3-OffsetBias-8B")
    assert judge.values["llm_aggrefact"] == 0.722
    found = averages(judge.values)
    assert found and judge.tasks and abs(found[0] - judge.tasks) < 1e-3


def test_what_the_tables_share_is_the_same() -> None:
    third = {judge.model: judge for judge in table(3)}
    for judge in table(1):
        assert third[judge.model].values == judge.values
    assert [judge.model for judge in table(1) if judge.dagger] == [
        "SFR-LLaMA-3.1-8B-Judge",
        "Prometheus-2-7B",
        "Patronus-GLIDER-3.8B",
        "FlowAI-Judge-3.8B",
    ]


def test_the_tasks_are_the_papers() -> None:
    assert [task_of(name) for name in PAPER_BENCHMARKS] == ["absolute"] * 3 + ["pairwise"] * 6 + ["classification"] * 2


def judged(**benchmarks: tuple[float | None, bool]) -> Any:
    """Results of one model: name -> value, and whether the benchmark is partial."""
    entries = {name: SimpleNamespace(value=value, partial=partial) for name, (value, partial) in benchmarks.items()}
    return SimpleNamespace(models={"mine": entries})


def test_published_judges_are_shown_with_whole_benchmarks_only() -> None:
    rows = with_ours(judged(hhh_alignment=(0.8, False), auto_j=(0.5, True), lfqa=(None, False), own=(0.9, False)))
    assert rows[0] == Judge("mine", False, None, None, {"hhh_alignment": 0.8}, ours=True)
    assert [row.model for row in rows[1:3]] == ["Atla-Selene-Mini", "SFR-LLaMA-3.1-8B-Judge"]
    assert not any(row.ours for row in rows[1:])
    assert with_ours(judged(own=(0.9, False))) == with_ours(judged(auto_j=(0.9, True))) == []


def test_our_averages_are_those_of_the_eleven() -> None:
    (selene,) = (judge for judge in table(1) if judge.model == "Atla-Selene-Mini")
    ours = with_ours(judged(**{name: (value, False) for name, value in selene.values.items()}))[0]
    assert ours.values == selene.values
    assert (ours.tasks, ours.benchmarks) == (
        pytest.approx(selene.tasks, abs=6e-4),
        pytest.approx(selene.benchmarks, abs=6e-4),
    )
    assert ours.tasks != pytest.approx(ours.benchmarks, abs=1e-3)


def test_the_page_shows_them(make_run: Callable, two_models: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("heldout_pairwise", "hhh_alignment")
    monkeypatch.setattr(page, "PAPER_BENCHMARKS", names)
    monkeypatch.setattr(published_judges, "PAPER_BENCHMARKS", names)
    run = make_run(two_models)
    text = page.render_report(summarise(run.judgments, run.examples, run.config, seed=0), [], [], None)
    assert "Published judges" in text and "Prometheus-2-7B †" in text and "<b>trained</b>" in text

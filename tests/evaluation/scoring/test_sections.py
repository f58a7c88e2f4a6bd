"""Headlines that are means of sections, weighted rows and items of several pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.core.errors import UserError
from pipelines.evaluation.asking.benchmark_rows import benchmark_examples
from pipelines.evaluation.benchmarks.registry import BENCHMARKS, Benchmark
from pipelines.evaluation.scoring import sections
from pipelines.evaluation.scoring.results import summarise
from pipelines.evaluation.scoring.score import headline
from pipelines.evaluation.scoring.verdict_tables import best_of

TWO = {"easy": ["e1", "e2"], "hard": ["h"]}


def table(*rows: tuple[str, float], groups: list[str] | None = None) -> pd.DataFrame:
    names, points = zip(*rows, strict=True)
    numbers = [f"g{number}" for number in range(len(rows))]
    return pd.DataFrame({"subset": names, "points": points, "group_id": groups or numbers})


@pytest.fixture
def two(write_benchmark: Callable[..., str]) -> Callable[..., Benchmark]:
    def make(**changes: Any) -> Benchmark:
        return BENCHMARKS.load(write_benchmark([{}], sections=TWO, **changes))

    return make


def test_the_headline_is_the_mean_of_the_sections_not_of_the_rows(two: Callable[..., Benchmark]) -> None:
    rows = table(("e1", 1), ("e1", 1), ("e2", 0), ("h", 0.5))
    assert sections.scores(rows, two()) == {"easy": pytest.approx(2 / 3), "hard": 0.5}
    assert headline(rows, two()) == pytest.approx((2 / 3 + 0.5) / 2)


def test_a_section_without_rows_is_null_and_the_headline_is_of_the_others(
    two: Callable[..., Benchmark],
) -> None:
    rows = table(("e1", 1), ("e2", 0))
    assert sections.scores(rows, two()) == {"easy": 0.5, "hard": None}
    assert headline(rows, two()) == 0.5


def test_weighted_rows_count_more_within_their_section(two: Callable[..., Benchmark]) -> None:
    rows = table(("e1", 1), ("e2", 0), ("e2", 0), ("h", 1))
    assert sections.scores(rows, two(row_weights={"e1": [6, 3]}))["easy"] == pytest.approx(2 / 4)


def test_mathematics_counts_as_much_as_code_in_reward_bench() -> None:
    """RewardBench: math-prm's 447 rows weigh as 984, the number of the code rows."""
    benchmark = BENCHMARKS.load("reward_bench")
    code = [("hep-python", 1.0)] * 984
    assert sections.scores(table(*code, *[("math-prm", 0.0)] * 447), benchmark)["Reasoning"] == pytest.approx(0.5)
    assert sections.scores(table(*code, *[("math-prm", 1.0)] * 447), benchmark)["Reasoning"] == pytest.approx(1.0)
    assert [len(subsets) for subsets in benchmark.sections.values()] == [5, 6, 5, 7]


def test_the_headline_s_interval_is_made_of_those_of_the_sections(two: Callable[..., Benchmark]) -> None:
    benchmark = two(row_weights={"e1": [3, 1]})
    rows = table(
        *[("e1", n % 2) for n in range(20)], *[("e2", 1) for _ in range(20)], *[("h", n % 3 > 0) for n in range(30)]
    )
    found = sections.measure(rows, benchmark)
    parts = sections.entries(rows, benchmark, 0.95)
    assert found.value == pytest.approx(headline(rows, benchmark))
    low, _ = found.interval(0.95)
    reach = np.hypot(*(part.value - part.ci_low for part in parts.values())) / 2
    assert low == pytest.approx(found.value - reach)
    assert found.shifts.shape == (70,) and found.shifts.sum() == pytest.approx(0, abs=1e-12)


def test_a_section_of_one_group_leaves_the_headline_without_interval(two: Callable[..., Benchmark]) -> None:
    rows = table(("e1", 1), ("e2", 1), ("h", 0))
    assert sections.measure(rows, two()).interval(0.95) == (None, None)
    found = sections.entries(rows, two(), 0.95)
    assert found["hard"].model_dump() == {"n": 1, "value": 0.0, "ci_low": None, "ci_high": None}


def test_a_row_of_no_section_is_refused_and_kept_out_when_it_is_read(
    two: Callable[..., Benchmark], write_benchmark: Callable[..., str]
) -> None:
    with pytest.raises(UserError, match="'e3' belongs to no section"):
        headline(table(("e1", 1), ("e3", 1)), two())
    records = [{"q": "q", "a": "x", "b": "y", "label": "A", "s": subset} for subset in ("e1", "e3")]
    path = write_benchmark(records, name="strays", sections=TWO, extra={"subset": "record.s"})
    statuses = benchmark_examples([path], None)["status"].to_pylist()
    assert statuses == ["ok", "ok", "error:subset_in_no_section"]


def test_an_item_is_right_where_every_pair_of_it_is() -> None:
    pairs = pd.DataFrame(
        {
            "group_id": ["p", "p", "p", "q", "q", "p"],
            "subset": ["one"] * 5 + ["two"],
            "points": [1, 1, 0.5, 1, 0, 1],
            "right_given": [True, True, True, True, False, True],
            "right_swapped": [True, True, False, True, False, True],
        },
        index=pd.Index(list("abcdef"), name="row_id"),
    )
    found = best_of(pairs)
    assert found.index.tolist() == ["a", "d", "f"]
    assert found["points"].tolist() == [0.5, 0, 1]
    assert found["right_given"].tolist() == [True, False, True]


def test_the_entry_has_the_sections_with_intervals(make_run: Callable[..., Any], write_benchmark: Any) -> None:
    records = [
        {"q": f"q{number}", "a": "x", "b": "y", "label": "A", "s": ["e1", "h"][number % 2]} for number in range(40)
    ]
    path = write_benchmark(records, sections=TWO, extra={"subset": "record.s"})
    right = {f"q{number}" for number in range(0, 40, 2)} | {f"q{number}" for number in range(1, 11, 2)}
    run = make_run({"base": lambda row: f"Result: {row['gold'] if row['instruction'] in right else 'none'}"}, [path])
    entry = summarise(run.judgments, run.examples, run.config, 0).to_json()["models"]["base"]["mine"]
    assert entry["value"] == (1 + 0.25) / 2
    assert entry["value_parsed_only"] == 1
    hard = entry["sections"]["hard"]
    assert (hard["n"], hard["value"]) == (20, 0.25)
    assert 0 < hard["ci_low"] < 0.25 < hard["ci_high"] < 0.6
    easy = entry["sections"]["easy"]
    assert (easy["value"], easy["ci_low"], easy["ci_high"]) == (1, pytest.approx(0.839, abs=1e-3), 1)
    assert entry["ci_high"] - entry["value"] == pytest.approx((hard["ci_high"] - hard["value"]) / 2, abs=1e-5)


def test_a_sample_of_a_best_of_benchmark_has_whole_items(write_benchmark: Callable[..., str]) -> None:
    records = [
        {"q": f"q{item}", "a": "x", "b": f"y{other}", "label": "A", "s": "one"}
        for item in range(10)
        for other in range(3)
    ]
    path = write_benchmark(records, best_of=True, extra={"subset": "record.s"})
    rows = benchmark_examples([path], None, sample=10).to_pylist()
    sizes = pd.Series([row["group_id"] for row in rows if row["order"] == "given"]).value_counts()
    assert sizes.tolist() == [3, 3, 3]

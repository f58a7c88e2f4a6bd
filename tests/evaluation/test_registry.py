"""Benchmarks as YAML: the packaged ones load, a broken one says what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipelines.core.errors import UserError
from pipelines.evaluation import registry
from pipelines.judging import templates


@pytest.mark.parametrize("name", registry.names())
def test_a_packaged_benchmark_is_well_formed(name: str) -> None:
    benchmark = registry.load(name)
    assert benchmark.name == name
    assert benchmark.split == "test"
    assert benchmark.about and benchmark.notes
    assert templates.load(benchmark.template_name).task == benchmark.task
    assert benchmark.whole_n is None or benchmark.whole_n > benchmark.expected_n


def test_the_packaged_benchmarks_cover_every_task() -> None:
    wanted = {"heldout_pairwise", "heldout_absolute", "heldout_classification"}
    wanted |= {"hhh_alignment", "evalbiasbench", "auto_j", "mt_bench"}
    assert wanted <= set(registry.names())
    assert {registry.load(name).task for name in registry.names()} == set(registry.METRIC_OF_TASK)


def test_an_unknown_benchmark_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"did you mean 'auto_j'"):
        registry.load("autoj")


def test_a_benchmark_named_twice_is_refused() -> None:
    with pytest.raises(UserError, match="named twice"):
        registry.load_all(["auto_j", "auto_j"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "pearson"}, "scored by accuracy"),
        ({"allowed": ["1", "2"]}, "A, B and"),
        ({"task": "absolute", "metric": "pearson", "allowed": ["low", "high"]}, "integers"),
        ({"partial": True}, "partial and reason"),
        ({"reason": "half of it"}, "partial and reason"),
        ({"extra": {"other": "record.q"}}, "subset"),
        ({"expected_n": 0}, "expected_n"),
        ({"ordres": "given"}, "did you mean 'orders'"),
        ({"fields": {"instruction": "record.q"}}, "fields"),
    ],
)
def test_a_broken_benchmark_is_one_clear_line(write_benchmark: Callable[..., str], changes: dict, words: str) -> None:
    path = write_benchmark([{"q": "x"}], **changes)
    with pytest.raises(UserError, match=words) as caught:
        registry.load(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)

"""Judgments to read: which ones, and how long."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipelines.evaluation.report.samples import samples
from pipelines.evaluation.scoring.results import Results
from tests.evaluation.report.conftest import Page


def test_nine_examples_three_of_each_kind(written: tuple[Any, Results, Page]) -> None:
    run, _, page = written
    shown = samples(run.judgments, seed=0)
    assert [one["kind"] for one in shown] == ["right"] * 3 + ["wrong"] * 3 + ["unparsed"] * 3
    for one in shown:
        assert re.sub(r"\s+", " ", one["instruction"]) in page.text
        if one["kind"] != "unparsed":
            assert (one["predicted"] == one["gold"]) == (one["kind"] == "right")
        else:
            assert one["predicted"] is None
    assert len({one["benchmark"] for one in shown if one["kind"] == "right"}) == 3
    assert {one["model"] for one in shown if one["kind"] == "right"} == {"trained"}


def test_examples_missing_of_one_model_are_taken_from_the_other(make_run: Callable) -> None:
    run = make_run({"base": lambda row: "no idea", "trained": lambda row: f"Result: {row['gold']}"})
    shown = samples(run.judgments, seed=0)
    assert [(one["kind"], one["model"]) for one in shown] == [("right", "trained")] * 3 + [("unparsed", "base")] * 3


def test_long_texts_are_cut_and_say_so(make_run: Callable) -> None:
    run = make_run({"base": lambda row: "x" * 10_000}, ["heldout_absolute"])
    raw = samples(run.judgments, seed=0)[0]["raw"]
    assert len(raw) < 3000
    assert raw.endswith("(10,000 characters)")


def test_judgments_to_read_are_right_within_half_a_point_of_a_mean_of_raters(
    make_run: Callable, write_benchmark: Callable
) -> None:
    scores: dict[str, Any] = {
        "task": "absolute",
        "metric": "pearson",
        "allowed": list("12345"),
        "fields": {"instruction": "record.q", "responses": "[record.a]", "verdict": "record.label"},
    }
    gold = {"up": 3.5, "down": 2.5, "off": 4.1, "same": 3, "other": 2}
    path = write_benchmark([{"q": name, "a": "x", "label": label} for name, label in gold.items()], **scores)
    run = make_run({"base": lambda row: "Result: 3"}, [path])
    kinds = {one["instruction"]: one["kind"] for one in samples(run.judgments, seed=0)}
    assert kinds == {"up": "right", "down": "right", "same": "right", "off": "wrong", "other": "wrong"}


def test_benchmarks_take_turns_among_the_judgments_to_read(make_run: Callable) -> None:
    run = make_run({"base": lambda row: f"Result: {row['gold']}"}, ["heldout_pairwise", "heldout_classification"])
    shown = [one["benchmark"] for one in samples(run.judgments, seed=0)]
    assert len(shown) == 3 and len(set(shown[:2])) == 2
    ids = [one["judgment_id"] for one in samples(run.judgments, seed=0)]
    assert ids == [one["judgment_id"] for one in samples(run.judgments, seed=0)]
    assert ids != [one["judgment_id"] for one in samples(run.judgments, seed=1)]


def test_what_may_not_be_judged_is_not_among_the_judgments_to_read(
    make_run: Callable, write_benchmark: Callable
) -> None:
    good = {"q": "good", "a": "x", "b": "y", "label": "A"}
    path = write_benchmark([good, {**good, "q": "bad", "label": "C"}])
    run = make_run({"base": lambda row: None}, [path])
    assert {one["instruction"] for one in samples(run.judgments, seed=0)} == {"good"}

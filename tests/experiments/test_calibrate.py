"""Judged systems and a few labels: what is read, what is refused, means and ranks against known truths, coverage."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.core.errors import TooManyErrors, UserError
from pipelines.core.run import Run
from pipelines.experiments.calibrate import coverage, job
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.estimate import ALL, Gap, Mean, estimate, ranking
from pipelines.experiments.calibrate.plain import Interval, mean_interval
from pipelines.experiments.calibrate.sampled import check_random
from pipelines.experiments.calibrate.values import Judged
from pipelines.experiments.records import record

BIAS = {"plain": 0.3, "verbose": 1.2}  # what the judge adds to the truth: it likes the verbose one
TRUTH = {"plain": 3.4, "verbose": 2.8}


def judged(prompts: int = 150, share: float = 0.3, seed: int = 0, biased: bool = True) -> list[Judged]:
    """Two systems on the same prompts, of which a biased judge prefers the worse."""
    draw = np.random.default_rng(seed)
    rows = []
    for place in range(prompts):
        hard = draw.normal(scale=0.5)
        for system, truth in TRUTH.items():
            label = float(np.clip(truth + hard + draw.normal(scale=0.5), 1, 5))
            score = label + biased * BIAS[system] + draw.normal(scale=0.4)
            known = label if draw.random() < share else None
            rows.append(Judged(f"{system}-{place}", system, f"p{place}", score, known))
    return rows


def lines(path: Path, records: list[Any]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)


def record_of(row: Judged) -> dict[str, Any]:
    named = {"id": row.id, "system": row.system, "prompt": row.prompt, "score": row.score}
    return {**named, "label": row.label} if row.label is not None else named


def test_a_judge_that_likes_the_worse_system_is_set_right_by_labels() -> None:
    found = estimate(judged(), CalibrateConfig())
    means = {mean.system: mean for mean in found.means}
    for system, truth in TRUTH.items():
        one = means[system].calibrated
        assert one.low is not None and one.high is not None and one.low < truth < one.high
        assert means[system].naive.low is not None and means[system].naive.low > truth
    assert [place.system for place in found.ranking] == ["plain", "verbose"]
    assert [(place.best, place.worst, place.naive) for place in found.ranking] == [(1, 1, 2), (2, 2, 1)]
    (gap,) = found.gaps
    assert gap.shown == "higher" and gap.naive < 0 < gap.low
    assert found.total.system == ALL and found.total.n == 300


def test_a_good_judge_makes_the_interval_narrower_than_labels_alone() -> None:
    total = estimate(judged(400, share=0.2, biased=False), CalibrateConfig()).total
    width, alone = (one.high - one.low for one in (total.calibrated, total.labels_only) if one.high and one.low)
    assert width < 0.9 * alone


def test_a_system_with_few_labels_is_refused_and_has_no_place() -> None:
    rows = [
        row if row.system == "plain" or row.prompt < "p12" else Judged(*[*vars(row).values()][:4], None)
        for row in judged()
    ]
    few = sum(row.label is not None for row in rows if row.system == "verbose")
    assert 0 < few < 10
    found = estimate(rows, CalibrateConfig())
    refused = next(mean for mean in found.means if mean.system == "verbose")
    assert refused.refused == f"{few} labels of its own, 10 are needed" and refused.calibrated == Interval(value=None)
    assert refused.naive.value is not None and found.gaps == []
    assert [place.system for place in found.ranking] == ["plain"]


def test_too_few_labels_and_hand_picked_ones_are_refused() -> None:
    rows = judged()
    with pytest.raises(UserError, match="0 labels cannot carry anything: 10 are needed"):
        estimate([Judged(row.id, row.system, row.prompt, row.score, None) for row in rows], CalibrateConfig())
    picked = [Judged(row.id, row.system, row.prompt, row.score, 2.0 if row.score < 3 else None) for row in rows]
    with pytest.raises(UserError, match="no random sample"):
        estimate(picked, CalibrateConfig())
    assert check_random(rows, CalibrateConfig()) > 0.001  # type: ignore[operator]


def passed(rate: float, labels: int, rows: int = 240, seed: int = 0) -> list[Judged]:
    """One system that passes or not, judged by something that knows a little of it."""
    draw = np.random.default_rng(seed)
    found = (draw.random(rows) < rate).astype(float)
    scores = found + draw.normal(size=rows)
    return [
        Judged(f"{n}", "a", f"p{n}", float(scores[n]), float(found[n]) if n < labels else None) for n in range(rows)
    ]


def labelled_as(values: list[float], system: str = "a") -> list[Judged]:
    """Rows of which the first have these labels."""
    draw = np.random.default_rng([*system.encode()])
    given = [*values, *[None] * (60 - len(values))]
    return [Judged(f"{system}{n}", system, f"p{n}", draw.normal(), label) for n, label in enumerate(given)]


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([1.0] * 12, "all 12 labels are 1: they say nothing of the spread"),
        ([1.0] * 26 + [0.0] * 4, "26 of 30 labels are 1: 5 that differ are needed to show the spread"),
        ([5.0] * 26 + [4.0, 3.0, 2.0, 1.0], "26 of 30 labels are 5: 5 that differ are needed to show the spread"),
        ([1.0] * 25 + [0.0] * 5, ""),
    ],
)
def test_labels_that_do_not_show_how_they_spread_carry_no_mean_and_no_difference(labels: list[float], why: str) -> None:
    rows = labelled_as(labels) + labelled_as([1.0, 0.0] * 15, "b")
    found = estimate(rows, CalibrateConfig(least_random=0))
    one, other = found.means
    assert one.refused == why and (one.calibrated.low is None) == bool(why)
    assert other.refused == "" and other.calibrated.low is not None
    assert len(found.gaps) == (not why) and len(found.ranking) == 2 - bool(why)
    alone = estimate(labelled_as(labels), CalibrateConfig(least_random=0)).total
    assert alone.refused == why and (alone.calibrated.value is None) == bool(why)


def test_intervals_of_a_rare_value_hold_the_truth_or_are_refused() -> None:
    for rate, labels in ((0.9, 60), (0.95, 12)):
        totals = [
            estimate(passed(rate, labels, seed=seed), CalibrateConfig(least_random=0)).total for seed in range(30)
        ]
        given = [one.calibrated for one in totals if not one.refused]
        assert sum(one.low <= rate <= one.high for one in given) >= 0.9 * len(given)  # type: ignore[operator]
        assert len(given) > 10 if labels == 60 else not given
        alone = [one.labels_only for one in totals if one.labels_only.low is not None]
        assert sum(one.low <= rate <= one.high for one in alone) >= 0.85 * len(alone)  # type: ignore[operator]


def test_rows_of_one_prompt_and_labels_that_are_all_equal_are_refused_and_do_not_crash() -> None:
    rows = labelled_as([1.0, 2.0] * 10) + labelled_as([2.0, 3.0] * 10, "b")
    found = estimate([Judged(row.id, row.system, "p", row.score, row.label) for row in rows], CalibrateConfig())
    assert {one.refused for one in found.means} == {"all rows are of one prompt: they say nothing of others"}
    found = estimate(labelled_as([2.0] * 20) + labelled_as([2.0] * 20, "b"), CalibrateConfig())
    assert {one.refused for one in (found.total, *found.means)} >= {
        "all 20 labels are 2: they say nothing of the spread"
    }
    assert found.gaps == found.ranking == []
    assert job.shown(found)[0].startswith("  all systems: refused: all 40 labels are 2")


class Broken:
    """A result of the library with figures missing, or not finite."""

    estimates = (1.0, 2.0, 3.0)

    def __init__(self, systems: dict[str, Any]) -> None:
        self.target_policies, self.metadata = list(systems), {}  # type: ignore[var-annotated]

    def confidence_interval(self, alpha: float) -> tuple[list[float], list[float]]:
        return [0.5, float("nan"), 2.5], [1.5, float("nan"), 3.5]

    def compare_policies(self, one: str, other: str, alpha: float) -> dict[str, float]:
        return {"difference": -2.0, "p_value": 0.5}


def test_figures_that_are_missing_or_not_finite_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [row for system in "abc" for row in labelled_as([1.0, 2.0, 3.0, 4.0, 5.0] * 8, system)]
    path = lines(tmp_path / "a.jsonl", [record_of(row) for row in rows])
    monkeypatch.setattr("pipelines.experiments.calibrate.estimate._calibrated", Broken)
    found = estimate(rows, CalibrateConfig())
    assert [one.refused for one in found.means] == ["", "cje-eval gives no finite interval", ""]
    (gap,) = found.gaps
    assert (gap.system, gap.other, gap.difference, gap.p_holm, gap.shown) == ("a", "c", None, None, "undecided")
    assert gap.refused == "cje-eval gives no finite interval"
    assert gap.refused in job.run(Run(tmp_path / "out"), CalibrateConfig(input=[path])).read_text()
    config = CalibrateConfig(coverage={"share": 0.9}, least_random=0)
    (line,) = (one for one in coverage.one(rows, config, 0, 0) if " - " in one["of"])
    assert line["refused"] == gap.refused and line["low"] is None


def test_labels_chosen_by_the_score_within_systems_are_refused() -> None:
    draw = np.random.default_rng(0)
    rows = []
    for system in "ab":
        for n, score in enumerate(sorted(draw.normal(size=200).tolist())):
            chosen = (n >= 160) == (system == "a") and n % 2 == 0 and (n >= 160 or n < 40)
            rows.append(Judged(f"{system}{n}", system, f"p{n}", score, draw.normal() if chosen else None))
    with pytest.raises(UserError, match=r"the labelled rows of [ab] are no random sample"):
        check_random(rows, CalibrateConfig())


def mean(system: str, value: float, naive: float) -> Mean:
    found = {"calibrated": Interval(value=value), "naive": Interval(value=naive), "labels_only": Interval(value=None)}
    return Mean(system=system, n=1, labels=1, **found)


def test_places_are_those_that_sure_differences_leave() -> None:
    means = [mean("a", 3.0, 1.0), mean("b", 2.0, 3.0), mean("c", 1.0, 2.0)]
    rest: dict[str, Any] = {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 0.0, "p_holm": 0.0, "naive": 0.0}
    sure = [Gap(system="a", other="c", shown="higher", **rest), Gap(system="a", other="b", shown="undecided", **rest)]
    places = {one.system: (one.rank, one.best, one.worst, one.naive) for one in ranking(means, sure)}
    assert places == {"a": (1, 1, 2, 3), "b": (2, 1, 3, 1), "c": (3, 2, 3, 2)}


def test_the_interval_of_a_mean_is_student_s() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0], 0.95)
    assert found.value == 2.5 and found.low == pytest.approx(2.5 - 3.1824463 * np.std([1, 2, 3, 4], ddof=1) / 2)
    assert mean_interval([3.0, 3.0], 0.95, [1.0, 2.0]) == Interval(value=3.0)
    assert mean_interval([1.0], 0.95) == Interval(value=1.0) and mean_interval([], 0.95) == Interval(value=None)


def test_of_two_values_the_interval_is_wilson_s() -> None:
    found = mean_interval([2.0] * 9 + [4.0], 0.95)  # a share of 1 in 10, on a scale from 2 to 4
    assert (found.low, found.high) == (pytest.approx(2 + 2 * 0.0178762), pytest.approx(2 + 2 * 0.4041500))
    assert mean_interval([1.0] * 10, 0.95) == Interval(value=1.0)
    assert mean_interval([1.0] * 10, 0.95, {0.0, 1.0}).low == pytest.approx(0.7224672)


def test_a_draw_depends_on_its_number_alone_and_hides_all_labels_but_the_share() -> None:
    rows = [Judged(row.id, row.system, row.prompt, row.score, row.label) for row in judged(60, share=1.0)]
    config = CalibrateConfig(coverage={"draws": 4, "share": 0.2})
    assert coverage.some(rows, config, 0, range(2, 4))[-1] == coverage.one(rows, config, 0, 3)[-1]
    assert coverage.one(rows, config, 0, 3) != coverage.one(rows, config, 1, 3)
    total = next(line for line in coverage.one(rows, config, 0, 0) if line["of"] == ALL)
    assert total["refused"] == ""
    with pytest.raises(UserError, match="rows have no label"):
        coverage.check(judged())


def test_coverage_counts_intervals_that_hold_the_truth() -> None:
    made = [(0.0, 2.0, ""), (1.5, 2.0, ""), (None, None, "few")]
    lines = [
        {"draw": n, "of": "s", "way": "calibrated", "value": 1.5, "low": low, "high": high, "refused": why}
        for n, (low, high, why) in enumerate(made)
    ]
    one, every = sorted(coverage.summarise(lines, {"s": 1.0}), key=lambda found: found.of != "s")
    assert (one.draws, one.refused, one.covered, one.width, one.error) == (2, 1, 0.5, 1.25, 0.5)
    assert every.of == "each system" and every.covered == 0.5 and every.truth is None


def test_the_products_say_the_same_and_a_second_run_writes_nothing_new(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [record_of(row) for row in judged(80)])
    config, run = CalibrateConfig(input=[path], judge="<b>a judge</b>"), Run(tmp_path / "out")
    page = job.run(run, config)
    text = page.read_text()
    assert "&lt;b&gt;a judge&lt;/b&gt;" in text and "<b>a judge" not in text and "Naive" in text
    found = json.loads((run.calibrated / "calibrate.json").read_text())
    kept = record.read(run.calibrated)
    assert {(one.name, one.of): one.value for one in kept.figures}["mean, calibrated", "plain"] == next(
        one["calibrated"]["value"] for one in found["means"] if one["system"] == "plain"
    )
    assert [(one.about, one.verdict) for one in kept.decisions] == [("plain", "rank 1"), ("verbose", "rank 2")]
    before = page.stat().st_mtime_ns
    job.run(run, config)
    assert page.stat().st_mtime_ns == before
    assert job.describe(run, config)[0].startswith("calibrate 160 rows of 2 systems by ")


def test_without_labels_rows_to_label_are_listed_by_hash(tmp_path: Path) -> None:
    rows = [Judged(row.id, row.system, row.prompt, row.score, None) for row in judged(100)]
    path = lines(tmp_path / "a.jsonl", [record_of(row) for row in rows])
    run = Run(tmp_path / "out")
    with pytest.raises(UserError, match=r"name them in calibrate\.labels"):
        job.run(run, CalibrateConfig(input=[path], label_share=0.2))
    listed = list(csv.DictReader((run.calibrated / "to_label.csv").open()))
    assert len(listed) == 40 and {one["label"] for one in listed} == {""}
    labels = {row.id: row for row in judged(100, share=1.0)}
    with (tmp_path / "labels.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label"])
        writer.writerows([one["id"], labels[one["id"]].label] for one in listed)
    job.run(run, CalibrateConfig(input=[path], labels=[str(tmp_path / "labels.csv")]))
    assert record.read(run.calibrated).decisions[0].verdict == "rank 1"


def test_labels_that_people_have_written_into_the_list_are_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "a.jsonl", [{**record_of(row), "label": None} for row in judged(100)])
    run, config = Run(tmp_path / "out"), CalibrateConfig(input=[path], label_share=0.2)
    listed = run.calibrated / "to_label.csv"
    for written in ("", "4"):
        with pytest.raises(UserError, match=r"name them in calibrate\.labels"):
            job.run(run, config)
        first = listed.read_text()
        assert first.count("\n") == 41
        listed.write_text(first.replace(",\n", f",{written}\n", 1))
    kept = listed.read_text()
    with pytest.raises(UserError):
        job.run(run, config)
    assert listed.read_text() == kept != first
    assert "was written into and not read" in capsys.readouterr().err
    listed.write_text(kept := "\ufeff" + first.replace(",", ";"))  # as a spreadsheet may save it
    with pytest.raises(UserError):
        job.run(run, config)
    assert listed.read_text() == kept


def test_a_run_that_fails_leaves_no_page_of_the_input_before(tmp_path: Path) -> None:
    run, good = Run(tmp_path / "out"), lines(tmp_path / "a.jsonl", [record_of(row) for row in judged(80)])
    bare = [{**record_of(row), "label": None} for row in judged(80)]
    other = lines(tmp_path / "b.jsonl", bare)
    for failing in (other, str(tmp_path / "none.jsonl"), lines(tmp_path / "c.jsonl", [{"score": 1}])):
        page = job.run(run, CalibrateConfig(input=[good]))
        assert page.exists() and "Judged systems" in (run.experiments / "index.html").read_text()
        with pytest.raises((UserError, TooManyErrors)):
            job.run(run, CalibrateConfig(input=[failing]))
        assert not {one.name for one in run.calibrated.iterdir()} & {page.name, "calibrate.json", "experiment.json"}
        assert "Judged systems" not in (run.experiments / "index.html").read_text()

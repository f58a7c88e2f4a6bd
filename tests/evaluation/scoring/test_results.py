"""results.json: its keys, an independent recomputation, and sentences that say no more than the interval."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from pipelines.core.errors import UserError
from pipelines.core.storage import read_json, write_json
from pipelines.evaluation.benchmarks.registry import BENCHMARKS, PAPER_BENCHMARKS
from pipelines.evaluation.scoring import results
from pipelines.evaluation.scoring.figures import plain
from pipelines.evaluation.scoring.jackknife import UNDEFINED
from pipelines.evaluation.scoring.results import Results, summarise
from tests.evaluation.conftest import base_and_trained, run_maker

REQUIRED = ["n", "metric", "value", "ci_low", "ci_high", "parse_rate", "partial"]
EXTRAS = {
    "partial_reasons",
    "task",
    "template",
    "expected_n",
    "found",
    "asked",
    "excluded",
    "unreadable",
    "judgments",
    "failed",
    "too_long",
    "groups",
    "no_interval",
    "baseline",
    "chance",
    "accuracy",
    "value_parsed_only",
    "balanced_accuracy",
    "macro_f1",
    "kappa",
    "majority_class",
    "subsets",
}
OF_TASK = {
    "pairwise": {"calibration", "orders", "position_consistency", "position_consistency_n"},
    "classification": {"calibration"},
    "absolute": {
        "pearson",
        "spearman",
        "kendall",
        "quadratic_kappa",
        "expected_pearson",
        "notes",
    },
}
GOOD = {"q": "Which?", "a": "first", "b": "second", "label": "A"}


@pytest.fixture(scope="module")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict]:
    run = run_maker(tmp_path_factory.mktemp("heldout"))(base_and_trained())
    return run, summarise(run.judgments, run.examples, run.config, seed=0).to_json()


def test_every_entry_has_exactly_the_promised_keys(heldout: tuple[Any, dict]) -> None:
    _, found = heldout
    keys = [
        "models",
        "tasks",
        "comparison",
        "other_comparisons",
        "robustness",
        "bias",
        "critiques",
        "overall",
        "settings",
    ]
    assert list(found) == keys
    assert list(found["models"]) == ["base", "trained"]
    for per in found["models"].values():
        for name, entry in per.items():
            task = BENCHMARKS.load(name).task
            assert set(entry) == {*REQUIRED, *EXTRAS, *OF_TASK[task]}
            assert list(entry)[: len(REQUIRED)] == REQUIRED
            assert entry["partial"] is False
            assert entry["ci_low"] <= entry["value"] <= entry["ci_high"]


def test_the_file_is_strict_json_and_the_same_every_time(heldout: tuple[Any, dict], tmp_path: Path) -> None:
    run, found = heldout
    write_json(tmp_path / "results.json", found)
    first = (tmp_path / "results.json").read_text()
    assert json.loads(first, parse_constant=pytest.fail) == found
    again = summarise(run.judged, run.examples, run.config, seed=0).to_json()
    write_json(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_text() == first
    assert read_json(tmp_path / "again.json") == found


def test_results_read_back_are_the_results(make_run: Callable, two_models: dict) -> None:
    run = make_run(two_models, sample=12)
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    written = json.loads(json.dumps(found.to_json()))
    assert Results.from_json(written) == found
    assert list(Results.from_json(written).to_json()["settings"]) == list(written["settings"])
    assert Results.from_json(written).settings.config == run.config
    with pytest.raises(ValueError, match="invented"):
        Results.from_json(written | {"invented": 1})


def independent(path: Path) -> dict[str, dict[str, float]]:
    """The headline figures from the parquet, with pandas, scipy and scikit-learn and nothing of ours."""
    frame = pd.read_parquet(path)
    frame = frame[frame["status"] == "ok"]
    frame["read"] = frame["parse_status"] == "ok"
    frame["right"] = frame["read"] & (frame["predicted"] == frame["gold"])
    found: dict[str, dict[str, float]] = {}
    for name, lines in frame.groupby("benchmark"):
        one = {"parse_rate": lines["read"].mean(), "judgments": len(lines)}
        if (lines["task"] == "absolute").all():
            score = pd.to_numeric(lines["predicted"].where(lines["read"]))
            score = score.fillna(score.mean())
            gold = lines["gold"].astype(float)
            one["value"] = one["pearson"] = stats.pearsonr(score, gold).statistic
            one["spearman"] = stats.spearmanr(score, gold).statistic
            one["kendall"] = stats.kendalltau(score, gold).statistic
        else:
            wide = lines.pivot(index="row_id", columns="order", values="right").astype(float)
            one["value"] = one["accuracy"] = wide.mean(axis=1).mean()
            if len(wide.columns) == 2:
                one |= independent_of_pairs(lines, wide)
                if name in ("hhh_alignment", "evalbiasbench"):
                    best = wide.groupby(lines.groupby("row_id")["subset"].first()).agg(["sum", "size"])
                    one["best"] = sum(max(part["given"]["sum"], part["swapped"]["sum"]) for _, part in best.iterrows())
                    one["best"] /= len(wide)
        found[str(name)] = one
    return found


def independent_of_pairs(lines: pd.DataFrame, wide: pd.DataFrame) -> dict[str, float]:
    """Orders, position and length of one pairwise benchmark."""
    one = {
        "order1": wide["given"].mean(),
        "order2": wide["swapped"].mean(),
        "mean": wide.mean().mean(),
        "both": (wide.min(axis=1) == 1).mean(),
        "best": wide.mean().max(),
    }
    said = lines[lines["read"]].pivot(index="row_id", columns="order", values="predicted").dropna()
    off = said[said["given"] != said["swapped"].map({"A": "B", "B": "A", "Tie": "Tie"})]
    one["position_consistency"] = 1 - len(off) / len(said)
    one["unread"] = lines["row_id"].nunique() - len(said)
    one["primacy"] = ((off["given"] == "A") & (off["swapped"] == "A")).mean()
    one["recency"] = ((off["given"] == "B") & (off["swapped"] == "B")).mean()
    longer = lines["responses"].map(lambda pair: len(pair[0]) - len(pair[1]))
    choice = lines["gold"].isin(["A", "B"]) & (longer != 0) & lines["read"]
    longer_right = (lines["gold"] == "A") == (longer > 0)
    by = lines[choice].groupby(longer_right[choice])["right"].mean()
    enough = min((choice & longer_right).sum(), (choice & ~longer_right).sum()) >= 20
    one["length_difference"] = by[True] - by[False] if enough else np.nan
    chose = lines["read"] & lines["predicted"].isin(["A", "B"])
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    fit.fit((longer[chose] / 100).to_frame(), lines.loc[chose, "predicted"] == "A")
    one["length_coefficient"] = fit.coef_[0][0] if lines.loc[chose, "group_id"].nunique() >= 20 else np.nan
    return one


def check_independent(found: dict, judgments: dict[str, Path]) -> None:
    for model, path in judgments.items():
        for name, figures in independent(path).items():
            entry = found["models"][model][name]
            flat = {**entry, **entry.get("orders", {})}
            biases = found["bias"][model].get(name, {})
            if "position" in biases:
                flat |= {"unread": biases["position"]["unread"]}
                flat |= {side: biases["position"][side]["value"] for side in ("primacy", "recency")}
                flat["length_difference"] = biases["length"]["difference"]["value"]
                flat["length_coefficient"] = biases["length"]["regression"]["coefficient"]
            for key, value in figures.items():
                if np.isnan(value):
                    assert flat[key] is None, (model, name, key)
                    continue
                loose = 1e-4 if key == "length_coefficient" else 2e-6  # two optimisers
                assert flat[key] == pytest.approx(value, abs=loose, rel=loose), (model, name, key)


def test_an_independent_recomputation_gives_the_same_figures(heldout: tuple[Any, dict]) -> None:
    run, found = heldout
    check_independent(found, run.judgments)


def test_recomputation_on_real_benchmarks(make_run: Callable, two_models: dict, data_root: Path) -> None:
    names = ["hhh_alignment", "evalbiasbench", "auto_j", "mt_bench"]
    run = make_run(two_models, names, data_root)
    found = summarise(run.judgments, run.examples, run.config, seed=0).to_json()
    check_independent(found, run.judgments)
    assert set(found["bias"]["base"]) == set(names)
    assert [entry["n"] for entry in found["models"]["base"].values()] == [221, 80, 1392, 320]
    assert not any(entry["partial"] for entry in found["models"]["base"].values())
    auto_j = found["models"]["base"]["auto_j"]
    assert auto_j["majority_class"] == pytest.approx((520 + 499) / 2 / 1392, abs=1e-6)


def test_a_perfect_and_a_silent_judge(make_run: Callable) -> None:
    rules = {"silent": lambda row: "I cannot say.", "perfect": lambda row: f"Result: {row['gold']}"}
    run = make_run(rules)
    found = summarise(run.judgments, run.examples, run.config, seed=0).to_json()
    for entry in found["models"]["silent"].values():
        assert (entry["value"], entry["parse_rate"], entry["accuracy"]) == (0.0, 0.0, 0.0)
        assert entry["value_parsed_only"] is None
    assert "do not vary" in found["models"]["silent"]["heldout_absolute"]["notes"][0]
    for entry in found["models"]["perfect"].values():
        assert entry["value"] == 1.0
        if entry["metric"] == "pearson":
            assert (entry["ci_low"], entry["no_interval"]) == (None, UNDEFINED)
        else:
            n = entry["groups"]
            assert entry["ci_low"] == pytest.approx(n / (n + stats.norm.ppf(0.975) ** 2), abs=1e-6)  # Wilson
            assert entry["ci_high"] == 1.0
    against = found["comparison"]["perfect"]
    assert against["against"] == "silent"
    assert [entry["difference"] for entry in against["benchmarks"].values()] == [1.0, 1.0, 1.0]
    for entry in against["tasks"].values():
        assert "better" not in entry["sentence"] and "silent 0%" in entry["sentence"]
    assert "0% of silent's verdicts could be read" in against["tasks"]["pairwise"]["sentence"]
    assert "no interval" in against["tasks"]["absolute"]["sentence"]


def test_any_two_models_are_compared_once(make_run: Callable, two_models: dict) -> None:
    judges = {"base": two_models["base"], "trained": two_models["trained"], "copy": two_models["trained"]}
    run = make_run(judges)
    found = summarise(run.judgments, run.examples, run.config, 0).to_json()
    assert list(found["comparison"]) == ["trained", "copy"]
    (other,) = found["other_comparisons"]
    assert (other["model"], other["against"]) == ("copy", "trained")
    for entry in [*other["benchmarks"].values(), *other["tasks"].values()]:
        assert entry["difference"] == 0 and entry["ci_low"] < 0 < entry["ci_high"]
    assert other["tasks"]["pairwise"]["sentence"].startswith("pairwise tasks: no difference between copy and trained")


def test_a_judge_that_always_says_a_scores_half_on_pairs(make_run: Callable) -> None:
    run = make_run({"first": lambda row: "Result: A"}, ["heldout_pairwise"])
    entry = summarise(run.judgments, run.examples, run.config, 0).to_json()["models"]["first"]["heldout_pairwise"]
    assert (entry["value"], entry["orders"]["both"], entry["position_consistency"]) == (0.5, 0.0, 0.0)
    assert (entry["majority_class"], entry["balanced_accuracy"], entry["kappa"]) == (0.5, 0.5, 0.0)


def test_a_model_against_itself_differs_by_nothing(make_run: Callable, two_models: dict) -> None:
    run = make_run({"one": two_models["base"], "two": two_models["base"]})
    for entry in (
        summarise(run.judgments, run.examples, run.config, 0).to_json()["comparison"]["two"]["benchmarks"].values()
    ):
        assert entry["difference"] == 0 and entry["ci_low"] < 0 < entry["ci_high"]
        assert "no difference between two and one is shown" in entry["sentence"]


def test_pairing_narrows_the_interval_of_a_difference(heldout: tuple[Any, dict]) -> None:
    _, found = heldout
    per = found["models"]
    for name, entry in found["comparison"]["trained"]["benchmarks"].items():
        base, trained = per["base"][name], per["trained"][name]
        assert entry["difference"] == pytest.approx(trained["value"] - base["value"], abs=2e-6)
        widths = [one["ci_high"] - one["ci_low"] for one in (base, trained)]
        assert entry["ci_high"] - entry["ci_low"] <= sum(widths)


def test_a_sample_is_partial_and_says_so(make_run: Callable, two_models: dict) -> None:
    run = make_run({"base": two_models["base"]}, sample=10)
    for entry in summarise(run.judgments, run.examples, run.config, 0).to_json()["models"]["base"].values():
        assert (entry["n"], entry["found"], entry["partial"]) == (10, 60, True)
        assert entry["partial_reasons"] == ["sample of 10 of 60 rows"]


def test_what_is_whole_beside_a_sample_is_not_partial(make_run: Callable, two_models: dict) -> None:
    names = ["heldout_pairwise", "heldout_absolute"]
    run = make_run({"base": two_models["base"]}, names, sample=10, whole=["heldout_pairwise"])
    found = summarise(run.judgments, run.examples, run.config, 0).to_json()["models"]["base"]
    assert [(found[name]["n"], found[name]["partial"]) for name in names] == [(60, False), (10, True)]


def test_rows_that_were_not_asked_are_counted_apart(make_run: Callable, write_benchmark: Callable) -> None:
    path = write_benchmark(
        [GOOD, {**GOOD, "q": "Other?"}, {**GOOD, "label": "C"}, {**GOOD, "q": "old"}],
        where={"too_old": "record.q != 'old'"},
    )
    run = make_run({"base": lambda row: "Result: A" if row["order"] == "given" else None}, [path])
    (entry,) = summarise(run.judgments, run.examples, run.config, 0).to_json()["models"]["base"].values()
    counts = {key: entry[key] for key in ("n", "found", "asked", "excluded", "unreadable", "judgments", "failed")}
    expected = {"n": 2, "found": 4, "asked": 4, "excluded": 1, "unreadable": 1, "judgments": 4, "failed": 2}
    assert counts == expected
    assert (entry["value"], entry["parse_rate"]) == (0.5, 0.5)
    assert entry["partial_reasons"] == ["1 rows could not be read"]


def test_another_row_count_than_expected_is_said(make_run: Callable, write_benchmark: Callable) -> None:
    run = make_run({"base": lambda row: "Result: A"}, [write_benchmark([GOOD, GOOD], expected_n=3)])
    (entry,) = summarise(run.judgments, run.examples, run.config, 0).to_json()["models"]["base"].values()
    assert entry["partial_reasons"] == ["the files hold 2 rows, 3 were expected"]
    assert (entry["groups"], entry["ci_low"], entry["ci_high"]) == (
        1,
        None,
        None,
    )  # one group: no spread to see


def test_judgments_that_are_missing_are_said(make_run: Callable, two_models: dict) -> None:
    run = make_run({"base": two_models["base"]}, ["heldout_absolute"])
    frame = pd.read_parquet(run.judged["base"] / "0.parquet")
    (run.judged["base"] / "1.parquet").unlink()
    found = summarise(run.judged, run.examples, run.config, 0).to_json()["models"]["base"]["heldout_absolute"]
    assert found["partial_reasons"] == [f"judgments of {len(frame)} of 60 rows only"]
    with pytest.raises(UserError, match="no judgments of benchmark 'heldout_pairwise'"):
        config = run.config.model_copy(update={"benchmarks": ["heldout_pairwise"]})
        summarise(run.judged, run.examples, config, 0)


def test_subsets_add_up(heldout: tuple[Any, dict]) -> None:
    _, found = heldout
    entry = found["models"]["trained"]["heldout_pairwise"]
    parts = entry["subsets"].values()
    assert sum(part["n"] for part in parts) == entry["n"]
    assert sum(part["n"] * part["value"] for part in parts) / entry["n"] == pytest.approx(entry["value"], abs=1e-5)


def test_no_average_over_what_happens_to_be_there(heldout: tuple[Any, dict]) -> None:
    _, found = heldout
    overall = found["overall"]["trained"]
    assert overall["benchmarks"] is None and overall["tasks"] is None
    assert overall["missing"] == list(PAPER_BENCHMARKS)


def test_the_averages_of_all_eleven(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two of three tasks have one benchmark: the mean of tasks and the mean of benchmarks differ.
    monkeypatch.setattr(results, "PAPER_BENCHMARKS", ("a", "b", "c", "d"))
    tasks = {"a": "pairwise", "b": "pairwise", "c": "absolute", "d": "classification"}
    values = {"a": 0.2, "b": 0.4, "c": 0.6, "d": 0.9}

    def scored(partial: str = "") -> list[Any]:
        return [
            SimpleNamespace(entry=SimpleNamespace(partial=name == partial, value=values[name], task=tasks[name]))
            for name in values
        ]

    benchmarks: list[Any] = [SimpleNamespace(name=name) for name in values]
    found = results.overall(benchmarks, scored())
    assert found.benchmarks == pytest.approx(2.1 / 4)
    assert found.tasks == pytest.approx((0.3 + 0.6 + 0.9) / 3)
    found = results.overall(benchmarks, scored(partial="c"))
    assert (found.benchmarks, found.missing) == (None, ["c"])


def test_plain_turns_what_json_cannot_say_into_null() -> None:
    values = {1: [np.float64("nan"), np.int64(3), (np.bool_(True), float("inf"), -0.0)], "x": 1 / 3}
    assert plain(values) == {"1": [None, 3, [True, None, 0.0]], "x": 0.333333}
    assert str(plain(-1e-9)) == "0.0"

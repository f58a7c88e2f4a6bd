"""What an ablation refuses, says beforehand, and must say of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config
from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.yaml_model import parse_model
from pipelines.experiments.ablation.job import needs_critiques, overlap
from ray_jobs.ablate import describe, steps
from ray_jobs.curate import own_heldout

HELDOUT = Path(__file__).parents[3] / "examples" / "planted" / "compliance_heldout.yaml"
SOURCES = ["sample_pairwise", "sample_absolute", "sample_classification"]


def config(tmp_path: Path, **changes: Any) -> Config:
    raw: dict[str, Any] = {
        "out_dir": tmp_path,
        "curation": {"sources": SOURCES},
        "evaluation": {"benchmarks": ["heldout_pairwise"]},
        "trials": {"heldout": {"benchmarks": ["heldout_pairwise", "heldout_absolute"]}},
        **changes,
    }
    return Config.model_validate(raw)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"curation": {"sources": SOURCES[:1]}}, "compares sources, and one is named"),
        ({"ablation": {"filter": {"scores": {"sample_pair": "length"}}}}, "no source 'sample_pair'"),
        ({"ablation": {"filter": {"scores": {"sample_absolute": "margin"}}}}, "one response, and no margin"),
        ({"ablation": {"filter": {"score": "margin", "sources": ["sample_absolute"]}}}, "one response, and no margin"),
        ({"ablation": {"rule": {"by": "classification"}}}, "no held-out set is classification"),
        ({"ablation": {"rule": {"evidence": "left_out"}, "left_out": False}}, "no source is left out"),
        ({"trials": {"heldout": {"benchmarks": ["mt_bnch"]}}}, "mt_bench"),
    ],
)
def test_an_ablation_that_could_not_decide_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        describe(config(tmp_path, **changes))


def test_a_reward_that_nobody_gives_is_refused(tmp_path: Path) -> None:
    curation = {"sources": SOURCES, "reward": {"enabled": False}}
    with pytest.raises(UserError, match="no reward model, so no reward"):
        describe(config(tmp_path, curation=curation, ablation={"filter": {"scores": {"sample_pairwise": "reward"}}}))


@pytest.mark.parametrize("name", [{"score": "lenght"}, {"scores": {"sample_absolute": "lenght"}}])
def test_a_misspelt_score_is_refused_before_anything_is_read(tmp_path: Path, name: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"ablation\.filter\.score.*no score 'lenght'; known: reward, "):
        parse_model(Config, {"out_dir": str(tmp_path), "ablation": {"filter": name}}, "x.yaml")


def test_a_filter_beside_a_threshold_is_refused_or_skipped(tmp_path: Path) -> None:
    curation = {"sources": SOURCES, "reward": {"thresholds": {"sample_pairwise": 0.1}}}
    named = {"filter": {"sources": ["sample_pairwise"]}}
    with pytest.raises(UserError, match=r"curation\.reward\.thresholds filters sample_pairwise already"):
        describe(config(tmp_path, curation=curation, ablation=named))
    said = "\n".join(describe(config(tmp_path, curation=curation)))
    assert "sample_pairwise: no filter by reward is tried: curation.reward.thresholds" in said


def test_the_dry_run_says_trials_and_cost(tmp_path: Path) -> None:
    made = config(tmp_path, trials={"heldout": {"benchmarks": ["heldout_pairwise"], "sample": 20}, "layers": 6})
    said = "\n".join(describe(made))
    assert "ablation of 3 sources, 3 seeds: at most 45 trials" in said
    assert "9 of a source alone, 12 of several, 24 of filtered ones and random ones" in said
    assert "trains the topmost 6 layers of embedded on 64 pairs and judges about 20 held-out rows" in said
    assert "sample_classification: no filter by reward is tried: a classification label endorses no response" in said
    assert "share rows" not in said
    more = made.model_copy(update={"trials": made.trials.model_copy(update={"seeds": [0, 1, 2, 3, 4]})})
    assert "trials.pool=320 gives each its own" in "\n".join(describe(more))
    assert "segment select" not in said and "segment prepare" in said and "rule: the mean gain" in said
    storage.write_json(made.run.experiments / "trials" / "x" / "done.json", {"pairs": 64, "seconds": 20.0})
    assert "trials in this folder took 20.0 s each: 15 min for all" in "\n".join(describe(made))


def test_critiques_are_written_only_where_a_filter_reads_them(tmp_path: Path) -> None:
    plain = config(tmp_path)
    asked = config(tmp_path, ablation={"filter": {"scores": {"sample_absolute": "consistency"}}})
    assert steps(plain)[-1].name == "prepare" and not needs_critiques(plain.ablation)
    assert steps(asked)[-1].name == "synthesize" and needs_critiques(asked.ablation)


def test_a_mixture_chosen_by_what_it_is_reported_on_says_so(tmp_path: Path) -> None:
    made = config(tmp_path)
    assert overlap(made.trials, ["auto_j"]) == []
    assert "heldout_pairwise: chosen by and" in overlap(made.trials, made.evaluation.benchmarks)[0]


def test_one_file_spelled_in_two_ways_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HELDOUT.parents[2])
    made = config(tmp_path, trials={"heldout": {"benchmarks": [str(HELDOUT.relative_to(HELDOUT.parents[2]))]}})
    assert overlap(made.trials, [str(HELDOUT)])


def test_held_out_files_of_the_users_are_kept_out_of_training_too(tmp_path: Path) -> None:
    made = config(tmp_path, trials={"heldout": {"benchmarks": ["auto_j", "mine.yaml"]}})
    assert own_heldout(made) == ["mine.yaml"]

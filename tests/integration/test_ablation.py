"""An ablation on Ray from sources to the mixture file, stopped and resumed, and the curation that takes the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import Config
from pipelines.core import step, storage
from pipelines.curation.mixture import load_mixture
from pipelines.experiments.ablation.job import mixture_file
from pipelines.experiments.records import record
from ray_jobs.ablate import ablate
from ray_jobs.curate import build
from tests.training.tiny import write_model

pytestmark = pytest.mark.usefixtures("plain_ray")
SOURCES = ["sample_pairwise", "sample_absolute", "sample_classification"]
HELD_OUT = ["heldout_pairwise", "heldout_absolute", "heldout_classification"]
TEMPLATES = {"pairwise": "pairwise_compact", "absolute": "absolute_compact", "classification": "classification_compact"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


def config(out: Path, model: Path, **trials: Any) -> Config:
    curation = {
        "sources": SOURCES,
        "sample_per_source": 40,
        "rows_per_block": 40,
        "clean": {"decontaminate": {"enabled": False}},
        "reward": {"enabled": False},
        "mix": {"max_tokens": 1500, "templates": TEMPLATES, "tokenizer": str(model)},
        "critique": {"engine": {"model": str(model)}},
    }
    train = {"model": str(model), "batch_size": 8, "bin_tokens": 4000, "max_length": 1600, "precision": "float32"}
    heldout = {"benchmarks": HELD_OUT, "sample": 16, "max_tokens": 1500}
    return Config.model_validate(
        {
            "out_dir": out,
            "curation": curation,
            "train": {**train, "learning_rate": 3e-3},
            "evaluation": {"benchmarks": HELD_OUT},
            "trials": {"pool": 30, "pairs": 16, "seeds": [0, 1], "layers": 1, "heldout": heldout, **trials},
            "ablation": {"mixture_pairs": 18, "check_seeds": 2, "filter": {"score": "length", "quantiles": [0.25]}},
        }
    )


def decisions(out: Path) -> list[dict[str, str]]:
    names = ("ablation", "reward-filter")
    return [
        one
        for name in names
        for one in json.loads((out / "experiments" / name / "experiment.json").read_text())["decisions"]
    ]


def trials(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in (out / "experiments" / "trials").glob("*/done.json")}


def test_an_ablation_ends_in_a_mixture_that_curation_takes(model: Path, tmp_path: Path) -> None:
    first = config(tmp_path / "first", model)
    ablate(first)
    done = trials(first.out_dir)
    assert len(done) == 1 + 6 + 12 + 2 + 6  # the base, alone, filtered and random, all, all but one
    mixture = load_mixture(mixture_file(first.run))
    assert mixture is not None and list(mixture.sources) == SOURCES
    found = {one.name: one for one in record.read_all(first.run)}
    assert (
        found.keys() == {"ablation", "reward-filter", "ablation-check"} and found["ablation-check"].judge == "stand-in"
    )
    assert len(found["ablation"].decisions) == 3 and found["ablation"].cost.trials == len(done)
    page = (first.run.experiments / "index.html").read_text()
    assert page.count("<svg") == 3 and "A stand-in judged here" in page

    again = yaml.safe_load((first.run.experiments / "mixture.yaml").read_text())
    again["sources"]["sample_absolute"]["include"] = False
    other = tmp_path / "mixture.yaml"
    other.write_text(yaml.safe_dump(again))
    for place in (mixture_file(first.run), other):
        curation = first.curation.model_copy(update={"mixture": place})
        build(first.run, curation)  # as it stands

    # A run that was stopped: some trials are there, some are not.
    second = config(tmp_path / "second", model)
    shutil.copytree(first.out_dir, second.out_dir)
    for name in sorted(done)[::3]:
        shutil.rmtree(second.out_dir / "experiments" / "trials" / name)
    storage.remove(second.run.experiments / "ablation")
    before = trials(second.out_dir)
    ablate(second)
    after = trials(second.out_dir)
    assert after.keys() == done.keys() and all(after[name] == before[name] for name in before)
    assert decisions(second.out_dir) == decisions(first.out_dir)

    # And one from the beginning: the same seeds decide the same.
    third = config(tmp_path / "third", model)
    ablate(third)
    assert trials(third.out_dir).keys() == done.keys() and decisions(third.out_dir) == decisions(first.out_dir)
    assert mixture_file(third.run).read_text() == mixture_file(first.run).read_text()  # type: ignore[union-attr]


def test_a_stand_in_needs_no_model_and_no_process(model: Path, tmp_path: Path) -> None:
    made = config(tmp_path, model, judge="stand_in")
    ablate(made)
    about = record.read(made.run.experiments / "ablation")
    assert about.judge == "stand-in" and not storage.exists(made.run.experiments / "first_pass")
    assert all(step.result_of(tmp_path / "experiments" / "trials" / name) for name in trials(tmp_path))

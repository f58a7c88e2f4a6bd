"""What a release may say of its judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.engines.models import identity
from pipelines.release.config import ReleaseConfig
from pipelines.release.evidence import SAMPLE, evidence, require_same_model
from tests.release.made import benchmarked, config_of, public_benchmark
from tests.training.tiny import write_model

PACKAGED = ["heldout_pairwise"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("model")))


def release(**keys: object) -> ReleaseConfig:
    return ReleaseConfig.model_validate(keys)


def test_without_benchmark_results_there_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no benchmark results"):
        evidence(Run(tmp_path), release())


def test_figures_of_the_packaged_sample_set_are_no_benchmarks(tmp_path: Path, model: str) -> None:
    run = benchmarked(config_of(tmp_path, PACKAGED), model)
    with pytest.raises(UserError, match=r"release\.figures: all figures are of the packaged sample set"):
        evidence(run, release())
    found = evidence(run, release(figures=SAMPLE))
    assert list(found.samples) == PACKAGED and not found.benchmarks


def test_benchmarks_and_samples_are_kept_apart(tmp_path: Path, model: str) -> None:
    run = benchmarked(config_of(tmp_path, [*PACKAGED, public_benchmark(tmp_path / "data")]), model)
    found = evidence(run, release())
    assert list(found.benchmarks) == ["public_pairs"] and list(found.samples) == PACKAGED
    with pytest.raises(UserError, match="there are figures of benchmarks too: public_pairs"):
        evidence(run, release(figures=SAMPLE))


def test_an_unknown_judge_is_named_with_those_that_are_known(tmp_path: Path, model: str) -> None:
    run = benchmarked(config_of(tmp_path, PACKAGED), model)
    with pytest.raises(UserError, match=r"no judge 'x'.*base, trained"):
        evidence(run, release(judge="x", figures=SAMPLE))


def test_figures_of_another_model_are_refused(tmp_path: Path, model: str) -> None:
    run = benchmarked(config_of(tmp_path, PACKAGED), model)
    require_same_model(run, "trained", identity(model), model)
    other = str(write_model(tmp_path / "other", seed=1))
    with pytest.raises(UserError, match="another one was judged"):
        require_same_model(run, "trained", identity(other), other)
    with pytest.raises(UserError, match="is not known"):
        require_same_model(Run(tmp_path / "nowhere"), "trained", identity(model), model)

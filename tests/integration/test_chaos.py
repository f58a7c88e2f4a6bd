"""Nodes removed and added at random, and drivers killed, through whole jobs: nothing is lost, nothing doubled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from .disturbed import benchmark, curate, training
from .storm import Storm, training_storm

MOST = 30  # kills of a job: two cores that do little but start nodes would never come to its end


@pytest.fixture(autouse=True)
def no_other_ray(own_ray: None) -> None:
    """The modules before have left a cluster, whose CPUs are needed."""
    import ray

    ray.shutdown()


def test_a_curation_that_loses_nodes_loses_no_row(tmp_path: Path) -> None:
    storm = Storm(5, nodes=2, every=(4.0, 7.0), lives=None)
    with storm.cluster() as cluster:
        outcome = curate(storm, cluster, tmp_path, rows=120)
    print(f"seed 5: {outcome}")
    assert outcome.unharmed and outcome.kills["nodes"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_curation_in_a_storm_loses_no_row_and_doubles_none(tmp_path: Path, seed: int) -> None:
    storm = Storm(seed, most=MOST)
    with storm.cluster() as cluster:
        outcome = curate(storm, cluster, tmp_path, rows=600, limit=600)
    print(f"seed {seed}: {outcome}")
    assert outcome.unharmed
    assert outcome.kills["nodes"] >= 4 and outcome.kills["drivers"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_benchmark_in_a_storm_gives_the_same_verdicts_and_figures(tmp_path: Path) -> None:
    storm = Storm(2, most=MOST)
    with storm.cluster() as cluster:
        outcome = benchmark(storm, cluster, tmp_path)
    print(f"seed 2: {outcome}")
    assert outcome.unharmed
    assert outcome.kills["nodes"] >= 2 and outcome.kills["drivers"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_in_a_storm_gives_the_same_weights(tmp_path: Path) -> None:
    storm = replace(training_storm(3), most=8)
    with storm.cluster() as cluster:
        outcome = training(storm, cluster, tmp_path)
    print(f"seed 3: {outcome}")
    assert outcome.unharmed
    assert outcome.kills["nodes"] >= 2 and outcome.kills["drivers"] >= 1

"""One small finished run, one cluster: started once a process, shared by every integration test in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.config import Config, load_config

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "ray_jobs" / "configs" / "local.yaml"
ZERO_2 = "{zero_optimization: {stage: 2}}"
# A cluster of our own: the tests kill processes, and may only kill what they started.
RAY = {"address": "local", "num_cpus": 4, "include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    """A short temporary folder for Ray's sessions, apart from any other cluster on the machine."""
    folder = Path(tempfile.mkdtemp(prefix="os-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def own_ray(ray_folder: Path) -> Iterator[None]:
    """Keep the tests away from other clusters: they neither join one nor leave one behind."""
    import ray

    before = {name: os.environ.get(name) for name in ("RAY_TMPDIR", "RAY_ADDRESS")}
    os.environ["RAY_TMPDIR"] = str(ray_folder)
    os.environ.pop("RAY_ADDRESS", None)
    yield
    ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="module")
def plain_ray(own_ray: None) -> None:
    """A cluster without any config, for tests that call a part of a job."""
    import ray

    if not ray.is_initialized():
        ray.init(**RAY)


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The embedded default, cut down: few rows, two training workers with DeepSpeed ZeRO-2."""
    out = tmp_path_factory.mktemp("run")
    return load_config(
        LOCAL,
        [
            f"out_dir={out}",
            "ray.dashboard=false",
            "curation.sample_per_source=12",
            "curation.critique.max_tokens=32",
            "curation.critique.drop_inconsistent_chosen=false",
            "curation.mix.cot_share=0.7",
            "train.epochs=1",
            "train.workers=2",
            "train.cpus_per_worker=1",
            f"train.deepspeed={ZERO_2}",
            "evaluation.sample=5",
            "evaluation.format=cot",
            "evaluation.max_tokens=24",
        ],
    )


@pytest.fixture(scope="session")
def finished_run(small_config: Config) -> Config:
    """A whole run of the main job on real engines, in a cluster that has counted nothing before."""
    import ray

    from pipelines.cli import outcome
    from pipelines.run_log.log import logged
    from ray_jobs.pipeline import pipeline

    ray.shutdown()
    with logged(small_config, "pipeline", outcome):  # as the command does
        pipeline(small_config)
    return small_config


@pytest.fixture(scope="session")
def job() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a job as a user does; returns what it printed and its exit code."""

    def run(name: str, *arguments: str, timeout: int = 600, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "ray_jobs" / f"{name}.py"), *arguments],
            cwd=ROOT,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run

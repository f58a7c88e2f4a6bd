"""cluster.yaml and runtime_env.yaml against Ray's own checks."""

from __future__ import annotations

import copy
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from scripts.lock_requirements import read_pins

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def ray_accepts(config: dict[str, Any]) -> dict[str, Any]:
    """The full config as `ray up` makes it before it asks the cloud; raises what `ray up` raises."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    prepared = ray_accepts(cluster)
    # The common setup commands reach the workers too.
    assert any("[gpu]" in command for command in prepared["worker_setup_commands"])


def _unknown_key(config: dict[str, Any]) -> None:
    config["idle_timeout_minute"] = 5


def _unknown_key_of_a_group(config: dict[str, Any]) -> None:
    config["available_node_types"]["head"]["max_worker"] = 1


def _wrong_type(config: dict[str, Any]) -> None:
    config["max_workers"] = "many"


def _resource_that_is_no_integer(config: dict[str, Any]) -> None:
    config["available_node_types"]["head"]["resources"]["CPU"] = "all"


@pytest.mark.parametrize("damage", [_unknown_key, _unknown_key_of_a_group, _wrong_type, _resource_that_is_no_integer])
def test_ray_rejects_a_damaged_cluster_file(cluster: dict[str, Any], damage: Callable[[dict[str, Any]], None]) -> None:
    damage(cluster)
    with pytest.raises(jsonschema.ValidationError):
        ray_accepts(cluster)


def test_ray_rejects_a_head_type_that_does_not_exist(cluster: dict[str, Any]) -> None:
    cluster["head_node_type"] = "haed"
    with pytest.raises(ValueError, match="head_node_type"):
        ray_accepts(cluster)


def test_groups_are_a_cpu_head_idle_gpu_groups_and_one_node_of_eight_h100(cluster: dict[str, Any]) -> None:
    groups = dict(cluster["available_node_types"])
    head = groups.pop(cluster["head_node_type"])
    assert "GPU" not in head["resources"]
    assert all(group["resources"]["GPU"] >= 1 for group in groups.values())
    assert all(group["min_workers"] == 0 < group["max_workers"] for group in groups.values())
    h100 = [group for group in groups.values() if "accelerator_type:H100" in group["resources"]]
    assert [(group["resources"]["GPU"], group["max_workers"]) for group in h100] == [(8, 1)]
    assert len(groups) > len(h100)
    # Every group can reach its own maximum.
    assert sum(group["max_workers"] for group in groups.values()) <= cluster["max_workers"]


def test_nodes_run_the_pinned_ray_and_install_an_extra_that_exists(cluster: dict[str, Any]) -> None:
    pins = read_pins((ROOT / "requirements-cpu.txt").read_text())
    assert f":{pins['ray']}-py311-" in cluster["docker"]["image"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(".[gpu]" in command for command in cluster["setup_commands"])
    assert "gpu" in project["optional-dependencies"]


def test_runtime_env_is_valid_and_installs_nothing() -> None:
    from ray.runtime_env import RuntimeEnv

    fields = yaml.safe_load((ROOT / "runtime_env.yaml").read_text())
    environment = RuntimeEnv(**fields)
    assert environment.env_vars()["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "HF_HUB_OFFLINE" not in environment.env_vars()
    assert not environment.has_pip() and not environment.has_uv() and not environment.has_conda()
    with pytest.raises(TypeError):
        RuntimeEnv(**{**fields, "env_vars": {"TOKENIZERS_PARALLELISM": False}})


def test_working_directory_is_uploaded_without_outputs_tests_and_environments(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    kept = {"pipelines/config.py", "ray_jobs/configs/local.yaml", "perf/serve.py", "pipelines/output.py"}
    left = {
        ".git/config",
        ".venv/bin/python",
        "out/curated/data.parquet",
        "out-real/model.bin",
        "tests/core/test_config.py",
        "perf/results/serve.json",
        "pipelines/core/__pycache__/config.pyc",
        ".coverage.host.1",
    }
    for name in kept | left:
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    excludes = yaml.safe_load((ROOT / "runtime_env.yaml").read_text())["excludes"]
    package = tmp_path / "package.zip"
    create_package(str(tmp_path / "tree"), package, include_gitignore=True, excludes=excludes)
    files = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert files == kept

"""The cluster files and runtime_env.yaml against Ray's own checks, and the roles of h100.yaml against node types."""

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

from pipelines.config import load_config
from pipelines.experiments.needs.roles import Role, roles
from scripts.lock_requirements import read_pins

ROOT = Path(__file__).resolve().parents[2]
FILES = {"aws": ROOT / "cluster.yaml", "gcp": ROOT / "deploy" / "gcp.yaml"}


@pytest.fixture(params=sorted(FILES))
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(FILES[request.param].read_text())


def ray_accepts(config: dict[str, Any]) -> dict[str, Any]:
    """The full config as `ray up` makes it before it asks the cloud; raises what `ray up` raises."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def papers_roles() -> list[Role]:
    config = load_config(ROOT / "ray_jobs" / "configs" / "h100.yaml")
    return roles(config.ray, config.curation, config.train, config.evaluation)


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    prepared = ray_accepts(cluster)
    # The common setup commands reach the workers too.
    assert any("[gpu," in command for command in prepared["worker_setup_commands"])


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


def test_labels_are_such_that_ray_takes_them(cluster: dict[str, Any]) -> None:
    from ray._private.label_utils import validate_label_selector, validate_node_label_syntax

    for node in cluster["available_node_types"].values():
        validate_node_label_syntax(node["labels"])
    for role in papers_roles():
        assert validate_label_selector(role.placement.labels) is None


def test_the_head_has_no_work_and_all_other_types_are_empty_at_first(cluster: dict[str, Any]) -> None:
    types = dict(cluster["available_node_types"])
    head = types.pop(cluster["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert all(node["min_workers"] == 0 < node["max_workers"] for node in types.values())
    # Every type can reach its own maximum.
    assert sum(node["max_workers"] for node in types.values()) <= cluster["max_workers"]


def test_every_role_has_the_nodes_it_asks_for(cluster: dict[str, Any]) -> None:
    """Types of the role's label that hold a worker; together they hold the most workers; spot ones have a fallback."""
    for role in papers_roles():
        fitting = [node for node in cluster["available_node_types"].values() if role.fits(node)]
        spot = [node for node in fitting if is_spot(node["node_config"])]
        assert fitting, role.name
        assert {node["labels"]["openselene/role"] for node in fitting} == {role.placement.labels["openselene/role"]}
        for node in fitting if role.gpus else []:
            per_node = node["resources"]["GPU"] // role.gpus
            assert per_node * node["max_workers"] >= role.most, role.name
            # No CPU is left over for work that would keep the GPUs from going.
            assert node["resources"]["CPU"] == per_node * role.cpus, role.name
        if role.name == "trainer":
            assert not spot and len(fitting) == 1
        else:
            assert len(spot) >= 2 and len({node["priority"] for node in spot}) == len(spot), role.name


def is_spot(config: dict[str, Any]) -> bool:
    return "spot" in (str(config.get("InstanceMarketOptions")) + str(config.get("scheduling"))).lower()


def test_a_role_does_not_fit_a_node_of_another_label_size_or_accelerator(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    (trainer,) = [role for role in papers_roles() if role.name == "trainer"]
    assert trainer.fits(types["trainer"]) and not trainer.fits(types["generator"])
    for damage in ({"labels": {}}, {"resources": {"CPU": 64, "GPU": 8}}, {"resources": {"CPU": 64}}):
        assert not trainer.fits({**types["trainer"], **damage})


def test_every_node_gets_its_variables_from_the_environment_file_and_stops_without_a_store(
    cluster: dict[str, Any],
) -> None:
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = cluster[commands][-1]
        assert ". ~/.openselene/env" in start and "${OPENSELENE_STORE:?" in start
        assert "--object-spilling-directory=/mnt/nvme" in start and "OPENSELENE_SCRATCH=/mnt/nvme" in start
    assert "HF_TOKEN=" not in yaml.safe_dump(cluster)
    assert "~/.openselene" in cluster["file_mounts"]


def test_nodes_run_the_pinned_ray_and_install_an_extra_that_exists(cluster: dict[str, Any]) -> None:
    pins = read_pins((ROOT / "requirements-cpu.txt").read_text())
    assert f":{pins['ray']}-py311-" in cluster["docker"]["image"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(".[gpu," in command for command in cluster["setup_commands"])
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
        "docs/clusters.md",
        "deploy/kuberay/rayjob.yaml",
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

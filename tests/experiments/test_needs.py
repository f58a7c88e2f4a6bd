"""What a run needs on a cluster: the list, and that the docs have all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.config import Config, load_config
from pipelines.core.errors import UserError
from pipelines.experiments.needs.needs import Need, needs_of
from ray_jobs import pipeline
from scripts.capacity_table import OUTPUT, main, page

ROOT = Path(__file__).resolve().parents[2]
H100 = ROOT / "ray_jobs" / "configs" / "h100.yaml"
CLUSTERS = (ROOT / "cluster.yaml", ROOT / "deploy" / "gcp.yaml")


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENSELENE_STORE", raising=False)


def needs(config: Config, cluster: Path = CLUSTERS[0]) -> list[Need]:
    return needs_of(config.ray, config.curation, config.train, config.evaluation, config.run, cluster)


def test_the_dry_run_lists_everything_without_data_store_or_cluster() -> None:
    asked = ["--config", str(H100), "--dry-run", "--cluster", str(CLUSTERS[0])]
    done = CliRunner().invoke(pipeline.app, asked)
    assert done.exit_code == 0
    headings = [line for line in done.output.splitlines() if line.endswith("s:") and not line.startswith(" ")]
    assert headings == ["nodes:", "images:", "secrets:", "mounts:", "places:", "models:", "files:"]
    assert "${OPENSELENE_STORE}/paper | out_dir" in done.output


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda path: path.stem)
def test_nothing_that_is_listed_is_missing_from_the_docs(cluster: Path) -> None:
    pages = "\n".join((ROOT / "docs" / name).read_text() for name in ("clusters.md", "data.md"))
    listed = needs(load_config(H100), cluster)
    assert {need.kind for need in listed} == {"node", "image", "secret", "mount", "place", "model", "file"}
    assert [need.name for need in listed if need.name not in pages] == []
    machines = {need.origin.split(",")[0] for need in listed if need.kind == "node"}
    assert [name for name in machines if name not in pages] == []


def test_every_source_and_benchmark_has_a_file_and_every_file_an_origin() -> None:
    config = load_config(H100)
    files = [need for need in needs(config) if need.kind == "file"]
    assert {need.what for need in files} == {*config.curation.sources, *config.evaluation.benchmarks}
    assert all(need.origin for need in files)


def test_keys_of_endpoints_and_trackers_are_secrets() -> None:
    endpoint = "{gpt: {endpoint: 'https://host/v1', model: m, api_key_env: MY_KEY}, mine: org/judge}"
    listed = needs(load_config(H100, [f"evaluation.models={endpoint}", "train.trackers=[wandb]"]))
    assert {"MY_KEY", "WANDB_API_KEY"} <= {need.name for need in listed if need.kind == "secret"}
    assert "org/judge" in {need.name for need in listed if need.kind == "model"}


def test_a_role_without_a_node_type_is_one_line() -> None:
    config = load_config(H100, ["train.placement.accelerator_type=H200"])
    with pytest.raises(UserError, match=r"cluster\.yaml: no node type holds the role trainer .*H200"):
        needs(config)


@pytest.mark.parametrize("text", ["[]", "{deployments: []}"])
def test_another_yaml_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.yaml").write_text(text)
    with pytest.raises(UserError, match="not a cluster file"):
        needs(load_config(H100), tmp_path / "other.yaml")


def test_the_option_is_for_dry_runs_alone() -> None:
    done = CliRunner().invoke(pipeline.app, ["--config", str(H100), "--cluster", str(CLUSTERS[0])])
    assert done.exit_code == 2 and "--cluster: is for --dry-run" in done.output


def test_a_run_without_the_store_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(pipeline.app, ["--config", str(H100)])
    assert done.exit_code == 2 and "OPENSELENE_STORE is not set" in done.output
    monkeypatch.setenv("OPENSELENE_STORE", "/somewhere")
    assert load_config(H100).out_dir == Path("/somewhere/paper")


def test_the_capacity_table_is_up_to_date(tmp_path: Path) -> None:
    assert OUTPUT.read_text(encoding="utf-8") == page(), "run `make docs`"
    assert main(["--check", "--output", str(tmp_path / "old.md")]) == 1


def test_the_twins_have_the_same_node_types() -> None:
    aws, gcp = (yaml.safe_load(path.read_text())["available_node_types"] for path in CLUSTERS)
    for key in ("labels", "max_workers", "priority"):
        assert {name: node.get(key) for name, node in aws.items()} == {n: node.get(key) for n, node in gcp.items()}


def test_engines_that_sample_are_a_role() -> None:
    engine = "{num_gpus: 1, placement: {labels: {openselene/role: judge}}}"
    overrides = ["train.recipe=rs_sft", f"train.own_critiques.engine={engine}"]
    nodes = [need.what for need in needs(load_config(H100, overrides)) if need.kind == "node"]
    assert [what for what in nodes if what.startswith("sampler, 1 to 1 workers")]
    assert not [need for need in needs(load_config(H100)) if "sampler" in need.what]

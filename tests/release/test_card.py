"""What the cards say of a release, and what the checksums cover."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from pipelines.config import Config
from pipelines.core.errors import UserError
from pipelines.release import job
from pipelines.release.evidence import SAMPLE
from tests.release.made import benchmarked, config_of, curated, public_benchmark
from tests.training.tiny import write_model

NO_ENGINES: dict[str, Any] = {"gguf": {"types": []}, "parity": {"engines": []}}


def made(tmp_path: Path, benchmarks: list[str], licences: dict[str, str] | None = None, **release: Any) -> Config:
    """A run that can be released: its model, figures and data."""
    base = write_model(tmp_path / "base", seed=1)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    config = config_of(tmp_path, benchmarks, train={"model": str(base)}, release={**NO_ENGINES, **release})
    model = write_model(tmp_path / "out" / "model")
    run = benchmarked(config, str(model))
    curated(run, licences or {"pairs_a": "MIT"}, {"pairs_a": {"hhh": {"rows": 3, "instructions": 2}}})
    return config


def released(config: Config) -> Path:
    job.release(config.run, config.train, config.evaluation, config.release)
    return Path(str(config.run.release))


def front(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_benchmarks_are_in_the_model_index_with_their_intervals(tmp_path: Path) -> None:
    config = made(tmp_path, ["heldout_pairwise", public_benchmark(tmp_path / "data")], name="judge")
    card = (released(config) / "judge" / "README.md").read_text()
    about = front(card)
    (index,) = about["model-index"]
    (result,) = index["results"]
    assert index["name"] == "judge" and result["dataset"]["type"] == "public_pairs"
    (entry,) = ModelCard(card).data.eval_results  # as the hub reads it
    low, high = (float(end) for end in entry.metric_name.split("interval ")[1].split(",")[0].split(" to "))
    assert 0.6 < low < entry.metric_value < high
    assert f"| {entry.metric_value:.3f} | {low:.3f}–{high:.3f} |" in card
    assert about["license"] == "apache-2.0" and about["library_name"] == "transformers"
    table = card.partition("## Benchmarks")[2].partition("Protocol:")[0]
    assert "public_pairs" in table and "heldout_pairwise" not in table
    assert "3 overlaps of training rows were found" in card and "| data pairs_a | MIT |" in card
    assert "- public_pairs: trained" in card


def test_a_judge_of_the_sample_set_says_so_and_has_no_model_index(tmp_path: Path) -> None:
    config = made(tmp_path, ["heldout_pairwise"], name="demo", figures=SAMPLE)
    card = (released(config) / "demo" / "README.md").read_text()
    assert "model-index" not in front(card) and "## Benchmarks" not in card
    assert "**Packaged sample set.**" in card and "They are no benchmark" in card


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "release.figures: all figures are of the packaged sample set"),
        ({"figures": SAMPLE, "judge": "nobody"}, "release.judge: no judge 'nobody'"),
        ({"figures": SAMPLE, "gguf": {"types": ["F16"], "converter": "nowhere"}}, "is not installed there"),
        ({"figures": SAMPLE, "hub": {"repo": "me/judge"}}, "release.hub.repo: there is no token of the hub"),
    ],
)
def test_a_refused_release_has_written_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    config = made(tmp_path, ["heldout_pairwise"], **changes)
    with pytest.raises(UserError, match=said):
        released(config)
    assert not (tmp_path / "out" / "release").exists()


def test_a_licence_in_the_way_refuses_the_release(tmp_path: Path) -> None:
    config = made(tmp_path, ["heldout_pairwise"], {"scraped": "none stated"}, figures=SAMPLE)
    with pytest.raises(UserError, match="source 'scraped'"):
        job.describe(config.run, config.train, config.evaluation, config.release)


def test_a_licence_that_must_go_along_goes_along_or_there_is_no_release(tmp_path: Path) -> None:
    config = made(tmp_path, ["heldout_pairwise"], figures=SAMPLE, base_license="llama3.1", name="Llama-judge")
    with pytest.raises(UserError, match="there is no LICENSE beside it"):
        released(config)
    (tmp_path / "base" / "LICENSE").write_text("the licence of Llama")
    folder = released(config)
    assert (folder / "Llama-judge" / "LICENSE").read_text() == "the licence of Llama"
    assert "**Built with Llama**" in (folder / "Llama-judge" / "README.md").read_text()


def test_figures_of_an_older_model_refuse_the_release(tmp_path: Path) -> None:
    config = made(tmp_path, ["heldout_pairwise"], figures=SAMPLE)
    write_model(tmp_path / "out" / "model", seed=7)
    with pytest.raises(UserError, match="are not of this model"):
        released(config)


def test_every_file_is_in_the_checksums_and_in_release_json(tmp_path: Path) -> None:
    config = made(tmp_path, ["heldout_pairwise"], name="demo", figures=SAMPLE)
    folder = released(config)
    manifest = json.loads((folder / "release.json").read_text())
    for kind, name in (("model", "demo"), ("data", "demo-data")):
        files = [path for path in (folder / name).rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
        sums = dict(reversed(line.split("  ")) for line in (folder / name / "SHA256SUMS").read_text().splitlines())
        for path in files:
            relative = path.relative_to(folder / name).as_posix()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert sums.pop(relative) == digest
            assert relative == "release.json" or manifest["files"][kind][relative] == digest
        assert sums == {}
    pairs = manifest["digests"]["pairs"]
    assert pairs == {"part-0.parquet": hashlib.sha256(b"pairs").hexdigest()}
    assert (
        not (folder / "demo-data" / "data").exists()
        and "not part of this release" in (folder / "demo-data" / "README.md").read_text()
    )


def test_the_same_release_again_has_the_same_files(tmp_path: Path) -> None:
    config = made(tmp_path, ["heldout_pairwise"], name="demo", figures=SAMPLE)
    first = {path: path.read_bytes() for path in released(config).rglob("*") if path.is_file()}
    assert {path: path.read_bytes() for path in released(config).rglob("*") if path.is_file()} == first


class FakeHub:
    """Stands for the hub, which tests do not reach."""

    calls: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 - one list for the class that is made anew

    def create_repo(self, repo: str, **given: Any) -> None:
        self.calls.append((repo, given))

    def upload_folder(self, **given: Any) -> Any:
        self.calls.append((given["repo_id"], given))
        return type("Commit", (), {"commit_url": "https://hub.invalid/commit/1"})


@pytest.mark.parametrize("data", [False, True])
def test_repositories_are_private_and_data_goes_only_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bool
) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token")
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "calls", [])
    config = made(tmp_path, ["heldout_pairwise"], figures=SAMPLE, hub={"repo": "me/judge", "data": data})
    folder = released(config)
    created = {repo: given["private"] for repo, given in FakeHub.calls if "private" in given}
    assert created == {"me/judge": True} | ({"me/judge-data": True} if data else {})
    assert (folder / "openselene-judge-data" / "data" / "part-0.parquet").exists() == data

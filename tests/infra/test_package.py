"""The package as users install it: a wheel with all its files, one version, commands that work without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import pipelines

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipelines", "ray_jobs", "serve")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    done = run(*pip, "--wheel-dir", folder, source, cwd=folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`openselene` from the wheel, in an environment that sees this one's other packages and not the checkout."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    inner = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # Packages of a .pth file come last, and its own .pth files (the checkout's among them) are not read.
    (inner / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    done = run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin" / "openselene"


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    source = wheel.parent / "source"
    files = {path for name in PACKAGES for path in (source / name).rglob("*") if path.is_file()}
    expected = {path.relative_to(source).as_posix() for path in files}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert {"pipelines/py.typed", "ray_jobs/configs/local.yaml", "pipelines/data/sample/pairwise.jsonl"} <= packed


def test_the_installed_program_plans_the_demo_in_an_empty_folder(program: Path, tmp_path: Path) -> None:
    version = run(program, "--version", cwd=tmp_path)
    assert (version.returncode, version.stdout) == (0, f"openselene {pipelines.__version__}\n")
    planned = run(program, "run", "--config", "ray_jobs/configs/local.yaml", "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert f"out_dir: {tmp_path / 'out' / 'local'}" in planned.stdout
    (line,) = planned.stderr.splitlines()
    assert "packaged" in line and str(program.parents[1]) in line
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_written_once_and_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"] and "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pipelines.__version__"}
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == "## Unreleased"
    assert headings[1].split()[1] == pipelines.__version__


def test_hosted_ci_runs_the_same_command_as_a_person() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make test"]
    assert any(step.get("with", {}).get("python-version") == "3.11" for step in steps)


def test_commit_hooks_are_the_projects_own_tools() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    tools = [hook["entry"].split()[0] for hook in repository["hooks"]]
    assert tools and all(tool.startswith(".venv/bin/") for tool in tools)

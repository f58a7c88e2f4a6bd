"""Versions, and the commit of a clone: nothing is raised where there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import pipelines
from pipelines.run_log import facts


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(facts.COMMIT, raising=False)
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "x")
    return tmp_path


def test_versions_are_those_installed() -> None:
    found = facts.versions()
    assert found["openselene"] == pipelines.__version__
    assert {"python", "ray", "torch", "transformers", "pyarrow"} <= found.keys()
    assert all(found.values())


def test_the_commit_of_a_clone_says_whether_the_code_is_another(clone: Path) -> None:
    head = git(clone, "rev-parse", "HEAD")
    (clone / "own.txt").write_text("not tracked")
    assert facts.commit(clone) == head
    (clone / "code.py").write_text("changed")
    assert facts.commit(clone) == f"{head}-dirty"


def test_a_folder_inside_another_clone_has_no_commit(clone: Path) -> None:
    (clone / "site-packages").mkdir()
    assert facts.commit(clone / "site-packages") is None


def test_without_git_there_is_no_commit_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(facts.COMMIT, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert facts.commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert facts.commit(tmp_path) is None


def test_code_that_was_sent_says_its_commit_by_the_environment(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(facts.COMMIT, "abc123")
    assert facts.commit(clone) == "abc123"

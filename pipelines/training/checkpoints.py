"""Checkpoints that are whole: a killed run may leave half of one behind."""

from __future__ import annotations

from pathlib import Path

COMPLETE = "complete"


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that every rank has finished writing, if there is one."""
    found = [p for p in folder.glob("checkpoint-*") if (p / COMPLETE).exists()]
    return max(found, key=step_of) if found else None


def step_of(checkpoint: Path | None) -> int:
    """The optimizer step a checkpoint was written after; 0 for none."""
    return int(checkpoint.name.rsplit("-", 1)[-1]) if checkpoint else 0

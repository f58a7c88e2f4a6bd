"""The lock file: address, size and sha256 of every public file a run reads, and why some have none."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field

from pipelines.core import storage
from pipelines.core.yaml_model import Strict, read_model

HEAD = """\
# What `openselene fetch` puts under data_root: file -> address, sha256 and size. Written by
# `openselene fetch --update`; look at the difference before you commit it.
# `unpinned` has what nobody has pinned yet, and why: it is not fetched without --update.
"""


class Pin(Strict):
    """One file."""

    url: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Pins(Strict):
    """All of them."""

    files: dict[str, Pin] = Field(default_factory=dict)
    unpinned: dict[str, str] = Field(default_factory=dict)

    def of(self, place: str) -> dict[str, Pin]:
        """The files at a place: itself, or all of a folder."""
        return {name: pin for name, pin in self.files.items() if name == place or name.startswith(f"{place}/")}


def read_pins(path: Path) -> Pins:
    """The lock file.

    Raises:
        UserError: there is none, or it is not well formed.
    """
    return read_model(Pins, path)


def write_pins(path: Path, pins: Pins) -> None:
    """Write the lock file, sorted, so that a difference shows what has changed."""
    content = {
        "files": dict(sorted(pins.model_dump()["files"].items())),
        "unpinned": dict(sorted(pins.unpinned.items())),
    }
    storage.write_text(path, HEAD + yaml.safe_dump(content, sort_keys=False, width=120))

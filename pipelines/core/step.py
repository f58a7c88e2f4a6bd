"""Do a step once: claim its folder, write, and commit by a marker that is written last.

A folder without the marker holds a draft: the next run with the same dependencies resumes it or starts it again, as
the step sees fit. A run with other dependencies is refused, so that no result is taken for another config's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.core import storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.storage import Place

CLAIM, DONE = "depends.json", "done.json"

Depends = dict[str, Any]
Result = dict[str, Any]


def once(folder: Place, depends: Depends, write: Callable[[Place], Result | None]) -> Result:
    """The result of a step: read where it is done, else made by `write`.

    Args:
        folder: the step's own.
        depends: every value the result depends on, by name, in JSON's types.
        write: fills the folder, whatever an earlier attempt has left there, and returns what to note in the marker.

    Returns:
        What `write` returned, with the `fingerprint` of `depends`.

    Raises:
        UserError: the folder holds the work of another config.
    """
    if (result := finished(folder, depends)) is not None:
        return result
    if not storage.exists(folder / CLAIM):
        storage.write_json(folder / CLAIM, {"fingerprint": fingerprint(depends), "depends": depends})
    result = {"fingerprint": fingerprint(depends), **(write(folder) or {})}
    storage.write_json(folder / DONE, result)
    return result


def finished(folder: Place, depends: Depends) -> Result | None:
    """The result of a step that is done; None where it is not begun, or begun and not done.

    Raises:
        UserError: the folder holds the work of another config.
    """
    if not storage.exists(folder / CLAIM):
        return None
    claim = storage.read_json(folder / CLAIM)
    if claim["fingerprint"] != fingerprint(depends):
        old = claim["depends"]
        changed = sorted(name for name in depends.keys() | old.keys() if _differs(depends.get(name), old.get(name)))
        raise UserError(
            f"holds a run of another config (changed: {', '.join(changed)})",
            where=str(folder),
            fix="choose another out_dir, or remove that folder",
        )
    return result_of(folder)


def result_of(folder: Place) -> Result | None:
    """What the marker of a folder says, whatever it depends on; None where the step is not done."""
    return storage.read_json(folder / DONE) if storage.exists(folder / DONE) else None


def is_whole(folder: Place) -> bool:
    """Whether a folder is free of half-done work; one that no step has claimed is the user's own."""
    return storage.exists(folder / DONE) or not storage.exists(folder / CLAIM)


def require_whole(folder: Place, fix: str) -> None:
    """Refuse a folder that a step has begun and not finished.

    Raises:
        UserError: its products may be incomplete.
    """
    if not is_whole(folder):
        raise UserError("was not written to its end", where=str(folder), fix=fix)


def fingerprint(depends: Depends) -> str:
    """Hash of all that a result depends on."""
    return digest(depends)


def _differs(new: Any, old: Any) -> bool:
    return digest(new) != digest(old)

"""Do a step once: claim its folder, write, and commit by a marker that is written last.

A folder without the marker holds a draft: the next run with the same dependencies resumes it or starts it again, as
the step sees fit. A run with other dependencies is refused, so that no result is taken for another config's; but not
where there is nothing to lose: no result, and no draft that can be resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pipelines import __version__
from pipelines.core import storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.storage import Place

CLAIM, DONE = "depends.json", "done.json"
JOURNAL = "journal"  # notes of workers, which nobody resumes

Depends = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Visit:
    """A step as a job met it.

    Attributes:
        result: what its marker says; None where the job ended before.
        seconds: that the job spent on it; None where it was done before.
    """

    result: Result | None
    seconds: float | None


_visits: ContextVar[dict[Place, Visit] | None] = ContextVar("visits", default=None)


@contextmanager
def visited() -> Iterator[dict[Place, Visit]]:
    """Every step that is asked for while the block runs, by its folder, in order."""
    visits: dict[Place, Visit] = {}
    token = _visits.set(visits)
    try:
        yield visits
    finally:
        _visits.reset(token)


def _visit(folder: Place, result: Result | None, seconds: float | None) -> None:
    visits = _visits.get()
    # What this job did is not overwritten where a later step asks whether it is done.
    if visits is not None and (seconds is not None or folder not in visits):
        visits[folder] = Visit(result, seconds)


def once(
    folder: Place,
    depends: Depends,
    write: Callable[[Place], Result | None],
    *,
    resumes: bool = False,
    cheap: bool = False,
) -> Result:
    """The result of a step: read where it is done, else made by `write`.

    Args:
        folder: the step's own.
        depends: every value the result depends on, by name, in JSON's types.
        write: fills the folder, whatever an earlier attempt has left there, and returns what to note in the marker.
        resumes: whether `write` goes on with what an earlier attempt has left, which is then kept from another config.
        cheap: whether the result is made again for another config, and none is refused; what reads it must depend on
            its content.

    Returns:
        What `write` returned, with the `fingerprint` of `depends`.

    Raises:
        UserError: the folder holds the work of another config.
    """
    if cheap and (_claim(folder) or {}).get("fingerprint") not in (None, fingerprint(depends)):
        storage.remove(folder / DONE)
    if (result := finished(folder, depends, resumes=resumes)) is not None:
        return result
    claim = {"fingerprint": fingerprint(depends), "depends": _whole(depends)}
    if (_claim(folder) or {}).get("fingerprint") != claim["fingerprint"]:
        storage.write_json(folder / CLAIM, claim)
    start, result = time.monotonic(), None
    try:
        result = {"fingerprint": claim["fingerprint"], **(write(folder) or {})}
        storage.write_json(folder / DONE, result)
    finally:
        _visit(folder, result, time.monotonic() - start)
    return result


def finished(folder: Place, depends: Depends, *, resumes: bool = False) -> Result | None:
    """The result of a step that is done; None where it is not begun, or begun and not done.

    Args:
        folder: the step's own.
        depends: every value the result depends on.
        resumes: whether a draft has a value.

    Raises:
        UserError: the folder holds the work of another config.
    """
    claim = _claim(folder)
    if claim is None or claim["fingerprint"] == fingerprint(depends):
        result = result_of(folder) if claim else None
        if result is not None:
            _visit(folder, result, None)
        return result
    if not storage.exists(folder / DONE) and not (resumes and storage.holds_files(folder, but=(CLAIM, JOURNAL))):
        return None  # a mistake, corrected before there was anything to lose
    new, old = _whole(depends), claim["depends"]
    changed = sorted(name for name in new.keys() | old.keys() if _differs(new.get(name), old.get(name)))
    raise UserError(
        f"holds a run of another config (changed: {', '.join(changed)})",
        where=str(folder),
        fix="choose another out_dir, or remove that folder",
    )


def _claim(folder: Place) -> Any:
    return storage.read_json(folder / CLAIM) if storage.exists(folder / CLAIM) else None


def depends_of(folder: Place) -> Depends | None:
    """What the step of a folder depends on; None where no step has claimed it."""
    claim = _claim(folder)
    return dict(claim["depends"]) if claim else None


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
    return digest(_whole(depends))


def _whole(depends: Depends) -> Depends:
    """With the version of the program, on which every result depends."""
    return {"openselene": __version__, **depends}


def _differs(new: Any, old: Any) -> bool:
    return digest(new) != digest(old)

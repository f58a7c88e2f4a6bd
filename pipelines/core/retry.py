"""`--retry-errors`: take the error rows of finished and unfinished segments back, and all that was made from them."""

from __future__ import annotations

from typing import Any

from pipelines.core import commits, step, storage
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.storage import Place


def retry_errors(run: Run) -> list[Place]:
    """Let the next job compute the error rows of every segment again, and everything that depends on them.

    A stop at any point loses nothing but what is removed anyway: call it again.

    Returns:
        The segments that had error rows.
    """
    claims = {path.parent: storage.read_json(path) for path in storage.find(run.out, step.CLAIM)}
    segments = [
        folder for folder in claims if storage.exists(folder / commits.CHECKPOINT) and commits.errors_in(folder)
    ]
    if not segments:
        say("no error row to try again")
        return []
    for folder in _made_from(run, segments, claims):
        say(f"made from error rows, and so made again: {folder}")
        storage.remove(folder / step.DONE)  # first: from here on it is a draft
        storage.remove(folder)
        for model in _models(run, [folder]):
            storage.remove(model)
    for folder in (folder for folder in segments if storage.exists(folder)):
        say(f"{folder.name}: {commits.errors_in(folder)} error rows are tried again")
        storage.remove(folder / step.DONE)
        commits.drop_errors(folder)
    return segments


def _made_from(run: Run, segments: list[Place], claims: dict[Place, Any]) -> list[Place]:
    """The steps that depend on some segments, however far: the last made first."""
    made: list[Place] = []
    marks = {claims[folder]["fingerprint"] for folder in segments}
    while more := [
        folder
        for folder, claim in claims.items()
        if folder not in made and (_names(claim["depends"], marks) or _reads(run, folder, made))
    ]:
        made += more
        marks |= {claims[folder]["fingerprint"] for folder in more}
        # Judges know a model by its content.
        marks |= {storage.content_digest(model) for model in _models(run, more) if storage.exists(model)}
    return sorted(made, key=lambda folder: -len(folder.parts))


def _models(run: Run, folders: list[Place]) -> list[Place]:
    """What those of some steps that are trainings have trained: the run's own, and those of runs within it."""
    return [folder.parent / run.model.name for folder in folders if folder.name == run.training.name]


def _names(depends: Any, marks: set[str]) -> bool:
    """Whether any value in a claim is one of some fingerprints."""
    if isinstance(depends, dict):
        return any(_names(value, marks) for value in depends.values())
    if isinstance(depends, list):
        return any(_names(value, marks) for value in depends)
    return depends in marks


def _reads(run: Run, folder: Place, made: list[Place]) -> bool:
    """Whether a step reads the curated pairs, which it knows by their content, and they are made again."""
    places = (run.reference, run.training, run.rounds, run.sweep, run.recipes, run.work / "map-rows")
    return run.curated in made and any(place == folder or place in folder.parents for place in places)

"""Calibration: everything judged, a few per cent labelled by people; what can be said of the systems, and what not."""

from __future__ import annotations

import time
from importlib import util
from typing import Any

from pipelines.core import csv_text, step, storage
from pipelines.core.determinism import digest, unit
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.experiments.calibrate import coverage, evidence
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.coverage import Coverage
from pipelines.experiments.calibrate.estimate import Estimates, estimate
from pipelines.experiments.calibrate.labels import check_joinable
from pipelines.experiments.calibrate.rows import Read, check_expressions, read, spec_of
from pipelines.experiments.calibrate.sampled import check_random
from pipelines.experiments.calibrate.values import Judged
from pipelines.experiments.records import record

LISTED = ["id", "row", "prompt", "system", "label"]
PAGE, DATA, TO_LABEL, LOST = "calibrate.html", "calibrate.json", "to_label.csv", "left_out.csv"


def validate(config: CalibrateConfig) -> None:
    """Find out before anything is read whether the job can run.

    Raises:
        UserError: no file is named, an expression is none, or the library is not installed.
    """
    spec_of("calibrate.input", config.input, config)
    check_expressions(config)
    if util.find_spec("cje") is None:
        raise UserError("calibration needs cje-eval", fix="pip install 'openselene[calibrate]'")


def describe(run: Run, config: CalibrateConfig) -> list[str]:
    """What the job would do.

    Raises:
        UserError: as `validate`, or the rows cannot be read.
    """
    validate(config)
    found = read(run, config)
    labels = sum(row.label is not None for row in found.rows)
    lines = [
        f"calibrate {len(found.rows)} rows of {len({row.system for row in found.rows})} systems by {labels} labels",
        f"  left out: {', '.join(f'{n} {why}' for why, n in found.reasons.items()) or 'none'}",
        f"  a system needs {config.least_labels} labels of its own; intervals of {config.level:.0%}, cje-eval",
    ]
    if config.coverage.draws:
        lines.append(f"  coverage: {config.coverage.draws} draws with {config.coverage.share:.0%} of the labels")
    return [*lines, f"  -> {run.calibrated / PAGE}"]


def run(run: Run, config: CalibrateConfig) -> Place:
    """Estimate, measure the coverage where that is asked for, and write the products.

    Returns:
        The page.

    Raises:
        UserError: as `validate`, or the labels cannot carry an estimate; then rows to label are listed.
        TooManyErrors: more than `max_error_share` of the rows are errors.
    """
    validate(config)
    try:
        return _made(run, config)
    except Exception:
        withdraw(run)
        raise


def withdraw(run: Run) -> None:
    """Remove the page and the record of an earlier input: at the place of another's they would be taken for its own.

    What people may have written into, and lists of this run, stay.
    """
    for name in (step.DONE, PAGE, DATA):
        storage.remove_file(run.calibrated / name)
    record.withdraw(run, evidence.NAME)


def _made(run: Run, config: CalibrateConfig) -> Place:
    found = read(run, config)
    folder, fingerprint = run.calibrated, digest(found.fingerprint, config.where, config.fields.identity())
    depends_on = {"rows": fingerprint, "config": config.identity(), "seed": run.seed}
    if (step.result_of(folder) or {}).get("fingerprint") != step.fingerprint(depends_on):
        withdraw(run)  # now: draws may take hours, and may be stopped
    if config.coverage.draws:
        coverage.check(found.rows)
    write_lost(folder / LOST, found)
    try:
        check = check_random(found.rows, config)
        start = time.monotonic()
        estimates = estimate(found.rows, config)
    except UserError:
        if written_into(folder / TO_LABEL, found.rows):
            said = "was written into and not read: name it in calibrate.labels, or move it away for a new list"
            say(f"calibrate: {folder / TO_LABEL} {said}")
        else:
            write_to_label(folder / TO_LABEL, found.rows, config.label_share, run.seed)
            say(f"calibrate: rows to label: {folder / TO_LABEL}")
        raise
    seconds = time.monotonic() - start
    covered: list[Coverage] = []
    if config.coverage.draws:
        depends = digest(fingerprint, config.identity(), run.seed)
        start = time.monotonic()
        covered = coverage.measure(found.rows, config, folder / "work" / depends[:16], run.seed, fingerprint)
        seconds += time.monotonic() - start

    def write(folder: Place) -> step.Result:
        storage.write_json(folder / DATA, result(estimates, covered, config, check))
        storage.write_text(folder / PAGE, evidence.page(found, estimates, covered, config, check))
        evidence.write(run, found, estimates, covered, config, seconds)
        return {"rows": len(found.rows)}

    step.once(folder, depends_on, write, cheap=True)
    for line in shown(estimates):
        say(line)
    say(f"calibrate: {folder / PAGE}")
    return folder / PAGE


def result(found: Estimates, covered: list[Coverage], config: CalibrateConfig, check: float | None) -> dict[str, Any]:
    """The figures as JSON."""
    return {
        **found.model_dump(mode="json"),
        "coverage": [one.model_dump(mode="json") for one in covered],
        "p_random": check,
        "settings": config.identity(),
    }


def shown(found: Estimates) -> list[str]:
    """The figures in the terminal."""
    lines = []
    for mean in (found.total, *found.means):
        one, naive = mean.calibrated, mean.naive.value
        said = f"refused: {mean.refused}" if mean.refused else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        lines.append(f"  {mean.system}: {said}; naive {naive:.3f}, {mean.labels} labels of {mean.n}")
    sure = sum(gap.shown != "undecided" for gap in found.gaps)
    return [*lines, *([f"  {sure} of {len(found.gaps)} differences are decided"] if found.gaps else [])]


def write_to_label(place: Place, rows: list[Judged], share: float, seed: int) -> None:
    """List rows for people to label: a random sample by hash of the prompts' and systems' names, the label empty.

    Raises:
        UserError: ids are not the rows' own, so that labels could not be joined.
    """

    def key(row: Judged) -> float:
        return unit(seed, "rows to label", f"{row.prompt} {row.system} {row.id}")

    check_joinable(rows)
    chosen = sorted(sorted(rows, key=key)[: max(1, round(share * len(rows)))], key=lambda row: (row.prompt, row.system))
    # A label that is there stays: it was drawn by the same hash, or else was refused.
    lines = [[row.id, row.where, row.prompt, row.system, "" if row.label is None else row.label] for row in chosen]
    storage.write_text(place, csv_text.written([LISTED, *lines]))


def written_into(place: Place, rows: list[Judged]) -> bool:
    """Whether people have put labels into a list that these rows do not have: it must not be written over."""
    if not storage.exists(place):
        return False
    header, *lines = csv_text.read(storage.read_text(place)) or [[]]
    if header != LISTED:  # a spreadsheet has saved it in its own form
        return True
    labelled = {row.id for row in rows if row.label is not None}
    return any(line[-1].strip() and line[0] not in labelled for line in lines if line)


def write_lost(place: Place, found: Read) -> None:
    """List the rows that are left out, each with its reason."""
    storage.write_text(place, csv_text.written([["row", "reason"], *found.lost.items()]))

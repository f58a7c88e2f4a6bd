"""The audit of critiques: a sample measured, read by a blind checker and by people, and what follows from that."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib import util
from typing import Any

import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.records import OK, Row
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.experiments.audit import evidence, sample
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.audit.measures import measure, style_leak

PAGE, DATA, MEASURES = "audit.html", "audit.json", "measures.csv"
PRODUCTS = 2  # raised where the same input gives other files: those of an earlier version are written again
PACKAGES = {"krippendorff": "krippendorff", "sqlalchemy": "SQLAlchemy"}
VERDICTS = {"chosen": "verdict", "rejected": "rejected_verdict"}


def validate(run: Run, config: AuditConfig) -> None:
    """Find out before anything starts whether the audit can run.

    Raises:
        UserError: a package is not installed, there are no curated pairs, the checker's model is not there, or what
            should hold people's answers does not, or holds those about other pairs.
    """
    missing = [name for module, name in PACKAGES.items() if util.find_spec(module) is None]
    if missing:
        raise UserError(f"the audit needs {', '.join(missing)}", fix="pip install 'openselene[audit]'")
    if not storage.files(run.pairs, ".parquet"):
        raise UserError("no curated pairs to audit", where=str(run.pairs), fix="run ray_jobs/curate.py first")
    if config.blind:
        from pipelines.engines.models import require

        require(config.engine.model, "audit.engine.model")
    evidence.answers(answers_place(run, config), sample.identity(run))  # before the checker has read for hours


def describe(run: Run, config: AuditConfig) -> list[str]:
    """What the job would do.

    Raises:
        UserError: as `validate`.
    """
    validate(run, config)
    lines = [f"audit at most {config.rows} pairs with critiques of {run.pairs}, by hash"]
    if config.blind:
        lines += [f"  {line}" for line in blind_segment(run, config).describe()]
    database = answers_place(run, config)
    state = "answers of people are read from" if storage.exists(database) else "nobody has answered in"
    return [*lines, f"  {config.people} of them are for people; {state} {database}", f"  -> {run.audit / PAGE}"]


def answers_place(run: Run, config: AuditConfig) -> Place:
    """The database of people's answers."""
    return config.answers or run.audit / "answers.sqlite"


def blind_segment(run: Run, config: AuditConfig) -> Any:
    """The segment of the blind checker."""
    from pipelines.experiments.audit.blind import segment

    return segment(run, config)


def drawn(run: Run, config: AuditConfig) -> list[Row]:
    """The rows of the sample: what the page for people needs, too.

    Raises:
        UserError: there are no pairs with critiques.
    """
    rows = sample.draw(run, config.rows, replace(run, out=run.audit).work)
    found: list[Row] = storage.read_table(rows.folder).sort_by("row_id").to_pylist()
    return found


def run(run: Run, config: AuditConfig) -> Place:
    """Do what is left of the audit, and write the page with all answers that people have given so far.

    Returns:
        The page.

    Raises:
        UserError: as `validate`.
        TooManyErrors: the checker failed on more than `max_error_share` of the rows.
    """
    validate(run, config)
    work, start = replace(run, out=run.audit).work, time.monotonic()
    drawn_rows = sample.draw(run, config.rows, work)
    rows: list[Row] = storage.read_table(drawn_rows.folder).sort_by("row_id").to_pylist()
    marker, tokens = "", 0
    if config.blind:
        segment = blind_segment(run, config)
        # Another checker or sample reads in a folder of its own, as in the batch judge.
        read = segment.run(work / step.fingerprint(segment.depends(drawn_rows))[:16], drawn_rows)
        marker = storage.content_digest(read.folder.parent / step.DONE)
        tokens = storage.column_sum(read.folder, ["blind_tokens"])
        checked = storage.read_table(read.folder, keep=pc.field("status") == OK).to_pylist()
        argued = {row["row_id"]: row for row in checked}
        rows = [{**row, **_argued(argued.get(row["row_id"]))} for row in rows]
    table = evidence.answers(answers_place(run, config), sample.identity(run))
    gains = evidence.gains_of(run, config)

    def write(folder: Place) -> step.Result:
        lines = [with_checker(line, rows_by_id[line["row_id"]]) for line in measure(rows)]
        style = style_leak(rows, run.seed)
        found = evidence.Found(rows, lines, style, table, gains, tokens)
        storage.write_text(folder / MEASURES, evidence.record.to_csv(lines))
        storage.write_json(folder / DATA, found.as_json(run, config))
        storage.write_text(folder / PAGE, evidence.page(run, config, found))
        evidence.write(run, config, found, time.monotonic() - start)
        people = found.summary(run, config)
        return {"rows": len(rows), "answers": people["answers"], "outside": people["outside"]}

    rows_by_id = {row["row_id"]: row for row in rows}
    depends = {"sample": drawn_rows.fingerprint, "blind": marker, "people": config.people, "seed": run.seed}
    depends |= {"answers": digest(table), "gains": gains, "products": PRODUCTS}
    done = step.once(run.audit, depends, write, cheap=True)
    outside = f" ({done['outside']} about pairs not shown now left out)" if done["outside"] else ""
    say(f"audit: {done['rows']} pairs, {done['answers']} answers of people{outside}: {run.audit / PAGE}")
    return run.audit / PAGE


def _argued(row: Row | None) -> dict[str, Any]:
    """What the checker says of a row; nothing where it failed."""
    return {f"{side}_argued": row[f"{side}_argued"] if row else None for side in sample.SIDES}


def with_checker(line: dict[str, Any], row: Row) -> dict[str, Any]:
    """A critique's measures, with whether the checker recovers the side it argues for."""
    argued = row.get(f"{line['side']}_argued")
    if f"{line['side']}_argued" not in row:
        return line
    return {**line, "blind": None if argued is None else argued == row[VERDICTS[line["side"]]]}

"""Leakage: the rows of a training set that are a benchmark's, by words, by near duplicates and by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import Stage
from pipelines.core.storage import Place
from pipelines.evaluation.asking.benchmark_texts import write_texts
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.experiments.data_map.embed import MODEL, model_folder
from pipelines.experiments.leaks import boilerplate, evidence, report
from pipelines.experiments.leaks.alike import Alike, embed_benchmarks
from pipelines.experiments.leaks.config import LeaksConfig
from pipelines.experiments.leaks.hits import KeepOut, Near, Overlaps
from pipelines.experiments.leaks.sets import Sets

SEARCH = "search"


def validate(run: Run, config: LeaksConfig, benchmarks: Sequence[str]) -> Sets:
    """Find out before anything starts whether the sets can be compared.

    Raises:
        UserError: no set is named, a file is missing, a benchmark is unknown, every search is off, or the embedding
            model is not installed.
    """
    sets = Sets(run, config)
    sets.readings()
    if not report.used(config):
        fix = "leave one of overlaps, near and embeddings on"
        raise UserError("every search is off, so nothing would be found", where="leaks", fix=fix)
    BENCHMARKS.load_all(list(benchmarks), "evaluation.benchmarks")
    if config.embeddings.enabled:
        try:
            model_folder()
        except UserError as missing:
            fix = f"{missing.fix}, or set leaks.embeddings.enabled=false"
            raise UserError(missing.what, where="leaks.embeddings", fix=fix) from None
    return sets


def describe(run: Run, config: LeaksConfig, benchmarks: Sequence[str]) -> list[str]:
    """What the job would do.

    Raises:
        UserError: as `validate`.
    """
    names = [one.input.name for one in validate(run, config, benchmarks).readings()]
    first = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    lines = [f"compare {len(names)} files ({first}) with {', '.join(benchmarks)} and all packaged benchmarks at hand"]
    lines.append(f"  texts: {config.text or f'every one of at least {config.least_words} words'}")
    if (shared := config.overlaps).enabled:
        lines.append(
            f"  runs of {shared.ngram} words, {shared.coverage:.0%} of the shorter text, or {shared.long_run} words"
        )
    if config.near.enabled:
        lines.append(f"  near duplicates: {config.near.ngram}-word shingles, from {config.near.threshold:g} on")
    if config.embeddings.enabled:
        lines.append(
            f"  embeddings of about {config.embeddings.rows} rows ({MODEL}), from {config.embeddings.threshold:g} on"
        )
    return [*lines, f"  kept out: {', '.join(config.keep_out) or 'nothing'}", f"  -> {run.leaks / report.PAGE}"]


def run(run: Run, config: LeaksConfig, benchmarks: Sequence[str]) -> Place:
    """Do what is left of the comparison.

    A work folder belongs to one input and config, as in the batch judge: other sets are looked at beside it, and the
    products are those of the last run.

    Returns:
        The page.

    Raises:
        UserError: as `validate`.
        TooManyErrors: more than `max_error_share` of the rows are errors.
    """
    sets = validate(run, config, benchmarks)
    own = replace(run, out=run.leaks)
    texts = write_texts(own, benchmarks)
    depends = {**sets.depends(), "texts": storage.content_digest(texts), "config": config.identity()}
    depends["seed"] = run.seed
    work = own.work / step.fingerprint(depends)[:16]
    rows = sets.run(work)
    found = search(own, config, rows, texts, work).run(work, rows)
    read = step.result_of(rows.folder.parent) or {}

    searched = step.result_of(found.folder.parent) or {}

    def write(folder: Place) -> step.Result:
        columns = [report.COLUMNS[name] for name in report.used(config)]
        result = report.summarise(found.folder, rows.folder, texts, columns, config.examples)
        report.write(folder, found.folder, result, config)
        evidence.write(run, result, report.settings_of(config), read["seconds"] + searched["seconds"])
        return {"rows": result["rows"], "kept_out": result["kept_out"], "files": len(read["files"])}

    marker = storage.content_digest(found.folder.parent / step.DONE)
    done = step.once(run.leaks, {"rows": found.fingerprint, "marker": marker}, write, cheap=True)
    say(f"leaks: {done['kept_out']} of {done['rows']} rows, left out of {run.leaks / report.CLEAN}")
    say(f"  {run.leaks / report.PAGE}")
    return run.leaks / report.PAGE


def search(run: Run, config: LeaksConfig, rows: Rows, texts: Place, work: Place) -> Segment:
    """The segment that looks every row up."""
    stages: list[Stage] = []
    if config.overlaps.enabled:
        common = boilerplate.find(work, rows, texts, config.overlaps)
        stages.append(Overlaps(texts, config.overlaps, common))
    if config.near.enabled:
        stages.append(Near(texts, config.near))
    if config.embeddings.enabled:
        total = storage.row_count(rows.folder)
        share = min(1.0, config.embeddings.rows / max(total, 1))
        embedded = embed_benchmarks(work.parent / "benchmarks", texts, config.embeddings, config.least_words)
        stages.append(Alike(embedded, config.embeddings, share, run.seed))
    columns = [column.name for stage in stages for column in stage.adds if column.name != "embedded"]
    stages.append(KeepOut(config.keep_out, columns))
    return Segment(
        SEARCH, stages, id_column="raw_id", rows_per_block=config.rows_per_block, max_error_share=run.max_error_share
    )

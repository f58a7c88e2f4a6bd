"""What the hits say: counts by benchmark, kind and file, examples, the page, and the sets without their leaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import PurePath
from typing import Any, get_args

from pipelines.core import sql, storage
from pipelines.core.storage import Place
from pipelines.experiments import pages
from pipelines.experiments.leaks.config import Kind, LeaksConfig

KINDS: tuple[str, ...] = get_args(Kind)
COLUMNS = {"overlaps": "overlaps", "near": "near", "embeddings": "alike"}
PAGE, DATA, HITS, CLEAN = "report.html", "leaks.json", "hits.parquet", "clean"
Report = dict[str, Any]


def summarise(rows: Place, read: Place, texts: Place, columns: Sequence[str], examples: int) -> Report:
    """All figures of the report.

    Args:
        rows: that were looked at, with their hits.
        read: every row of the sets, those that could not be read included.
        texts: parquet file (benchmark, text).
        columns: of `rows` that hold hits.
        examples: shown of each benchmark and kind: first those that are not also equal, of these the highest scores.
    """
    with sql.connect(rows=rows, read=read, texts=texts) as connection:
        connection.execute(f"create view hits as {_hits(columns)}")
        known: dict[str, int] = dict(
            connection.execute("select benchmark, count(*) from texts group by 1 order by 1").fetchall()
        )
        found: dict[str, Any] = {name: {} for name in known}
        for benchmark, kind, n, distinct in connection.execute(
            "select h.benchmark, h.kind, count(distinct raw_id), count(distinct h.text_id) from hits group by 1, 2"
        ).fetchall():
            found[benchmark][kind] = {"rows": n, "texts": distinct, "examples": []}
        for benchmark, kind, *values in connection.execute(
            f"""
            with equal as (select distinct h.text_id as text_id from hits where h.kind = 'exact'),
            distinct_ones as (
                select *, h.kind <> 'exact' and h.text_id in (select text_id from equal) as shown_before from hits
                qualify row_number() over (
                    partition by h.benchmark, h.kind, h.text_id order by h.score desc, raw_id) = 1)
            select h.benchmark, h.kind, file, "row", h.score, h.shared, h.ours, h.theirs from distinct_ones
            qualify {int(examples)} >= row_number() over (
                partition by h.benchmark, h.kind order by shown_before, h.score desc, raw_id)
            order by h.benchmark, h.kind, shown_before, h.score desc, raw_id
            """
        ).fetchall():
            names = ("file", "row", "score", "shared", "ours", "theirs")
            found[benchmark][kind]["examples"].append(dict(zip(names, values, strict=True)))
        files = connection.execute(
            """
            select read.file, count(*), count(*) filter (rows.status like 'filtered:%'),
                count(*) filter (coalesce(rows.status, read.status) like 'error:%'),
                count(*) filter (read.status = 'ok' and coalesce(len(read.texts), 0) = 0)
            from read left join rows using (raw_id) group by read.file order by min(raw_id)
            """
        ).fetchall()
        seen = "count(*) filter (embedded)" if COLUMNS["embeddings"] in columns else "0"
        embedded: int = connection.execute(f"select {seen} from rows").fetchone()[0]
    by_file = [dict(zip(("file", "rows", "leaks", "errors", "without_text"), one, strict=True)) for one in files]
    total, leaks, errors = (sum(one[name] for one in by_file) for name in ("rows", "leaks", "errors"))
    return {
        "rows": total,
        "kept_out": leaks,
        "share": leaks / total if total else 0.0,
        "errors": errors,
        "without_text": sum(one["without_text"] for one in by_file),
        "clean": total - leaks - errors,
        "embedded": embedded,
        "texts": sum(known.values()),
        "benchmarks": known,
        "found": found,
        "files": by_file,
    }


def write(folder: Place, rows: Place, report: Report, config: LeaksConfig) -> None:
    """Write the hits, the clean sets, the figures and the page; the page last, as it is what a person opens.

    Args:
        folder: of the products.
        rows: that were looked at.
        report: of `summarise`.
        config: of the job.
    """
    columns = [column for name, column in COLUMNS.items() if name in used(config)]
    with sql.connect(rows=rows) as connection:
        found = connection.sql(
            f'select raw_id, file, "row", h.* from ({_hits(columns)}) order by raw_id, h.kind, h.theirs'
        )
        storage.write_table(folder / HITS, found.to_arrow_table())
    write_clean(rows, storage.fresh(folder / CLEAN))
    settings = settings_of(config)
    storage.write_json(folder / DATA, {**report, "settings": settings})
    kinds = [kind for kind in KINDS if any(kind in one for one in report["found"].values())]
    title, package = "What a training set shares with benchmarks", __package__ or ""
    page = pages.render(package, "leaks.html.j2", title=title, report=report, settings=settings, kinds=kinds)
    storage.write_text(folder / PAGE, page)


def settings_of(config: LeaksConfig) -> dict[str, Any]:
    """What counted as a leak."""
    shared = config.overlaps
    return {
        "overlaps": shared.enabled,
        "ngram": shared.ngram,
        "coverage": shared.coverage,
        "long_run": shared.long_run,
        "near": config.near.threshold if config.near.enabled else None,
        "near_ngram": config.near.ngram,
        "embedding": config.embeddings.threshold if config.embeddings.enabled else None,
        "text": config.text,
        "least_words": config.least_words,
        "keep_out": list(config.keep_out),
    }


def used(config: LeaksConfig) -> list[str]:
    """The searches that are on."""
    return [
        *(["overlaps"] if config.overlaps.enabled else []),
        *(["near"] if config.near.enabled else []),
        *(["embeddings"] if config.embeddings.enabled else []),
    ]


def write_clean(rows: Place, folder: Place) -> None:
    """The records of the sets without the leaks, as JSON Lines: a file for each, in the order of the sets."""
    with sql.connect(rows=rows) as connection:
        found = connection.sql("select raw_id, file, record from rows where status = 'ok' order by raw_id")
        with ExitStack() as stack:
            current, file = "", None
            for number, name, record in _records(found):
                if number != current:
                    stack.close()
                    target = folder / f"{number}-{PurePath(name).name.split('.')[0]}.jsonl"
                    draft = stack.enter_context(storage.draft(target)).open("w", encoding="utf-8")
                    current, file = number, stack.enter_context(draft)
                assert file is not None
                file.write(record + "\n")


def _records(found: Any) -> Iterator[tuple[str, str, str]]:
    for batch in found.to_arrow_reader(10_000):
        for raw_id, name, record in zip(
            *(batch[column].to_pylist() for column in ("raw_id", "file", "record")), strict=True
        ):
            yield raw_id.split(".")[0], name, record


def _hits(columns: Sequence[str]) -> str:
    """A query for every hit `h` with the place of its row."""
    return " union all ".join(f'select raw_id, file, "row", unnest("{name}") as h from rows' for name in columns)

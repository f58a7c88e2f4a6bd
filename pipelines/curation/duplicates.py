"""Exact duplicates: rows that say what an earlier row says, whichever sources the two come from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.core.files import read_json
from pipelines.core.segment import DONE

MEMORY = "1GB"  # of DuckDB; beyond it, it spills to disk


def find_duplicates(rows: Path, out: Path, sources: Sequence[str] | None = None) -> Path:
    """Write a parquet file (raw_id, rank) of all `ok` rows but the first of each group with the same content.

    Args:
        rows: folder of ingested rows.
        out: the file to write, put in place when it is whole.
        sources: the order of the sources, which comes before the position in a source.
            None takes it from ingest's `done.json` beside `rows`, and the order of names where there is none.

    Returns:
        `out`. `rank` is 1 for the second row of a group, 2 for the third.
    """
    import duckdb

    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with tempfile.TemporaryDirectory(dir=out.parent) as spill, duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '{MEMORY}'")
        connection.execute("set preserve_insertion_order = false")
        connection.execute("set temp_directory = " + quoted(spill))
        connection.execute("create table sources (source varchar, place integer)")
        for place, source in enumerate(sources if sources is not None else source_order(rows)):
            connection.execute("insert into sources values (?, ?)", [source, place])
        # Two steps, so that only rows that have a twin are ever sorted.
        connection.execute(
            f"""
            copy (
                with ok as (
                    select raw_id, source, content_hash from read_parquet({sql_files(rows)}) where status = 'ok'
                ),
                repeated as (select content_hash from ok group by content_hash having count(*) > 1),
                ranked as (
                    select raw_id, row_number() over (
                        partition by content_hash order by place nulls last, source, raw_id
                    ) - 1 as rank
                    from ok join repeated using (content_hash) left join sources using (source)
                )
                select raw_id, cast(rank as integer) as rank from ranked where rank > 0 order by raw_id
            ) to {quoted(str(draft))} (format parquet)
            """
        )
    os.replace(draft, out)
    return out


def source_order(rows: Path) -> list[str]:
    """The sources in the order of the config, from ingest's `done.json`; none where there is no such file."""
    done = rows.parent / DONE
    return list(read_json(done)["sources"]) if done.exists() else []


def sql_files(rows: Path) -> str:
    """The parquet files of a folder as a list in SQL."""
    return "[" + ", ".join(quoted(str(path)) for path in sorted(rows.glob("*.parquet"))) + "]"


def quoted(text: str) -> str:
    """A text as a literal in SQL."""
    return "'" + text.replace("'", "''") + "'"

"""DuckDB over run data: bounded memory, spilling to scratch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.core import storage
from pipelines.core.storage import Place


@contextmanager
def connect(memory: str = "1GB", **tables: Place) -> Iterator[Any]:
    """A DuckDB connection in which each name of `tables` is the parquet file or folder at its place.

    Args:
        memory: of DuckDB; beyond it, it spills to disk.
        tables: name -> place; a table is read by its name in SQL, and never held whole.
    """
    import duckdb

    with storage.scratch() as spill, duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '{memory}'")
        connection.execute(f"set temp_directory = {quoted(str(spill))}")
        connection.execute("set preserve_insertion_order = false")
        for name, place in tables.items():
            connection.register(name, storage.dataset(place))
        yield connection


def quoted(text: str) -> str:
    """A text as a literal in SQL."""
    return "'" + text.replace("'", "''") + "'"

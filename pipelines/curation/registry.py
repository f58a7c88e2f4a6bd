"""The sources: packaged YAML files by name, a user's own by path."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core.errors import UserError
from pipelines.core.registry import Registry
from pipelines.datasets.spec import DatasetSpec

SOURCES = Registry("source", DatasetSpec, "pipelines.curation", "sources")
load_source = SOURCES.load


def load_sources(sources: Sequence[str]) -> list[DatasetSpec]:
    """The sources of a run, in order.

    Raises:
        UserError: none is named, a source is unknown or not well formed, or two have the same name.
    """
    if not sources:
        raise UserError("no source is named", where="curation.sources", fix=f"known: {', '.join(SOURCES.names())}")
    return SOURCES.load_all(list(sources), "curation.sources")


def check_years(sources: Sequence[DatasetSpec], min_year: int | None) -> None:
    """Check that `curation.clean.min_year` leaves something of every source.

    Raises:
        UserError: a source does not say when it was published, or was published earlier.
    """
    for source in sources:
        if min_year is None or source.fields.published:
            continue
        if source.published is None or source.published < min_year:
            said = f"is {source.published}" if source.published else "is missing"
            raise UserError(
                f"`published` {said}, so that every row would be filtered",
                where=f"source '{source.name}'",
                fix=f"give the year, or set curation.clean.min_year, which is {min_year}, to null",
            )

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

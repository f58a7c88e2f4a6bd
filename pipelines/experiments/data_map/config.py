"""The section `data_map` of a config."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.core.yaml_model import OPERATIONAL, Strict
from pipelines.engines.config import Pool


class DataMapConfig(Strict):
    """The map of the curated set (Figure 4)."""

    rows: int = Field(20_000, ge=1)
    """Most rows on the map; of a larger set, this many are sampled by hash."""
    max_tokens: int = Field(256, ge=3, le=512)
    """Tokens of a row that are embedded; the model was trained on 256."""
    neighbours: int = Field(15, ge=2)
    """Neighbours that the layout keeps close to each row: more show the large structure, fewer the small."""
    topics: int = Field(12, ge=1, le=20)
    """Most topics; a small set has fewer."""
    actors: Annotated[Pool, OPERATIONAL] = (1, 2)
    """Least and most copies of the embedding model, one CPU each."""
    rows_per_batch: Annotated[int, OPERATIONAL] = Field(64, ge=1)
    """Rows embedded at once."""
    rows_per_block: Annotated[int, OPERATIONAL] = Field(256, ge=1)
    """Rows of one block: the most that a kill loses, and the unit in which work is distributed."""

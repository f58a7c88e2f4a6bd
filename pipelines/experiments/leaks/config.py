"""The section `leaks` of a config."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pipelines.core.storage import is_url
from pipelines.core.yaml_model import OPERATIONAL, Strict
from pipelines.curation.config import DecontaminateConfig
from pipelines.datasets.spec import Encoding, FileFormat
from pipelines.engines.config import Pool
from pipelines.judge_job.config import absolute

Kind = Literal["exact", "run", "coverage", "near_duplicate", "embedding", "boilerplate"]


class NearConfig(Strict):
    """Texts that are a benchmark's but for a word here and there, which break every long run."""

    enabled: bool = True
    """Look for them."""
    ngram: int = Field(3, ge=1)
    """Words of a shingle."""
    threshold: float = Field(0.4, gt=0, le=1)
    """Least Jaccard similarity of the shingles of two texts. One word in eight changed leaves 0.45 of three-word
    shingles, and no run of eight."""
    least_words: int = Field(12, ge=1)
    """Words without which a text is not compared: `What is the capital of ...?` is a form and no prompt."""


class EmbeddingsConfig(Strict):
    """Texts that mean what a benchmark's mean, in other words; by all-MiniLM-L6-v2."""

    enabled: bool = True
    """Look for them; needs the extra `map`."""
    rows: int = Field(1000, ge=1)
    """About so many rows, chosen by hash, are embedded: on a CPU it takes some 10 ms a text."""
    threshold: float = Field(0.85, gt=0, le=1)
    """Least cosine of two embeddings."""
    max_tokens: int = Field(128, ge=3, le=512)
    """Tokens of a text that are embedded."""
    actors: Annotated[Pool, OPERATIONAL] = (1, 2)
    """Least and most copies of the embedding model, one CPU each."""
    rows_per_batch: Annotated[int, OPERATIONAL] = Field(64, ge=1)
    """Rows embedded at once."""


class LeaksConfig(Strict):
    """Anyone's training set against the benchmarks. What curation filters of its own sources is set apart from it."""

    sets: Annotated[list[str], OPERATIONAL] = Field(default_factory=list)
    """Files, globs, folders or URLs of training data; of a folder, all data files in it. Their contents count, not
    where they are."""
    format: FileFormat | None = None
    """null takes the format from the file's suffix, without that of a compression."""
    encoding: Encoding = None
    """Of text files that are not UTF-8 and have no byte order mark, such as cp1252."""
    text: str | None = None
    """Expression over `record` for the text, or list of texts, that is compared, such as `record.prompt`; null takes
    every text anywhere in a record, keys too, that has at least `least_words`."""
    least_words: int = Field(4, ge=1)
    """Words without which a text, a benchmark's or a set's, says nothing."""
    overlaps: DecontaminateConfig = DecontaminateConfig()
    near: NearConfig = NearConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    keep_out: list[Kind] = Field(["exact", "run", "coverage", "near_duplicate"])
    """Kinds of leak whose rows are missing in OUT/leaks/clean; the others are only shown."""
    examples: int = Field(5, ge=0)
    """Leaks that the page shows for each benchmark and kind."""
    rows_per_block: Annotated[int, OPERATIONAL] = Field(256, ge=1)
    """Rows of one block: what a kill may cost, and how finely the work is spread."""

    @field_validator("sets", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("sets")
    @classmethod
    def _found_from_here(cls, value: list[str]) -> list[str]:
        # Workers read the files, and they run in other folders than the driver.
        return [one if is_url(one) or one.startswith("package:") else absolute(one) for one in value]

"""The pool: rows of each source by hash, as judgments without critiques, from which all trials take theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.core import step
from pipelines.core.segment import Rows, Segment
from pipelines.core.storage import Place
from pipelines.curation.cap import SourceCap
from pipelines.curation.config import CurationConfig
from pipelines.curation.mix import Pair
from pipelines.judging.templates import READS

NAME = "pool"


class JudgmentPair(Pair):
    """A pair without critiques, for which no generator is needed."""

    name = "judgment_pair"
    reads = (*READS, "row_id", "source", "verdict", "rejected_verdict")

    def depends(self) -> dict[str, Any]:
        found = super().depends()
        del found["config"]["caps"]
        return found


def write_pool(before: Rows, work: Place, curation: CurationConfig, most: int, seed: int, errors: float) -> Rows:
    """Write the pool; rows that are too long for training leave with that reason.

    Args:
        before: rows that are cleaned, contrasted and, where a reward model is used, scored.
        work: gets the folder.
        curation: the config.
        most: rows of each source.
        seed: of the choice.
        errors: share of rows that may end as errors.
    """
    sources = sources_of(before.folder)
    pair = JudgmentPair(curation.mix.model_copy(update={"cot_share": 0.0, "caps": {}}), seed)
    stages = [SourceCap(dict.fromkeys(sources, most), seed), pair]
    segment = Segment(NAME, stages, rows_per_block=curation.rows_per_block, max_error_share=errors)
    return segment.run(own_folder(work, segment, before), before)


def own_folder(work: Place, segment: Segment, before: Rows) -> Place:
    """A folder for each pool: trials on one do not stand in the way of trials on another."""
    return work / step.fingerprint(segment.depends(before))[:12]


def write_both(
    before: Rows, work: Place, curation: CurationConfig, most: int, seed: int, errors: float
) -> dict[str, Rows]:
    """Format -> the pool in it, of rows that have critiques.

    Args:
        before: rows with critiques.
        work: gets the folders.
        curation: the config.
        most: rows of each source.
        seed: of the choice.
        errors: share of rows that may end as errors.
    """
    caps = SourceCap(dict.fromkeys(sources_of(before.folder), most), seed)
    found = {}
    for name, share in (("cot", 1.0), ("judgment_only", 0.0)):
        stages = [caps, Pair(curation.mix.model_copy(update={"cot_share": share, "caps": {}}), seed)]
        segment = Segment(f"{NAME}-{name}", stages, rows_per_block=curation.rows_per_block, max_error_share=errors)
        found[name] = segment.run(own_folder(work, segment, before), before)
    return found


def sources_of(folder: Place) -> Sequence[str]:
    """The sources that have rows, by name."""
    from pipelines.core.ledger import count_status

    return sorted(source for source, counts in count_status(folder).items() if counts.get("ok"))

"""What recipe `rs_sft` trains on: sampled rows with a row for each completion that was kept."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.progress import say
from pipelines.core.records import OK, Row
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.core.storage import Place
from pipelines.training.own_critiques import COUNTS
from pipelines.training.pairs import is_held_out

KEPT = pa.schema(
    [
        (name, pa.string())
        for name in ("row_id", "group_id", "source", "format", "status", "prompt", "chosen", "rejected")
    ]
)
READS = ("row_id", "group_id", "source", "format", "prompt", "chosen", "rejected", "own_completions")
# Of each source: rows of either format that were read, those asked about, and those of them that have a right answer.
TALLY = ("rows", "judgments_alone", "held_out", "asked_about", "with_a_right_answer", *COUNTS)

Tally = dict[str, int]


def keep(sampled: Rows, run: Run, holdout: float) -> step.Result:
    """Write the rows of a round as its run's pairs; done once.

    Args:
        sampled: the rows as the segment has left them.
        run: of the round.
        holdout: share of the instructions that are held out: these rows keep both completions of the pair.

    Returns:
        `sources`: source -> its tally, filtered rows included.
    """

    def write(_: Place) -> step.Result:
        tallies: dict[str, Tally] = {}
        storage.write_ordered(storage.fresh(run.pairs), batches(sampled, run.seed, holdout, tallies), KEPT)
        return {"rows": storage.row_count(run.pairs), "sources": {name: tallies[name] for name in sorted(tallies)}}

    depends = {"sampled": sampled.fingerprint, "holdout": holdout, "seed": run.seed, "columns": KEPT.names}
    result = step.once(run.curated, depends, write)
    for name, tally in result["sources"].items():
        say(f"  {name}: {words(tally)}")
    return result


def words(tally: Tally) -> str:
    """A source's tally in one line."""
    return (
        f"{tally['with_a_right_answer']} of {tally['asked_about']} rows have a right critique of the judge's own "
        f"({tally['own_right']} of {tally['own_asked']} answers are right); {tally['judgments_alone']} judgments alone"
    )


def batches(sampled: Rows, seed: int, holdout: float, tallies: dict[str, Tally]) -> Iterator[pa.RecordBatch]:
    """The rows to train on, and those held out; `tallies` counts all rows on the way."""
    for batch in storage.read_batches(sampled.folder, [*READS, *COUNTS, "status"]):
        made: list[Row] = []
        for row in batch.to_pylist():
            held = is_held_out(row["group_id"] or row["row_id"], holdout, seed)
            count(row, held, tallies.setdefault(row["source"], dict.fromkeys(TALLY, 0)))
            if row["status"] == OK:
                made += completions_of(row, held)
        yield pa.RecordBatch.from_pylist(made, schema=KEPT)


def completions_of(row: Row, held: bool) -> Iterator[Row]:
    """A row for each completion to train on; of a row that is held out, the pair itself."""
    # Of rows made from one, the group is the same: none of them is held out alone.
    common = {**row, "group_id": row["group_id"] or row["row_id"]}
    if held:
        yield common
    elif row["format"] != "cot":
        yield {**common, "rejected": None}
    else:
        for number, text in enumerate(row["own_completions"]):
            own = row["row_id"] if number == 0 else f"{row['row_id']}-{number}"
            yield {**common, "row_id": own, "chosen": text, "rejected": None}


def count(row: Row, held: bool, tally: Tally) -> None:
    """Add a row to its source's tally; one that failed before it was asked has no counts."""
    alone = row["format"] != "cot"
    tally["rows"] += 1
    tally["held_out"] += held
    tally["judgments_alone"] += alone and not held
    tally["asked_about"] += not alone and not held
    tally["with_a_right_answer"] += bool(row["own_completions"])
    for name in COUNTS:
        tally[name] += row[name] or 0


def templates_in(pairs: Place) -> tuple[str, ...]:
    """Every template that some pairs name, sorted."""
    found: set[str] = set()
    for batch in storage.read_batches(pairs, ["template"]):
        found.update(pc.unique(batch["template"].drop_null()).to_pylist())
    return tuple(sorted(found))

"""Ingest: raw records of all sources, adapted to Example rows and written as parquet."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pipelines.core import step
from pipelines.core.counts import count_entry
from pipelines.core.ledger import check_error_share
from pipelines.core.progress import clock, say
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.core.storage import Place
from pipelines.datasets.preview import preview
from pipelines.datasets.readers import contents, inputs
from pipelines.datasets.reading import Reading, divided, in_scope, survey_all, unconfirmed, write
from pipelines.datasets.spec import DatasetSpec


class Ingest:
    """Writes every row in scope of every source, with a status.

    The marker has, per source, raw records, rows, and how many of them are sampled and not sampled.

    Args:
        run: its data root, seed and limit of errors.
        sources: in order.
        sample: rows of each source; None takes all.
    """

    name = "ingest"

    def __init__(self, run: Run, sources: Sequence[DatasetSpec], sample: int | None = None) -> None:
        self.settings, self.sources, self.sample = run, list(sources), sample

    def depends(self, before: Rows | None = None) -> step.Depends:
        """The sources and the content of their files; the seed, where it chooses a sample.

        Raises:
            UserError: a file is missing.
        """
        return {
            "sources": {source.name: source.identity() for source in self.sources},
            "files": {source.name: contents(source, self.settings.data_root) for source in self.sources},
            "sample_per_source": self.sample,
            "seed": None if self.sample is None else self.settings.seed,
        }

    def run(self, work: Place, before: Rows | None = None) -> Rows:
        """Read the sources; `before` plays no part.

        Raises:
            UserError: a source, file or hub dataset cannot be read; the folder holds the work of another config.
            LedgerError: the rows written are not the rows counted.
            TooManyErrors: more than `max_error_share` of the rows are errors.
        """
        folder, depends = work / self.name, self.depends()
        if done := step.finished(folder, depends):
            say(f"{self.name}: already done, {done['rows']} rows")
        return Rows(folder / ROWS, step.once(folder, depends, self._write)["fingerprint"])

    def describe(self) -> list[str]:
        """The sources, and what the first rows of each become.

        Raises:
            UserError: a source's file is missing or cannot be read.
        """
        lines = [f"ingest {len(self.sources)} sources"]
        for source in self.sources:
            lines.append(f"  source {source.name}: {source.task}, {source.license}")
            lines += [f"    {line}" for line in preview(source, self.settings.data_root)]
        return lines

    def _write(self, folder: Place) -> step.Result:
        start = time.monotonic()
        readings = [
            Reading(source, found, self.settings.data_root, self.settings.seed)
            for source in self.sources
            for found in inputs(source, self.settings.data_root)
        ]
        for name, doubt in unconfirmed(readings).items():
            say(f"ingest: source '{name}' has not been tried on its real data: {doubt}")
        readings = divided(readings)
        counts, readings = in_scope(readings, survey_all(readings, self.sample), self.sample)
        entry = write(readings, counts, folder / ROWS)
        count_entry(self.name, entry)
        check_error_share(self.name, entry, self.settings.max_error_share)
        total, seconds = sum(count["sampled"] for count in counts.values()), time.monotonic() - start
        say(f"ingest: {total} rows of {len(self.sources)} sources in {clock(seconds)}")
        return {"rows": total, "seconds": round(seconds, 2), "ledger": entry, "sources": counts}

"""The products of curation: pairs, quarantine, ledger, manifest and a card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.errors import LedgerError
from pipelines.core.ledger import Entry, count_status
from pipelines.core.progress import say
from pipelines.core.records import OK, kind, published
from pipelines.core.run import Run
from pipelines.core.segment import Rows, ledger_of
from pipelines.core.storage import Place
from pipelines.curation.card import card, label_counts
from pipelines.curation.checker_quality import checker_quality
from pipelines.curation.config import CurationConfig
from pipelines.curation.conflicts import Conflicts
from pipelines.curation.decontaminate import overlap_table
from pipelines.datasets.spec import DatasetSpec


class Publish:
    """Writes what the steps before have made into the folder of the run's curated set, and hands on the pairs.

    Args:
        run: whose set it is.
        curation: the config, for the manifest.
        sources: of the run.
    """

    name = "publish"

    def __init__(self, run: Run, curation: CurationConfig, sources: Sequence[DatasetSpec]) -> None:
        self.target, self.curation, self.sources = run, curation, list(sources)

    def depends(self, before: Rows) -> step.Depends:
        """The rows alone."""
        return {"before": before.fingerprint}

    def run(self, work: Place, before: Rows) -> Rows:
        """Write the set.

        Raises:
            UserError: the folder holds the set of another config.
            LedgerError: pairs and quarantined rows do not add up to the rows read.
        """
        folder, depends = self.target.curated, self.depends(before)
        if done := step.finished(folder, depends):
            say(f"{self.name}: already done, {done['rows']} rows")
        result = step.once(folder, depends, lambda folder: self._write(folder, before))
        return Rows(self.target.pairs, result["fingerprint"], (*before.earlier, before))

    def describe(self) -> list[str]:
        """One line."""
        return [f"publish in {self.target.curated}"]

    def _write(self, out: Place, before: Rows) -> step.Result:
        passed = [*before.earlier, before]
        manifest, quality = self._manifest(before.fingerprint), None
        if rows := first_with("overlaps", passed):
            storage.write_json(out / "contamination.json", overlap_table(rows))
        if rows := first_with("chosen_consistent", passed):
            quality = checker_quality(rows, self.target.seed)
            storage.write_json(out / "checker.json", quality)
        if rows := first_with("synthesis_tokens", passed):
            manifest["synthesis"] = engine_cost(rows)
        if found := step.result_of(self.target.work / Conflicts.name):
            manifest["conflicts"] = found["sources"]
        publish(out, passed, manifest, quality)
        say(f"curated set: {self.target.pairs}")
        return {"rows": storage.row_count(self.target.pairs)}

    def _manifest(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "seed": self.target.seed,
            "generator": self.curation.critique.engine.model,
            "reward_model": self.curation.reward.model if self.curation.reward.enabled else None,
            "sources": {source.name: {"task": source.task, "license": source.license} for source in self.sources},
            "config": self.curation.model_dump(mode="json"),
        }


def publish(
    out: Place, passed: Sequence[Rows], manifest: dict[str, Any], quality: dict[str, Any] | None = None
) -> None:
    """Write `data/`, `quarantine/`, `ledger.json`, `manifest.json` and `README.md`, and check that all rows add up.

    Args:
        out: the folder to fill.
        passed: what each step has written, in order; the ok rows of the last are the pairs.
        manifest: what the set was made from.
        quality: of the consistency checker.

    Raises:
        LedgerError: pairs and quarantined rows do not add up to the rows read.
    """
    is_ok, columns = pc.field("status") == OK, published(storage.folder_schema(passed[-1].folder))
    ledger = {rows.folder.parent.name: ledger_of(rows) for rows in passed}
    storage.write_rows(storage.fresh(out / "data"), selected(passed[-1:], is_ok, columns), columns)
    storage.write_rows(storage.fresh(out / "quarantine"), selected(passed, ~is_ok, columns), columns)
    totals = total(ledger, out)
    storage.write_json(out / "ledger.json", {"total": totals, "segments": ledger})
    storage.write_json(out / "manifest.json", manifest)
    storage.write_text(out / "README.md", card(totals, ledger, manifest, label_counts(out / "data"), quality))


def selected(passed: Sequence[Rows], keep: pc.Expression, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of several steps that `keep` selects; columns that a step had not added yet are null."""
    for rows in passed:
        yield from storage.read_batches(rows.folder, keep=keep, schema=columns)


def first_with(column: str, passed: Sequence[Rows]) -> Place | None:
    """The rows of the step that added a column: all that it was given, whatever became of them later."""
    return next((rows.folder for rows in passed if column in storage.folder_schema(rows.folder).names), None)


def engine_cost(rows: Place) -> dict[str, Any]:
    """What the generator and checker read and wrote, and how much of it the prefix cache saved."""
    names = ("tokens", "prompt_tokens", "cached_tokens")
    spent = {name: storage.column_sum(rows, [f"synthesis_{name}"]) for name in names}
    hit = spent["cached_tokens"] / spent["prompt_tokens"] if spent["prompt_tokens"] else 0.0
    say(f"synthesize: {hit:.0%} of {spent['prompt_tokens']} prompt tokens came from the prefix cache")
    return {**spent, "prefix_cache_hit_rate": hit}


def total(ledger: dict[str, Entry], out: Place) -> Entry:
    """Per source, over all steps: rows read, pairs, filtered and errors, counted from the files themselves.

    Raises:
        LedgerError: they do not add up.
    """
    first = next(iter(ledger.values()))
    pairs, lost = count_status(out / "data"), count_status(out / "quarantine")
    totals: Entry = {}
    for source in sorted(first.keys() | pairs.keys() | lost.keys()):
        counts = {"in": first.get(source, {"in": 0})["in"], "pairs": pairs.get(source, {}).get("ok", 0)}
        for group in ("filtered", "error"):
            counts[group] = sum(n for status, n in lost.get(source, {}).items() if kind(status) == group)
        if counts["in"] != counts["pairs"] + counts["filtered"] + counts["error"]:
            raise LedgerError(f"source '{source}': {counts} does not balance over all segments")
        totals[source] = counts
    return totals

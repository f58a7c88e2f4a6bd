"""The products of curation: pairs, quarantine, ledger, manifest and a short card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.core.errors import LedgerError
from pipelines.core.files import write_json, write_text
from pipelines.core.ledger import Entry, count_status
from pipelines.core.records import CHECKED, CONTRASTED, CRITIQUED, EXAMPLE, OVERLAPS, PAIRED, SCORED, kind
from pipelines.core.segment import write_empty
from pipelines.curation.duplicates import sql_files

FULL = pa.schema([*EXAMPLE, *OVERLAPS, *SCORED, *CONTRASTED, *CRITIQUED, *CHECKED, *PAIRED])


def publish(
    out: Path,
    ledger: dict[str, Entry],
    folders: dict[str, Path],
    manifest: dict[str, Any],
    quality: dict[str, Any] | None = None,
) -> Path:
    """Write `data/`, `quarantine/`, `ledger.json`, `manifest.json` and `README.md`, and check the whole balance.

    Args:
        out: the folder to fill.
        ledger: segment -> its entry, in order.
        folders: segment -> its parquet files, in order; the ok rows of the last are the pairs.
        manifest: what the set was made from.
        quality: of the consistency checker.

    Returns:
        The folder of the pairs.

    Raises:
        LedgerError: pairs and quarantined rows do not add up to the rows read.
    """
    is_ok = pc.field("status") == "ok"
    last = list(folders.values())[-1]
    rewrite(out / "data", [last], is_ok)
    rewrite(out / "quarantine", list(folders.values()), ~is_ok)
    totals = total(ledger, out)
    write_json(out / "ledger.json", {"total": totals, "segments": ledger})
    write_json(out / "manifest.json", manifest)
    write_text(out / "README.md", card(totals, ledger, manifest, label_counts(out / "data"), quality))
    return out / "data"


def rewrite(target: Path, folders: list[Path], keep: pc.Expression) -> None:
    """Stream the rows of some folders that `keep` selects into a new folder, put in place when it is whole."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    pads.write_dataset(
        selected(folders, keep),
        draft,
        schema=FULL,
        format="parquet",
        basename_template="part-{i}.parquet",
        max_rows_per_file=100_000,
        max_rows_per_group=10_000,
    )
    if not any(draft.glob("*.parquet")):
        write_empty(draft, FULL)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(draft, target)


def selected(folders: list[Path], keep: pc.Expression) -> Iterator[pa.RecordBatch]:
    """The rows of some folders that `keep` selects, file by file.

    Each file is a dataset of its own: one of all files would keep the metadata of each, and the driver's memory would
    grow with their number.
    """
    for folder in folders:
        for path in sorted(folder.glob("*.parquet")):
            file = pads.dataset(str(path), format="parquet", schema=FULL)
            yield from file.to_batches(filter=keep, batch_size=4096, batch_readahead=2)


def total(ledger: dict[str, Entry], out: Path) -> Entry:
    """Per source, over all segments: rows read, pairs, filtered and errors, counted from the files themselves.

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


def label_counts(pairs: Path) -> list[tuple[str, str, str, int]]:
    """(source, format, verdict, pairs): whether A and B, the scores, yes and no are in balance."""
    import duckdb

    with duckdb.connect() as connection:
        return connection.execute(
            f"select source, format, verdict, count(*) from read_parquet({sql_files(pairs)}) group by all order by all"
        ).fetchall()


def card(
    totals: Entry,
    ledger: dict[str, Entry],
    manifest: dict[str, Any],
    labels: list[tuple[str, str, str, int]],
    quality: dict[str, Any] | None = None,
) -> str:
    """The data set card, in Markdown."""
    environment = Environment(
        loader=PackageLoader("pipelines.curation"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    reasons = [
        (source, segment, reason, n)
        for segment, entry in ledger.items()
        for source, counts in entry.items()
        for reason, n in counts.get("reasons", {}).items()
    ]
    return environment.get_template("card.md.j2").render(
        totals=totals,
        about=manifest["sources"],
        generator=manifest["generator"],
        reward_model=manifest.get("reward_model"),
        synthesis=manifest.get("synthesis"),
        reasons=sorted(reasons),
        labels=labels,
        quality=quality,
        percent=percent,
    )


def percent(found: dict[str, Any], name: str = "rate") -> str:
    """A share with its interval, as '12.5% (8.0–17.1, n = 200)'."""
    low, high = found["interval" if name == "rate" else f"{name}_interval"]
    return f"{found[name]:.1%} ({100 * low:.1f}–{100 * high:.1f}, n = {found['n']})"

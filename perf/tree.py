"""Distinct tokens of real pairs: two sequences a pair, a prompt shared within a pair, a prefix tree over a batch.

Nothing is timed and no model runs: tokens are counted. Pairs are real rows of public sets in the paper's templates,
of training sets as `train_step.py` makes them, and of benchmarks, which have more of one template. A batch is 32 pairs
in the order of training, so it mixes sources. `planned` is what the planner's bins and ranks leave of the sharing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.determinism import unit
from pipelines.engines.packed.packing import SIDES, pack
from pipelines.engines.packed.planning import pair_item, plan_bins, tokens_of
from pipelines.engines.packed.work import Shape, Work

BENCHMARKS = ("auto_j", "evalbiasbench", "hhh_alignment", "infobench", "instrusum", "lfqa", "llmbar")
BATCHES = (4, 8, 16, 32)
PLANS = ((1, 8192), (2, 8192), (8, 8192))  # workers, tokens of a bin
REFERENCE_ROWS = 64  # rows of a block of the reference pass
Pairs = list[dict[str, Any]]


def main() -> None:
    """Count, and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("OPENSELENE_DATA_ROOT"))
    parser.add_argument("--pairs", type=int, default=560, help="of each kind of set")
    options = parser.parse_args()
    if options.data_root is None:
        sys.exit("set OPENSELENE_DATA_ROOT or --data-root to the folder of the real data")
    sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script, it has its own folder there only
    from perf.train_step import SOURCES, encoded_pairs, example_rows

    found = {}
    for name, rows in (
        ("training sets", example_rows(options.data_root, SOURCES, options.pairs)),
        ("benchmarks", benchmark_rows(options.data_root, options.pairs)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            pairs = encoded_pairs(rows, Path(folder))
        found[name] = count(sorted(pairs, key=lambda row: unit(0, "perf order", row["row_id"])))
        print(name, json.dumps(found[name], indent=1))
    print(json.dumps({"name": "tree", "unit": "times fewer tokens than with a prompt shared within a pair", **found}))


def benchmark_rows(data_root: Path, n: int) -> list[Any]:
    """Rows of benchmarks, chosen by hash, as a judge is asked about them."""
    from pipelines.datasets.reading import ingest_rows
    from pipelines.evaluation.benchmarks.registry import BENCHMARKS as REGISTRY

    rows = []
    for name in BENCHMARKS:
        spec = REGISTRY.load(name)
        found = [row for row in ingest_rows(spec, data_root) if row["status"] == "ok"]
        found.sort(key=lambda row: unit(0, "perf", f"{name}:{row['raw_id']}"))
        rows += [
            {**row, "row_id": f"{name}:{row['raw_id']}", "template": spec.template_name}
            for row in found[: -(-n // len(BENCHMARKS))]
        ]
    return rows[:n]


def count(pairs: Pairs) -> dict[str, Any]:
    """Tokens of all pairs in every way, and how many times fewer a tree has than pairs that share with no other."""
    two = sum(2 * len(pair["prompt_ids"]) + sum(len(pair[side]) for side in SIDES) for pair in pairs)
    each = sum(distinct([pair]) for pair in pairs)
    result: dict[str, Any] = {"pairs": len(pairs), "two_sequences": two, "pair_shared": each, "of_two": two / each}
    for name, size in (*((f"batch_{size}", size) for size in BATCHES if size <= len(pairs)), ("all", len(pairs))):
        batches = [pairs[i : i + size] for i in range(0, len(pairs) - size + 1, size)]
        whole = sum(distinct([pair]) for batch in batches for pair in batch)
        result[name] = whole / sum(map(distinct, batches))
    for workers, budget in PLANS:
        result[f"planned_{workers}x{budget}"] = each / planned(pairs, 32, workers, budget).tokens
    result["planned_reference"] = each / planned(pairs, REFERENCE_ROWS, 1, 8192).tokens
    return result


def distinct(pairs: Sequence[dict[str, Any]]) -> int:
    """Distinct tokens of pairs in one trie."""
    return int(pack(pairs)["work"].tokens)


def planned(pairs: Pairs, batch: int, workers: int, budget: int, shape: Shape | None = None) -> Work:
    """The work of all bins of all workers, step by step."""
    names = ("prompt_ids", *SIDES)
    total = Work()
    for start in range(0, len(pairs), batch):
        step = pairs[start : start + batch]
        items = [pair_item(*(np.asarray(pair[name]) for name in names)) for pair in step]
        for bins in plan_bins(items, workers, budget, shape.step if shape else tokens_of):
            total = sum((pack([step[i] for i in chosen])["work"] for chosen in bins if chosen), total)
    return total


if __name__ == "__main__":
    main()

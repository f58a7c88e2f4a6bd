"""Reward scores of real pairs: packed with the prompt shared, against one conversation at a time.

Both score the same conversations with the same weights and precision, in turn. The
baseline runs each conversation alone, without padding. A third way, padded batches of similar length, is measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rounds import add_rounds, compared, interleaved

from pipelines.core.determinism import unit
from pipelines.core.records import Row
from pipelines.curation.config import RewardConfig

SOURCES = ("alce_human_eval", "auto_j_train", "finegrained_rlhf", "pandalm", "tulu1_human_eval", "vicuna_eval")


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("OPENSELENE_DATA_ROOT"))
    parser.add_argument("--rows", type=int, default=24)
    add_rounds(parser)
    options = parser.parse_args()
    if options.data_root is None:
        sys.exit("set OPENSELENE_DATA_ROOT or --data-root to the folder of the real data")
    print(json.dumps(compare(options.data_root, options.rows, options.rounds)))


def compare(data_root: Path, count: int, rounds: int) -> dict[str, Any]:
    """Sequences per second of the three ways."""
    import torch

    from pipelines.engines.packed.trie import build
    from pipelines.engines.reward.conversations import conversations
    from pipelines.engines.reward.stage import load_reward

    torch.set_num_threads(os.cpu_count() or 1)
    scorer: Any = load_reward(RewardConfig(dtype="float32"))
    rows = real_pairs(data_root, count)
    talks = [talk for row in rows for talk in conversations(row)]
    encoded = {i: scorer.encode(talk) for i, talk in enumerate(talks)}
    distinct = len(build([found.ids for found in encoded.values()]).ids)
    plain = sum(len(found.ids) for found in encoded.values())
    computed = 0
    forward = scorer.model.forward

    def counted(input_ids: torch.Tensor, *places: Any, **packed: Any) -> Any:
        nonlocal computed
        computed += input_ids.numel()
        return forward(input_ids, *places, **packed)

    scorer.model.forward = counted
    ours_scores = [score.reward for score in scorer.score(talks)]
    computed_ours, scorer.model.forward = computed, forward
    ways: dict[str, Callable[[], list[float]]] = {
        "ours": lambda: [score.reward for score in scorer.score(talks)],
        "baseline": lambda: padded(scorer, [[found.ids] for found in encoded.values()]),
        "bucketed": lambda: bucketed(scorer, [found.ids for found in encoded.values()]),
    }

    def rate(name: str) -> float:
        start = time.monotonic()
        scores = ways[name]()
        seconds = time.monotonic() - start
        assert max(abs(a - b) for a, b in zip(scores, ours_scores, strict=True)) < 1e-3, name
        print(f"{name}: {seconds:.1f} s", flush=True)
        return len(talks) / seconds

    found = interleaved({name: partial(rate, name) for name in ways}, rounds)
    return {
        "name": "reward",
        **compared(found["ours"], found["baseline"]),
        "unit": "sequences/s",
        "bucketed_ratio": compared(found["bucketed"], found["baseline"])["ratio"],
        "computed_over_distinct": computed_ours / distinct,
        "tokens_saved_by_sharing": 1 - distinct / plain,
        "tokens_per_sequence": plain / len(talks),
    }


def real_pairs(data_root: Path, count: int) -> list[Row]:
    """Pairwise rows of real sources, by hash."""
    from pipelines.curation.registry import load_source
    from pipelines.datasets.reading import ingest_rows

    found = [
        row
        for name in SOURCES
        for row in ingest_rows(load_source(name), data_root)
        if row["status"] == "ok" and row["task"] == "pairwise" and all(row["responses"])
    ]
    return sorted(found, key=lambda row: unit(0, "perf", row["row_id"]))[:count]


def padded(scorer: Any, batches: list[list[list[int]]]) -> list[float]:
    """Scores of batches of token ids, right-padded; nothing shared."""
    import torch

    from pipelines.engines.reward.armorm import find_gate

    scores: list[float] = []
    with torch.inference_mode():
        for batch in batches:
            width = max(map(len, batch))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in batch])
            last = torch.tensor([len(row) - 1 for row in batch])
            gate = torch.tensor([find_gate(row, scorer.pattern) for row in batch])
            scores += scorer.model(ids, last, gate).score.tolist()
    return scores


def bucketed(scorer: Any, inputs: list[list[int]]) -> list[float]:
    """Scores in padded batches of similar length, in the order of `inputs`."""
    from pipelines.engines.reward.conversations import budget_batches

    batches = budget_batches([len(ids) for ids in inputs], scorer.batch_tokens)
    found = padded(scorer, [[inputs[i] for i in batch] for batch in batches])
    order = [i for batch in batches for i in batch]
    return [score for _, score in sorted(zip(order, found, strict=True))]


if __name__ == "__main__":
    main()

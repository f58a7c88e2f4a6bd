"""Use the judge service from Python: one pair, a critique as it is written, and a batch.

python examples/judge_service.py http://127.0.0.1:8000     # the key, if it needs one, is in OPENSELENE_API_KEY
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from serve.client import Judge, JudgeError, Piece


def show(piece: Piece) -> None:
    """Print a piece of a critique; those of the swapped order would come in between."""
    if piece.order == "given":
        print(piece.text, end="", flush=True)


def lines() -> Iterator[dict[str, Any]]:
    """A batch; lines are read as they are needed, so that there may be any number."""
    for response in ("Oslo.", "Bergen.", "The capital of Norway is Oslo."):
        line = {"id": response, "task": "absolute", "instruction": "Name the capital of Norway.", "response": response}
        yield line | {"rubric": "Is the answer right?", "allowed": ["1", "2", "3", "4", "5"]}


def main(address: str) -> None:
    """Ask the service at `address`."""
    with Judge(address) as judge:
        found = judge.pairwise(
            instruction="Name the capital of Norway.",
            responses=["Oslo.", "Bergen is the capital of Norway."],
            rubric="Which answer is right?",
            both_orders=True,
            on_critique=show,
        )
        result = found.results[0]
        print(f"\nverdict: {result.verdict}, the same in both orders: {result.consistent}")
        for verdict, probability in result.probabilities.items():
            print(f"  {verdict}: {probability:.3f}")
        for line in judge.batch(lines()):
            if line.result:
                print(f"{line.id} {line.result.results[0].expected_score}")
            elif line.error:
                print(f"{line.id} {line.error.code}: {line.error.message}")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
    except JudgeError as exc:
        sys.exit(f"error: {exc}")

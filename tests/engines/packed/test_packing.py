"""Packing: every distinct token once, and every completion's tokens scored where they are predicted."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engines.packed.packing import pack
from pipelines.engines.packed.work import Work

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=5)
ROWS = st.lists(
    st.fixed_dictionaries({"prompt_ids": TOKENS, "chosen_ids": TOKENS, "rejected_ids": TOKENS}), min_size=1, max_size=5
)


def test_a_packed_trie_by_hand() -> None:
    rows = [
        {"prompt_ids": [10, 11, 12], "chosen_ids": [20, 21], "rejected_ids": [20, 30]},
        {"prompt_ids": [10, 13], "chosen_ids": [22], "rejected_ids": [31, 32]},
    ]
    packed = pack(rows)
    assert packed["input_ids"].tolist() == [[10, 11, 12, 20, 21, 30, 13, 22, 31, 32]]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 3, 4, 4, 1, 2, 2, 3]]
    assert packed["sources"].tolist() == [2, 3, 3, 6, 6, 8]
    assert packed["targets"].tolist() == [20, 21, 30, 22, 31, 32]
    assert packed["members"].tolist() == [0, 1, 0, 2, 3, 4, 5]  # the 20 counts in both completions
    assert packed["completions"].tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert packed["prompts"].tolist() == [3, 2]
    assert packed["work"] == Work(tokens=10, scored=6, attended=1 + 2 + 3 + 4 + 5 + 5 + 2 + 3 + 3 + 4)
    assert packed["input_ids"].dtype == torch.int64


@settings(deadline=None)
@given(ROWS)
def test_every_token_of_every_completion_is_predicted_after_the_tokens_before_it(
    rows: list[dict[str, list[int]]],
) -> None:
    packed = pack(rows)
    ids, parents = packed["input_ids"][0].tolist(), packed["tree"].parents.tolist()
    found: dict[int, list[tuple[list[int], int]]] = {}
    for member, completion in zip(packed["members"].tolist(), packed["completions"].tolist(), strict=True):
        place, before = packed["sources"][member].item(), []
        while place >= 0:
            before.append(ids[place])
            place = parents[place]
        found.setdefault(completion, []).append((before[::-1], packed["targets"][member].item()))
    expected = [
        [(row["prompt_ids"] + row[side][:n], row[side][n]) for n in range(len(row[side]))]
        for row in rows
        for side in ("chosen_ids", "rejected_ids")
    ]
    assert [found[completion] for completion in range(2 * len(rows))] == expected

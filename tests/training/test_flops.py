"""FLOP formulas: equal to torch's counter, and to sums made by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoConfig, MixtralConfig

from perf.train_flops import count_shared, count_stock
from perf.tree import count as count_tokens
from perf.tree import planned
from pipelines.engines.packed.work import Shape, Work, pair_work, stretch
from pipelines.training.flops import needed, stock

LENGTHS = [(300, 40, 31), (180, 90, 55)]


@pytest.mark.parametrize("count", [count_shared, count_stock])
def test_the_formula_is_what_torch_counts(count: object, tiny_model: Path) -> None:
    assert callable(count)
    formula, counted = count(str(tiny_model), LENGTHS)
    assert formula == pytest.approx(counted, rel=0.03)


def test_a_shape_by_hand() -> None:
    shape = Shape(layers=2, hidden=8, query=8, key=4, ffn=16, vocab=32)
    layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16  # query; key and value; output; the gated layer
    assert shape.forward(Work(tokens=3, scored=2, attended=6)) == 2 * (3 * 2 * layer + 2 * 8 * 32) + 4 * 2 * 8 * 6


def test_passes_by_hand() -> None:
    shape, work = Shape(layers=2, hidden=8, query=8, key=4, ffn=16, vocab=32), Work(tokens=3, scored=2, attended=6)
    products, attention = shape.products(work), shape.attention(work)
    assert shape.step(work) == 3 * products + 3.5 * attention
    assert shape.model_flops(work) == 3 * (products + attention)


def test_a_shape_whose_heads_are_not_described_has_them_of_equal_width() -> None:
    sizes = {"num_hidden_layers": 2, "hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 5}
    plain = SimpleNamespace(**sizes, vocab_size=7)
    assert Shape.of(plain) == Shape(2, 12, 12, 12, 5, 7)
    assert Shape.of(SimpleNamespace(**sizes, vocab_size=7, head_dim=8, num_key_value_heads=1)) == Shape(
        2, 12, 24, 8, 5, 7
    )
    assert Shape.of(SimpleNamespace(**sizes)) is None


def test_work_adds_up() -> None:
    assert Work(1, 2, 3) + Work(10, 20, 30) == Work(11, 22, 33)


def test_the_pairs_by_hand() -> None:
    # Prompt of 2, chosen 1, rejected 2: keys seen are 1 + 2, then 3, then 3 + 4.
    assert needed(2, 1, 2) == Work(tokens=5, scored=3, attended=13)
    assert pair_work(2, 1, 2) == Work(tokens=3, scored=3, attended=3 + 7)
    # With a first token in common, 2 and 3 tokens take 3 for it, then 4, and 4 + 5.
    assert pair_work(2, 2, 3, shared=1) == Work(tokens=4, scored=4, attended=3 + 4 + 9)
    assert stretch(2, 3) == Work(tokens=3, scored=0, attended=3 + 4 + 5)
    assert stock([(2, 1, 2), (1, 1, 1)]) == Work(tokens=16, scored=16, attended=64)


def test_a_model_that_is_not_dense_has_no_shape(tiny_model: Path) -> None:
    assert Shape.of(AutoConfig.from_pretrained(tiny_model)) == Shape(2, 32, 32, 16, 64, 259)
    assert Shape.of(MixtralConfig()) is None


def test_distinct_tokens_are_counted_in_batches_and_as_planned() -> None:
    pairs = [{"prompt_ids": [7] * 10 + [i], "chosen_ids": [1], "rejected_ids": [2, 3]} for i in range(8)]
    found = count_tokens(pairs)
    assert (found["pairs"], found["two_sequences"], found["pair_shared"]) == (8, 8 * 25, 8 * 14)
    assert found["batch_4"] == pytest.approx(4 * 14 / (10 + 4 * 4)) and found["all"] == pytest.approx(112 / 42)
    assert found["planned_1x8192"] == found["batch_8"] == found["all"] > found["planned_8x8192"] == 1
    assert planned(pairs, 4, 2, 8192).tokens == 2 * 2 * (10 + 2 * 4)

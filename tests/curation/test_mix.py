"""The mixture: formats by hash, completions by template, and the length limit that never cuts."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from tokenizers import AddedToken

from pipelines.core.errors import UserError
from pipelines.curation.config import MixConfig
from pipelines.curation.mix import Pair, check_templates
from pipelines.judging.count_tokens import TokenCounter, find_facts
from pipelines.judging.parse import parse

TEMPLATES = {task: f"{task}_compact" for task in ("pairwise", "absolute", "classification")}


class Words:
    """Tokenizer stand-in that counts words; the real one is used in the integration tests."""

    all_special_ids = (0,)
    eos_token_id = 0
    added_tokens_decoder: ClassVar = {0: AddedToken("<end>", special=True)}
    chat_template = "the same for all"

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [self.encode(text) for text in texts]}

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return " ".join(f"<{m['role']}> {m['content']} <end>" for m in messages)

    def encode(self, text: str, **_: Any) -> list[int]:
        return [0 if word == "<end>" else 1 for word in text.split()]


class PairByWords(Pair):
    def counter(self) -> TokenCounter:
        return TokenCounter(find_facts(WORDS), lambda: WORDS)  # type: ignore


def pair_stage(**config: Any) -> Pair:
    return PairByWords(MixConfig(**{"templates": TEMPLATES, **config}), seed=3)


WORDS = Words()


def row(key: str, **changes: Any) -> dict[str, Any]:
    values = {
        "row_id": key,
        "source": "s",
        "task": "pairwise",
        "instruction": "Name a colour.",
        "context": None,
        "responses": ["red", "dog"],
        "reference": None,
        "rubric": None,
        "allowed": ["A", "B"],
        "verdict": "A",
        "rejected_verdict": "B",
        "chosen_critique": "A names a colour.",
        "rejected_critique": "B is livelier.",
        "status": "ok",
    }
    return values | changes


def test_share_of_critiques_is_close_to_the_config() -> None:
    rows = [row(str(n)) for n in range(2000)]
    pair_stage().apply_batch(rows)
    share = sum(r["format"] == "cot" for r in rows) / len(rows)
    assert 0.66 < share < 0.74


def test_completions_parse_back_to_their_verdicts() -> None:
    rows = [row(str(n)) for n in range(20)]
    pair_stage().apply_batch(rows)
    assert {r["format"] for r in rows} == {"cot", "judgment_only"}
    for r in rows:
        assert parse(r["chosen"], r["allowed"]).verdict == "A"
        assert parse(r["rejected"], r["allowed"]).verdict == "B"
        assert ("names a colour" in r["chosen"]) == (r["format"] == "cot")
        assert ("Reasoning:" in r["prompt"]) == (r["format"] == "cot")


def test_row_that_does_not_fit_is_filtered_not_cut() -> None:
    long = row("x", instruction="word " * 500)
    pair_stage(max_tokens=200).apply_batch([long])
    assert long["status"] == "filtered:too_many_tokens"
    assert long["chosen"].endswith("Result: A")


def test_format_does_not_depend_on_the_rows_beside_it() -> None:
    alone, together = [row(str(n)) for n in range(30)], [row(str(n)) for n in reversed(range(30))]
    for one in alone:
        pair_stage().apply_batch([one])
    pair_stage().apply_batch(together)
    assert {r["row_id"]: r["format"] for r in alone} == {r["row_id"]: r["format"] for r in together}


def test_a_source_has_its_own_template_and_variants_are_chosen_by_hash() -> None:
    variants = ["pairwise_original", "pairwise_simplified"]
    stage = pair_stage(templates={**TEMPLATES, "special": variants})
    rows = [row(str(n), source="special" if n % 2 else "s") for n in range(200)]
    stage.apply_batch(rows)
    assert {r["template"] for r in rows if r["source"] == "s"} == {"pairwise_compact"}
    counts = [sum(r["template"] == name for r in rows) for name in variants]
    assert sum(counts) == 100 and min(counts) > 30


def test_a_source_without_a_template_or_with_an_unknown_one_is_found_before_the_run() -> None:
    check_templates(TEMPLATES, {"s": "pairwise"})
    check_templates({"s": ["pairwise_original", "pairwise_simplified"]}, {"s": "pairwise"})
    with pytest.raises(UserError, match=r"mix\.templates: no template for absolute rows \(name one for .*'s'"):
        check_templates({"pairwise": "pairwise_original"}, {"s": "absolute"})
    with pytest.raises(UserError, match="no template 'pairwise_originel'"):
        check_templates({"pairwise": "pairwise_originel"}, {"s": "pairwise"})

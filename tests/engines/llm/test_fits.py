"""Room for an answer whose verdict comes after the critique."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.engines import tokenizer_facts
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.fits import FitsJudge
from pipelines.judging.templates import load, sample


class Words:
    """Counts words; a stand-in for a tokenizer, with a chat template of two tokens."""

    facts = SimpleNamespace(around=2)

    def texts(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def prompts(self, texts: list[str]) -> list[int]:
        return [2 + count for count in self.texts(texts)]


def test_an_ending_of_its_own_needs_room_beside_the_critique(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_facts, "shared_counter", lambda model: Words())
    row = {**sample("pairwise"), "template": "pairwise_compact", "status": "ok"}
    ending = len(load("pairwise_compact").completion("A").split())

    def needed(format: str, closing: bool) -> int:
        engine = EngineConfig(max_model_len=64)  # less than the prompt's bytes, so that it is counted
        stage = FitsJudge(engine, 40, format, closing=closing)  # type: ignore[arg-type]
        (found,) = stage.needed([row])
        return found

    assert needed("cot", True) == needed("cot", False) + ending
    assert needed("judgment_only", True) == needed("judgment_only", False) - 40 + ending


def test_only_an_ending_changes_what_the_result_depends_on() -> None:
    plain = FitsJudge(EngineConfig(), 40, "cot").depends()
    assert "closing" not in plain
    assert FitsJudge(EngineConfig(), 40, "cot", closing=True).depends() == {**plain, "closing": True}

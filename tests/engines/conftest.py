"""A tiny tokenizer with a chat template and a tiny ArmoRM on it: real classes, random weights."""

from __future__ import annotations

from typing import Any

import pytest

IM = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A fast tokenizer of 256 bytes and two special tokens; the pad token ends a turn, as in SmolLM2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=model,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=SPECIAL,
    )
    fast.chat_template = IM
    return fast


@pytest.fixture(scope="session")
def tiny_config(tokenizer: Any) -> dict[str, Any]:
    """Arguments of a LlamaConfig of 2 layers and ArmoRM's own keys."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": tokenizer.pad_token_id,
        "num_objectives": 5,
        "gating_hidden_dim": 16,
        "gating_n_hidden": 3,
        "gating_temperature": 10,
    }


@pytest.fixture(scope="session")
def tiny_armorm(tiny_config: dict[str, Any]) -> Any:
    """An ArmoRM whose every weight is random, its transform and scale included."""
    import torch
    from transformers import LlamaConfig

    from pipelines.engines.reward.armorm import ArmoRM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ArmoRM(LlamaConfig(**tiny_config)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
    return model


@pytest.fixture
def armorm_folder(tmp_path: Any, tiny_armorm: Any, tokenizer: Any) -> Any:
    """The tiny ArmoRM saved in the Hugging Face layout."""
    from pipelines.engines.reward.armorm import save

    save(tiny_armorm, tokenizer, tmp_path / "armorm")
    return tmp_path / "armorm"

"""Models of other families: scored as if nothing were shared, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from pipelines.core.errors import UserError
from pipelines.engines.packed import backends
from pipelines.engines.packed.choice import Backend
from pipelines.engines.packed.packing import pack
from pipelines.training import scoring
from tests.training.test_shared import equal_separate_sequences, row

ROWS = [row([5, 6, 7, 8], [9, 10], [9, 11, 12]), row([5, 6, 7, 3], [9, 10], [4])]


def model(family: str, attention: Backend) -> Any:
    """A random one of 32 channels and two layers."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    more = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{family}Config")(**sizes, **more, **ids)
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=backends.implementation(attention))
    return scoring.prepare(made.eval(), attention, 7)


@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Mistral", "Phi3", "Gemma", "SmolLM3"])
def test_a_family_is_scored_as_if_nothing_were_shared(family: str) -> None:
    assert equal_separate_sequences(model(family, "split"), ROWS) == 4 + 4 + 3 + 1


def test_a_model_that_keeps_the_tree_from_its_attention_is_refused() -> None:
    """Its layers drop what they are told, so that all sequences of a bin would see each other."""
    with pytest.raises(UserError, match=r"does not tell its attention .*train\.attention: mask"):
        model("StableLm", "split")(pack(ROWS))
    equal_separate_sequences(model("StableLm", "mask"), ROWS)

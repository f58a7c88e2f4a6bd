"""A Llama of 30 thousand weights with a byte tokenizer and a chat template, and pairs for it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_model(folder: Path, seed: int = 0, tied: bool = True, positions: int = 512, head: int = 8) -> Path:
    """Random weights and a tokenizer of 256 bytes and three special tokens; head and embedding may be one matrix.

    vLLM computes attention heads of 32 on a CPU, and none that are smaller.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=4 * head,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def pair_rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs whose right verdict follows from the prompt, so that training has something to learn."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        verdict = rng.choice("AB")
        rows.append(
            {
                "row_id": f"row-{i:04d}",
                "prompt": f"Which is better? {verdict * rng.randint(2, 9)}",
                "chosen": f"Result: {verdict}",
                "rejected": f"Result: {'B' if verdict == 'A' else 'A'}",
                "status": "ok",
            }
        )
    return rows


def write_pairs(folder: Path, rows: list[dict[str, Any]], group: int = 1000) -> Path:
    """Pairs as one parquet file."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet", row_group_size=group)
    return folder

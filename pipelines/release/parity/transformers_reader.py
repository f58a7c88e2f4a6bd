"""transformers in float32: what the other engines are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.engines.models import quiet_transformers, resolve
from pipelines.judging.chat import encode_prompts
from pipelines.release.parity.reader import Weights


class TransformersReader:
    """A model of transformers, one prompt after the other: no padding, so no question depends on another.

    Args:
        model: folder in the Hugging Face layout, or a hub id.
        threads: on a CPU; None for all cores.
    """

    def __init__(self, model: str, threads: int | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if threads:
            torch.set_num_threads(threads)
        source = resolve(model)
        self.tokenizer = AutoTokenizer.from_pretrained(source)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        with quiet_transformers():
            loaded = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        self.model = loaded.to(self.device).eval()

    def encode(self, messages: Sequence[str]) -> list[list[int]]:
        """As `Reader`."""
        return encode_prompts(self.tokenizer, messages)

    def chat(self, messages: Sequence[str]) -> list[list[int]]:
        """As `Reader`, by `apply_chat_template`."""
        return [
            [*self.tokenizer.apply_chat_template(_turn(one), add_generation_prompt=True, return_dict=True)["input_ids"]]
            for one in messages
        ]

    def weigh(self, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Weights:
        """As `Reader`."""
        import torch

        found: Weights = []
        with torch.inference_mode():
            for ids, wanted in zip(prompts, tokens, strict=True):
                given = torch.tensor([list(ids)], device=self.device)
                logits = self.model(given, use_cache=False, logits_to_keep=1).logits[0, -1]
                values = torch.log_softmax(logits.double(), dim=-1)
                found.append({token: float(values[token]) for token in wanted})
        return found


def _turn(message: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": message.strip()}]

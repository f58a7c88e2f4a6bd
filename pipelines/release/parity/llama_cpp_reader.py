"""llama.cpp with one GGUF file, and Ollama's chat template on its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.errors import UserError
from pipelines.engines.llm.verdict_tokens import common
from pipelines.engines.models import resolve
from pipelines.judging.chat_template import asking, control_tokens
from pipelines.release.gguf import quiet_llama
from pipelines.release.parity.reader import Weights, framed


class LlamaCppReader:
    """A model of llama.cpp in this process.

    Args:
        file: the GGUF file.
        model: folder in the Hugging Face layout: its chat template says what stands around a message.
        context: tokens of a prompt.
        threads: on a CPU; None for all cores.
    """

    def __init__(self, file: Path, model: str, context: int, threads: int | None = None) -> None:
        import os

        from llama_cpp import Llama
        from transformers import AutoTokenizer

        quiet_llama()
        tokenizer = AutoTokenizer.from_pretrained(resolve(model))
        self.frame, self.controls = asking(tokenizer), frozenset(control_tokens(tokenizer))
        used = threads or os.cpu_count() or 1
        # A batch as long as the context: a prompt is computed in one go.
        self.llm = Llama(
            str(file), n_ctx=context, n_batch=context, n_ubatch=context, n_threads=used, n_threads_batch=used,
            n_gpu_layers=-1, logits_all=False, verbose=False,
        )  # fmt: skip
        self.context = context

    def tokens(self, text: str, special: bool, *, begin: bool = False) -> list[int]:
        """Ids of a text by llama.cpp's tokenizer.

        Args:
            text: any.
            special: whether control tokens in it are read as such.
            begin: whether the file's own rule for the token that begins a text is followed.
        """
        return list(self.llm.tokenize(text.encode(), add_bos=begin, special=special))

    @property
    def beginning(self) -> str:
        """Text of the tokens that llama.cpp and Ollama put before any text; empty if none."""
        ids = self.tokens("", True, begin=True)
        return self.llm.detokenize(ids, special=True).decode() if ids else ""

    def encode(self, messages: Sequence[str]) -> list[list[int]]:
        """As `Reader`."""
        return [framed(self.tokens, self.frame, message, self.controls) for message in messages]

    def chat(self, messages: Sequence[str]) -> list[list[int]]:
        """As `Reader`, by the chat template in the file, as llama.cpp's server applies it."""
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        metadata: dict[str, str] = self.llm.metadata
        if not (template := metadata.get("tokenizer.chat_template")):
            raise UserError("the file has no chat template", where=str(self.llm.model_path))
        ends = [self.llm.token_eos(), self.llm.token_bos()]
        eos, bos = (self.llm.detokenize([token], special=True).decode() if token >= 0 else "" for token in ends)
        shown: Any = Jinja2ChatFormatter(template=template, eos_token=eos, bos_token=bos)
        found = []
        for message in messages:
            prompt = shown(messages=[{"role": "user", "content": message.strip()}]).prompt
            found.append(self.tokens(prompt, True, begin=not (bos and prompt.startswith(bos))))
        return found

    def rendered(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that Ollama's template has made: it lets llama.cpp put the beginning before them."""
        return [self.tokens(text, True, begin=True) for text in texts]

    def weigh(self, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Weights:
        """As `Reader`."""
        import llama_cpp

        found: Weights = []
        for ids, wanted in zip(prompts, tokens, strict=True):
            if len(ids) > self.context:
                raise UserError(
                    f"a prompt of {len(ids)} tokens", where="evaluation.engine.max_model_len", fix="raise it"
                )
            # What the prompt before begins with too is still there: pairs in both orders share much.
            kept = min(common([ids, self.llm.input_ids[: self.llm.n_tokens].tolist()]), len(ids) - 1)
            self.llm.n_tokens = kept
            self.llm.eval(list(ids[kept:]))
            pointer = llama_cpp.llama_get_logits_ith(self.llm.ctx, -1)
            logits = np.ctypeslib.as_array(pointer, shape=(self.llm.n_vocab(),)).astype(np.float64)
            whole = float(np.logaddexp.reduce(logits))
            found.append({token: float(logits[token]) - whole for token in wanted})
        return found

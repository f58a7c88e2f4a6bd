"""Verdicts enforced inside vLLM: a logits processor for requests that say how their answer must end.

Other requests are not touched. Whether a model would end its turn is decided on the device and read one step later, so
that no step waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from pipelines.engines.llm.verdict_rule import ENDING, Ending, Rule, Spell

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

# Above every logit, and finite: divided by a temperature it still is.
CERTAIN = 1e30


class VerdictProcessor(LogitsProcessor):
    """Confines the rows of a batch whose requests have an `Ending`."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise ValueError for a malformed ending, before the request reaches the engine."""
        found = (sampling_params.extra_args or {}).get(ENDING)
        if found is not None and not isinstance(found, Confined):
            Ending.read(found)

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self.config, self.device = vllm_config.model_config, device
        self.rows: dict[int, Confined] = {}
        self.text: Text | None = None

    def is_argmax_invariant(self) -> bool:
        """It changes what greedy sampling takes."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch: requests that come, leave and change places."""
        if batch_update is not None and (self.rows or any(params.extra_args for _, params, _, _ in batch_update.added)):
            process_dict_updates(self.rows, batch_update, self._confined)

    def _confined(self, params: SamplingParams, prompt: list[int] | None, output: list[int]) -> Confined | None:
        found = (params.extra_args or {}).get(ENDING)
        if found is None:
            return None
        if not isinstance(found, Confined):
            self.text = self.text or Text.of(self.config)
            ending = Ending.read(found)
            ends = sorted({*ending.ends, *params.all_stop_token_ids})
            found = Confined(Rule(ending, output, self.text.speller, self.text.encode), ends)
            # Kept with the request: one that is preempted comes back with it.
            params.extra_args = {**(params.extra_args or {}), ENDING: found}
        found.rule.tokens = output
        return found

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Confine the rows of `logits`, shape (B, V), in place."""
        if not self.rows:
            return logits
        certain: list[tuple[int, int]] = []
        free: list[tuple[int, Confined]] = []
        for row, confined in self.rows.items():
            confined.settle()
            allowed = confined.rule.allowed()
            if allowed is None:
                free.append((row, confined))
            elif len(allowed) == 1:
                certain.append((row, allowed[0]))
            else:
                kept = self._ids(allowed)
                values = logits[row, kept]
                logits[row].fill_(-torch.inf)
                logits[row, kept] = values
        if certain:
            where = self._ids([row for row, _ in certain]), self._ids([token for _, token in certain])
            logits[where] = CERTAIN
        if free:
            self._watch(logits, free)
        return logits

    def _watch(self, logits: torch.Tensor, free: list[tuple[int, Confined]]) -> None:
        """Let the rows be, but where the likeliest token ends the turn, put the label there."""
        rows = self._ids([row for row, _ in free])
        most = max(len(confined.ends) for _, confined in free)
        ends = self._ids([_filled(confined.ends, most) for _, confined in free])
        first = self._ids([confined.rule.label()[0] for _, confined in free])
        likeliest = logits.argmax(-1)[rows] if 2 * len(free) > len(logits) else logits[rows].argmax(-1)
        ending = (likeliest.unsqueeze(1) == ends).any(1)
        logits[rows.unsqueeze(1), ends] = -torch.inf  # nor may sampling end it
        logits[rows, first] = torch.where(ending, CERTAIN, logits[rows, first])
        said = Said(ending)
        for place, (_, confined) in enumerate(free):
            confined.waits = (confined.rule.seen, said, place)

    def _ids(self, ids: Sequence[Any]) -> torch.Tensor:
        tensor = torch.tensor(ids, dtype=torch.int64)
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)


class Confined:
    """A request's rule, and what the device has not said yet.

    Attributes:
        ends: ids that end its turn.
        waits: number of tokens at the last free step, and where the device says whether the label was put there.
    """

    def __init__(self, rule: Rule, ends: list[int]) -> None:
        self.rule, self.ends = rule, ends
        self.waits: tuple[int, Said, int] | None = None

    def settle(self) -> None:
        """Learn whether the last free step put the label there."""
        if self.waits is None:
            return
        (at, said, place), self.waits = self.waits, None
        # Where no token came of that step, as in a part of a long prompt, it is taken again.
        if len(self.rule.tokens) > at and self.rule.at is None and said.read()[place]:
            self.rule.close(at)


class Said:
    """Truth values on their way from the device."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.event, self.known = values, None, list[bool]()
        if values.is_cuda:
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def read(self) -> list[bool]:
        """The values, once they have arrived."""
        if not self.known:
            if self.event is not None:
                self.event.synchronize()
            self.known = self.values.tolist()
        return self.known


class Text:
    """Text of token ids and ids of text, by the engine's tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.known = tokenizer, dict[str, list[int]]()
        self.backend = getattr(tokenizer, "backend_tokenizer", None)

    @classmethod
    def of(cls, config: Any) -> Text:
        """With the tokenizer of a model's config; it is loaded for the first request that needs it."""
        from vllm.tokenizers import cached_tokenizer_from_config

        return cls(cached_tokenizer_from_config(config))

    def encode(self, text: str) -> list[int]:
        """Ids of a short text."""
        if text not in self.known:
            self.known[text] = list(self.tokenizer.encode(text, add_special_tokens=False))
        return self.known[text]

    def speller(self) -> Spell:
        """What turns the ids of an answer, one after another, into its text."""
        return _stream(self.backend) if self.backend is not None else _by_whole(self.tokenizer.decode)


def _stream(backend: Any) -> Spell:
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)

    def spell(token: int) -> str:
        nonlocal stream
        try:
            return stream.step(backend, token) or ""
        except Exception:  # "Invalid prefix encountered": bytes that are no text; vLLM starts anew, too
            stream = DecodeStream(skip_special_tokens=False)
            return stream.step(backend, token) or ""

    return spell


def _by_whole(decode: Callable[[list[int]], str]) -> Spell:
    ids, said = list[int](), ""

    def spell(token: int) -> str:
        nonlocal said
        ids.append(token)
        before, said = said, str(decode(ids))
        return said[len(before) :]

    return spell


def _filled(ends: list[int], length: int) -> list[int]:
    return [*ends, *[ends[-1]] * (length - len(ends))]

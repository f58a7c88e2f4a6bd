"""The head's log-probabilities and gradients against autograd in float64, however it is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipelines.engines import onednn
from pipelines.training import head_logprobs
from pipelines.training.head_logprobs import head_scores

TOKENS, WIDTH, VOCABULARY = 300, 24, 700
# All at once; columns in tiles of 128 with a rest.
CHUNKS = [2**25, 128]
MULTIPLY = [torch.matmul, onednn.multiply]


def inputs(dtype: torch.dtype = torch.float32, bias: bool = False) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        # What 16 bits can hold, so that every test starts from the same numbers.
        made = torch.randn(*shape, generator=generator).bfloat16().to(dtype)
        return made.requires_grad_()

    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    targets[:2] = torch.tensor([0, VOCABULARY - 1])
    return [some(TOKENS, WIDTH), some(VOCABULARY, WIDTH), targets, some(VOCABULARY) if bias else None]


def by_autograd(bias: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Log-probabilities, entropy and hits; and gradients, in float64."""
    hidden, weight, targets, b = inputs(torch.float64, bias)
    everything = torch.nn.functional.linear(hidden, weight, b).log_softmax(-1)
    log_probs = everything.gather(-1, targets[:, None])[:, 0]
    entropy = -(everything.exp() * everything).sum(-1)
    gradients = torch.autograd.grad(of(log_probs), [t for t in (hidden, weight, b) if t is not None])
    return [log_probs, entropy, everything.argmax(-1) == targets], list(gradients)


def of(log_probs: torch.Tensor) -> torch.Tensor:
    """A loss in which every token counts for itself."""
    return (log_probs * torch.linspace(-1, 2, TOKENS, dtype=log_probs.dtype)).sum()


def off(found: torch.Tensor, right: torch.Tensor) -> float:
    """Relative to the largest."""
    return float((found.double() - right).abs().max() / right.abs().max())


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("chunk", CHUNKS, ids=["at once", "in chunks"])
@pytest.mark.parametrize("multiply", MULTIPLY, ids=["torch", "onednn"])
def test_log_probabilities_and_gradients_are_those_of_autograd(multiply: Any, chunk: int, bias: bool) -> None:
    hidden, weight, targets, b = inputs(bias=bias)
    scores = head_scores(hidden, weight, targets, b, chunk, multiply)
    right, gradients = by_autograd(bias)
    assert scores.log_probs.dtype == scores.entropy.dtype == torch.float32
    torch.testing.assert_close(scores.log_probs.double(), right[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(scores.entropy.double(), right[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(scores.hits, right[2])
    found = torch.autograd.grad(of(scores.log_probs), [t for t in (hidden, weight, b) if t is not None])
    assert [off(ours, theirs) < 1e-5 for ours, theirs in zip(found, gradients, strict=True)] == [True] * len(gradients)


@pytest.mark.parametrize("chunk", CHUNKS, ids=["at once", "in chunks"])
@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16 tensors", "autocast"])
def test_bfloat16_products_are_not_rounded(autocast: bool, chunk: int) -> None:
    """The inputs are rounded, the logits are not; gradients are of rounded factors, summed in float32."""
    hidden, weight, targets, _ = inputs(torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        scores = head_scores(hidden, weight, targets, None, chunk)
    right, gradients = by_autograd(bias=False)
    assert scores.log_probs.dtype == torch.float32
    torch.testing.assert_close(scores.log_probs.double(), right[0], rtol=1e-5, atol=0)
    found = torch.autograd.grad(of(scores.log_probs), [hidden, weight])
    assert [each.dtype for each in found] == [hidden.dtype, weight.dtype]
    assert max(off(ours, theirs) for ours, theirs in zip(found, gradients, strict=True)) < 4e-3


def test_large_logits_cost_no_digits() -> None:
    """Numbers around 100 are 8e-6 apart in float32; a log-probability must not be the difference of two such."""
    weight = torch.tensor([[100.0], [92.0]])
    scores = head_scores(torch.ones(1, 1), weight, torch.tensor([0]))
    right = torch.tensor([100.0, 92.0], dtype=torch.float64).log_softmax(0)[0]
    assert scores.log_probs.item() == pytest.approx(right.item(), abs=2e-7)


def test_the_likeliest_token_is_found_in_whichever_chunk_it_is() -> None:
    weight = torch.zeros(384, 1)
    weight[[5, 130, 300], 0] = torch.tensor([1.0, 3.0, 2.0])
    targets = torch.tensor([5, 130, 300])
    scores = head_scores(torch.ones(3, 1), weight, targets, None, 128)
    assert scores.hits.tolist() == [False, True, False]
    right = weight[:, 0].double().log_softmax(0)
    torch.testing.assert_close(scores.log_probs.double(), right[targets], rtol=1e-6, atol=0)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, targets, _ = inputs()
    scores = head_scores(hidden, weight.detach(), targets, None, 128)
    of(scores.log_probs).backward()
    assert off(hidden.grad, by_autograd(bias=False)[1][0]) < 1e-5


def test_no_more_than_a_chunk_of_logits_exists_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    whole = head_logprobs.logits

    def noted(*given: torch.Tensor) -> torch.Tensor:
        made = whole(*given)
        sizes.append(tuple(made.shape))
        return made

    monkeypatch.setattr(head_logprobs, "logits", noted)
    hidden, weight, targets, _ = inputs()
    scores = head_scores(hidden, weight, targets, None, 256 * VOCABULARY)
    of(scores.log_probs).backward()
    # Columns in multiples of 128, forward and backward.
    assert sizes == [(300, 512), (300, 188)] * 2


def test_what_fits_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    whole = head_logprobs.logits
    monkeypatch.setattr(head_logprobs, "logits", lambda *given: calls.append(1) or whole(*given))
    hidden, weight, targets, _ = inputs()
    of(head_scores(hidden, weight, targets).log_probs).backward()
    assert calls == [1]

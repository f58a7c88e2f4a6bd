"""The loss of a pair, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pipelines.training.loss import Normalization, PairLoss, Step, pair_loss

POLICY = torch.tensor([[-6.0, -9.0], [-4.0, -2.0]])
REFERENCE = torch.tensor([[-7.0, -8.0], [-4.0, -2.0]])
LENGTHS, PROMPTS = torch.tensor([[3.0, 5.0], [2.0, 2.0]]), torch.tensor([9, 2])


def loss(normalization: Normalization = "sequence", smoothing: float = 0.0, step: Step | None = None) -> PairLoss:
    step = step or Step(pairs=2, chosen_tokens=5)
    return pair_loss(POLICY, REFERENCE, LENGTHS, PROMPTS, step, 0.5, smoothing, normalization)


def test_dpo_by_hand() -> None:
    # Rewards of the first pair: 0.5·(−6+7) and 0.5·(−9+8); of the second both 0.
    assert loss().dpo.tolist() == pytest.approx([math.log(1 + math.exp(-1.0)), math.log(2)])
    assert loss().chosen_rewards.tolist() == [0.5, 0.0] and loss().rejected_rewards.tolist() == [-0.5, 0.0]


def test_label_smoothing_by_hand() -> None:
    right, wrong = math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(1.0))
    assert loss(smoothing=0.1).dpo[0].item() == pytest.approx(0.9 * right + 0.1 * wrong)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [("sequence", [2.0, 2.0]), ("sequence_with_prompt", [0.5, 1.0]), ("token", [2.4, 1.6])],
)
def test_nll_by_hand(normalization: Normalization, expected: list[float]) -> None:
    assert loss(normalization).nll.tolist() == pytest.approx(expected)


def test_token_normalisation_is_the_mean_over_all_chosen_tokens_of_the_step() -> None:
    assert loss("token").nll.mean().item() == pytest.approx((6 + 4) / (3 + 2))


def test_gradients_reach_the_policy_alone() -> None:
    policy = POLICY.clone().requires_grad_()
    terms = pair_loss(policy, REFERENCE, LENGTHS, PROMPTS, Step(2, 5), 0.5, 0.0, "sequence")
    (gradient,) = torch.autograd.grad(terms.dpo.sum(), policy)
    slope = 0.5 * torch.sigmoid(torch.tensor([-1.0, 0.0]))  # β·σ(−margin)
    torch.testing.assert_close(gradient, torch.stack([-slope, slope], 1))

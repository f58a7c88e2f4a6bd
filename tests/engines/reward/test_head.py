"""Fitting the small head: each step against an outside oracle, and the whole on the embedded backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.curation.config import RewardConfig
from pipelines.engines.reward import head as reward_head
from pipelines.engines.reward.conversations import Conversation
from pipelines.engines.reward.stage import load_reward, resolve_reward


def test_the_sample_is_small_and_its_held_out_pairs_are_unseen() -> None:
    sample = reward_head.choose_sample()
    assert sample.fitted <= 150
    assert {k for pair in sample.pairs for k in pair} < set(range(sample.fitted))
    held_out = {k for pair in sample.held_out for k in pair}
    assert held_out == set(range(sample.fitted, len(sample.responses)))
    assert len(sample.held_out) >= 10
    texts = [r.conversation for r in sample.responses]
    seen = {c.user for c in texts[: sample.fitted] if c.response}
    assert not seen & {c.user for c in texts[sample.fitted :]}


def test_targets_follow_the_labels() -> None:
    sample = reward_head.choose_sample()
    for better, worse in [*sample.pairs, *sample.held_out]:
        assert sample.responses[better].targets["sample-preference"] == 1
        assert sample.responses[worse].targets["sample-preference"] == 0
        assert sample.responses[better].conversation.user == sample.responses[worse].conversation.user
    targets = [r.targets for r in sample.responses]
    assert {t["sample-score"] for t in targets if "sample-score" in t} == {0, 0.25, 0.5, 0.75, 1}
    assert {t["sample-verdict"] for t in targets if "sample-verdict" in t} == {0, 1}
    assert all(10 ** t["sample-verbosity"] >= 1 for t in targets)


def test_each_objective_is_ridge_regression_on_its_own_rows() -> None:
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(40, 6))
    names = reward_head.OBJECTIVES
    targets = [{names[k % 3]: float(k % 5), "sample-verbosity": float(k)} for k in range(40)]
    weights = reward_head.fit_rewards(hidden, targets)
    for k, name in enumerate(names):
        rows = [i for i, t in enumerate(targets) if name in t]
        x, y = hidden[rows], np.array([targets[i][name] for i in rows])
        normal = np.linalg.solve(x.T @ x + reward_head.RIDGE * np.eye(6), x.T @ y)
        np.testing.assert_allclose(weights[k], normal, rtol=1e-8, atol=1e-10)


def test_the_transform_leaves_no_correlation_with_verbosity() -> None:
    generator = np.random.default_rng(0)
    verbosity = generator.normal(size=200)
    rewards = generator.normal(size=(200, 4)) + np.outer(verbosity, [0.8, -1.5, 0.1, 0])
    rewards[:, reward_head.VERBOSITY] = verbosity
    transform = reward_head.remove_verbosity(rewards)
    adjusted = rewards @ transform
    for k in range(3):
        assert abs(np.corrcoef(rewards[:, k], verbosity)[0, 1]) > 0.05
        assert np.corrcoef(adjusted[:, k], verbosity)[0, 1] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(adjusted[:, reward_head.VERBOSITY], 0, atol=1e-12)
    rest = [k for k in range(4) if k != reward_head.VERBOSITY]
    np.testing.assert_array_equal(transform[np.ix_(rest, range(4))], np.eye(4)[rest])


def test_gating_learns_which_objective_tells_the_pairs_apart(tiny_armorm: Any) -> None:
    import copy

    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(60, 32))
    prompt = np.repeat(generator.normal(size=(1, 32)), 60, axis=0)  # one prompt: one right weighting
    model = copy.deepcopy(tiny_armorm)
    with torch.no_grad():
        model.reward_transform_matrix.copy_(torch.eye(5))
        model.gating.logit_scale.fill_(1.0)
        rewards = model.regression_layer(torch.from_numpy(hidden).float())[:, 2].tolist()
    pairs = [(k, k + 1) if rewards[k] > rewards[k + 1] else (k + 1, k) for k in range(0, 60, 2)]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = reward_head.fit_gating(model, hidden, prompt, pairs)
    assert losses[-1] < 0.9 * losses[0]
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if key.startswith("gating.")}
    with torch.no_grad():
        gating = model.gating(torch.from_numpy(prompt).float())
    assert gating[0].argmax() == 2


def test_features_of_a_padded_batch_are_those_of_each_text_alone(tiny_armorm: Any) -> None:
    pattern = [5, 6]
    inputs = [[1, 5, 6, 2], [1, 3, 5, 6, 4, 7, 8], [5, 6]]
    together = reward_head.features(tiny_armorm, inputs, pattern)
    for k, ids in enumerate(inputs):
        with torch.no_grad():
            states = tiny_armorm.model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()
        np.testing.assert_allclose(together[0][k], states[-1], atol=1e-5)
        np.testing.assert_allclose(together[1][k], states[ids.index(5)], atol=1e-5)


def test_a_new_head_starts_from_known_values(tmp_path: Path, tiny_config: dict[str, Any]) -> None:
    """What the backbone's checkpoint lacks must not be left as memory was found."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**tiny_config, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    model = reward_head._new_head(str(tmp_path), [1, 2])
    assert model.gating.logit_scale.tolist() == [1.0]
    assert torch.equal(model.reward_transform_matrix, torch.eye(len(reward_head.OBJECTIVES)))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert model.config.gate_pattern == [1, 2]


def test_pair_accuracy_counts_a_tie_as_wrong() -> None:
    scores = np.array([1.0, 0.0, 2.0, 2.0])
    assert reward_head.pair_accuracy(scores, [(0, 1), (1, 0), (2, 3), (2, 0)]) == 0.5


@pytest.mark.integration
def test_the_embedded_head_tells_right_answers_from_gibberish() -> None:
    config = RewardConfig()
    folder = Path(resolve_reward(config))
    fit = json.loads((folder / "fit.json").read_text())
    assert fit["pair_accuracy"] >= 0.95
    assert fit["held_out_pair_accuracy"] >= 0.8
    assert fit["bradley_terry_loss"]["last"] < fit["bradley_terry_loss"]["first"]
    model = load_reward(config)
    assert model.objectives == reward_head.OBJECTIVES
    good, gibberish, other = model.score(
        [
            Conversation("What is the capital of Austria?", "The capital of Austria is Vienna."),
            Conversation("What is the capital of Austria?", "qlx rgwb wnzc"),
            Conversation("Name a primary colour.", "Blue is a primary colour."),
        ]
    )
    assert good.reward > gibberish.reward + 0.1
    assert other.reward > gibberish.reward
    assert resolve_reward(config) == str(folder)

"""ArmoRM: keys, arithmetic against a plain reference, padding, gate position, the published known answer."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pipelines.core.errors import UserError
from pipelines.engines.reward import armorm

HEAD_KEYS = {
    "regression_layer.weight",
    "reward_transform_matrix",
    "gating.logit_scale",
    *(f"gating.layers.{k}.{part}" for k in range(4) for part in ("weight", "bias")),
}


def reference(model: Any, ids: list[int], last: int, gate: int) -> tuple[float, list[float], list[float]]:
    """Score, rewards and gating of one conversation in plain Python, from the state dict and the recipe."""
    weights = {key: value.double() for key, value in model.state_dict().items()}
    states = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0].double()

    def linear(matrix: Any, x: list[float]) -> list[float]:
        return [sum(float(w) * v for w, v in zip(row, x, strict=True)) for row in matrix]

    rewards = linear(weights["regression_layer.weight"], states[last].tolist())
    x = states[gate].tolist()
    for k in range(4):
        x = linear(weights[f"gating.layers.{k}.weight"], x)
        x = [value + float(bias) for value, bias in zip(x, weights[f"gating.layers.{k}.bias"], strict=True)]
        if k < 3:
            x = [max(value, 0.0) for value in x]
    powers = [math.exp(value / 10) for value in x]
    gating = [float(weights["gating.logit_scale"][0]) * power / sum(powers) for power in powers]
    transform = weights["reward_transform_matrix"].tolist()
    adjusted = [sum(rewards[i] * transform[i][j] for i in range(len(rewards))) for j in range(len(transform[0]))]
    return sum(g * r for g, r in zip(gating, adjusted, strict=True)), rewards, gating


def conversations(count: int = 6) -> list[tuple[list[int], int]]:
    """Random ids of different lengths, and a gate position in each."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for k in range(count):
        length = 5 + 4 * k
        made.append((torch.randint(0, 256, (length,), generator=generator).tolist(), k % (length - 1)))
    return made


def batched(model: Any, rows: list[tuple[list[int], int]], pad_id: int = 0) -> armorm.Output:
    width = max(len(ids) for ids, _ in rows)
    with torch.no_grad():
        return model(
            torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _ in rows]),
            torch.tensor([len(ids) - 1 for ids, _ in rows]),
            torch.tensor([gate for _, gate in rows]),
        )


def test_state_dict_keys_are_the_published_ones(tiny_armorm: Any) -> None:
    keys = set(tiny_armorm.state_dict())
    assert {key for key in keys if not key.startswith("model.")} == HEAD_KEYS
    assert "model.layers.1.self_attn.q_proj.weight" in keys
    assert tiny_armorm.gating.logit_scale.shape == (1,)


def test_sizes_default_to_the_published_ones(tiny_config: dict[str, Any]) -> None:
    from transformers import LlamaConfig

    llama = {key: value for key, value in tiny_config.items() if not key.startswith(("gating", "num_obj"))}
    with torch.device("meta"):
        model = armorm.ArmoRM(LlamaConfig(**llama))
    shapes = [tuple(layer.weight.shape) for layer in model.gating.layers]
    assert shapes == [(1024, 32), (1024, 1024), (1024, 1024), (19, 1024)]
    assert model.gating.temperature == 10
    assert model.regression_layer.bias is None
    assert len(model.objectives) == 19
    assert (model.objectives[4], model.objectives[11]) == ("helpsteer-verbosity", "prometheus-score")
    assert model.objectives[14] == "code-complexity"


def test_scores_equal_a_plain_reference(tiny_armorm: Any) -> None:
    rows = conversations()
    found = batched(tiny_armorm, rows)
    for k, (ids, gate) in enumerate(rows):
        score, rewards, gating = reference(tiny_armorm, ids, len(ids) - 1, gate)
        assert float(found.score[k]) == pytest.approx(score, abs=1e-5)
        assert found.rewards[k].tolist() == pytest.approx(rewards, abs=1e-5)
        assert found.gating[k].tolist() == pytest.approx(gating, abs=1e-5)


def test_padding_changes_nothing(tiny_armorm: Any) -> None:
    rows = conversations()
    together = batched(tiny_armorm, rows)
    other = batched(tiny_armorm, rows, pad_id=255)
    for k, row in enumerate(rows):
        alone = batched(tiny_armorm, [row])
        torch.testing.assert_close(together.score[k], alone.score[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.rewards[k], alone.rewards[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.score, other.score, atol=1e-5, rtol=0)


def test_coefficients_weigh_the_untransformed_rewards(tiny_armorm: Any) -> None:
    found = batched(tiny_armorm, conversations())
    coefficients = tiny_armorm.coefficients(found.gating)
    torch.testing.assert_close((coefficients * found.rewards).sum(-1), found.score)


def test_saved_and_loaded_scores_alike(tiny_armorm: Any, armorm_folder: Path) -> None:
    loaded = armorm.load(str(armorm_folder))
    assert not loaded.training
    assert torch.equal(batched(loaded, conversations()).score, batched(tiny_armorm, conversations()).score)
    assert armorm.load(str(armorm_folder), "bfloat16").regression_layer.weight.dtype == torch.bfloat16


def test_the_layout_of_the_published_checkpoint_loads(armorm_folder: Path, tiny_armorm: Any) -> None:
    """Its config names remote code, which must stay unread; its weights come in shards."""
    config = json.loads((armorm_folder / "config.json").read_text())
    config["architectures"] = ["LlamaForRewardModelWithGating"]
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"}
    (armorm_folder / "config.json").write_text(json.dumps(config))
    (armorm_folder / "modeling_custom.py").write_text("raise SystemExit('remote code was run')\n")
    weights = load_file(armorm_folder / "model.safetensors")
    (armorm_folder / "model.safetensors").unlink()
    shards: list[dict[str, Any]] = [{}, {}]
    for k, (key, value) in enumerate(sorted(weights.items())):
        shards[k % 2][key] = value
    names = [f"model-0000{k + 1}-of-00002.safetensors" for k in range(2)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, armorm_folder / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: names[k] for k in range(2) for key in shards[k]}}
    (armorm_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = armorm.load(str(armorm_folder))
    assert torch.equal(batched(loaded, conversations()).score, batched(tiny_armorm, conversations()).score)


def rewrite(folder: Path, change: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("key", [*sorted(HEAD_KEYS), "model.norm.weight", "model.embed_tokens.weight"])
def test_a_missing_key_is_an_error_that_names_it(armorm_folder: Path, key: str) -> None:
    rewrite(armorm_folder, lambda weights: weights.pop(key))
    with pytest.raises(UserError, match=f"missing: {key}") as caught:
        armorm.load(str(armorm_folder))
    assert caught.value.where == str(armorm_folder)


@pytest.mark.parametrize("key", ["score.weight", "gating.layers.4.weight", "model.layers.2.mlp.up_proj.weight"])
def test_an_unexpected_key_is_an_error_that_names_it(armorm_folder: Path, key: str) -> None:
    rewrite(armorm_folder, lambda weights: weights.update({key: torch.zeros(3)}))
    with pytest.raises(UserError, match=f"unexpected: {key}"):
        armorm.load(str(armorm_folder))


def test_a_key_of_another_shape_is_an_error_that_names_it(armorm_folder: Path) -> None:
    rewrite(armorm_folder, lambda weights: weights.update({"reward_transform_matrix": torch.eye(19)}))
    with pytest.raises(UserError, match="another shape: reward_transform_matrix"):
        armorm.load(str(armorm_folder))


def test_a_checkpoint_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a reward model that can be loaded"):
        armorm.load(str(tmp_path))


def test_a_broken_file_is_a_users_mistake(armorm_folder: Path) -> None:
    (armorm_folder / "model.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(UserError, match="not a reward model that can be loaded"):
        armorm.load(str(armorm_folder))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([7, 1, 2, 3, 8, 1, 2, 3, 9], 5),  # the last of two
        ([1, 2, 3], 0),
        ([1, 1, 2, 3], 1),
        ([1, 2, 9, 3], None),
        ([2, 3], None),
        ([], None),
    ],
)
def test_the_gate_is_the_start_of_the_last_occurrence(ids: list[int], expected: int | None) -> None:
    assert armorm.find_gate(ids, [1, 2, 3]) == expected


@given(st.lists(st.integers(0, 2), max_size=30), st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_the_gate_is_what_a_search_in_text_finds(ids: list[int], pattern: list[int]) -> None:
    # One character a token: str.rfind is the oracle.
    found = "".join(map(str, ids)).rfind("".join(map(str, pattern)))
    assert armorm.find_gate(ids, pattern) == (None if found < 0 else found)


def test_the_published_checkpoint_gives_its_model_cards_answer() -> None:
    folder = os.environ.get("OPENSELENE_ARMORM_PATH")
    if not folder:
        pytest.skip("set OPENSELENE_ARMORM_PATH to a folder with RLHFlow/ArmoRM-Llama3-8B-v0.1")
    from pipelines.curation.config import RewardConfig
    from pipelines.engines.reward.armorm import find_gate
    from pipelines.engines.reward.conversations import Conversation
    from pipelines.engines.reward.stage import load_reward

    scorer: Any = load_reward(RewardConfig(model=folder, dtype="bfloat16"))
    assert scorer.pattern == [128009, 128006, 78191, 128007, 271]
    answer = "Nicely, Beautifully, Handsome, Stunning, Wonderful, Gorgeous, Pretty, Stunning, Elegant"
    conversation = Conversation('What are some synonyms for the word "beautiful"?', answer)
    (score,) = scorer.score([conversation])
    expected = [2.781, 2.859, 3.484, 1.385, 1.297]
    assert [5 * reward - 0.5 for reward in score.objectives[:5]] == pytest.approx(expected, abs=0.03)
    ids = scorer.encode(conversation).ids
    device = scorer.device
    with torch.no_grad():
        gate = torch.tensor([find_gate(ids, scorer.pattern)], device=device)
        found = scorer.model(torch.tensor([ids], device=device), torch.tensor([len(ids) - 1], device=device), gate)
    coefficients = dict(zip(scorer.objectives, scorer.model.coefficients(found.gating)[0].tolist(), strict=True))
    assert coefficients["code-complexity"] == pytest.approx(0.199, abs=0.03)
    assert coefficients["helpsteer-verbosity"] == pytest.approx(-0.109, abs=0.03)
    assert coefficients["ultrafeedback-instruction_following"] == pytest.approx(0.079, abs=0.03)

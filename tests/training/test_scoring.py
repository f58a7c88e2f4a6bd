"""Log-probabilities, entropy and hits of a head small enough to check by hand; how a model is prepared."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.core.errors import UserError
from pipelines.engines import onednn
from pipelines.engines.packed.choice import Backend
from pipelines.engines.packed.packing import pack
from pipelines.engines.packed.work import Work
from pipelines.training import scoring
from pipelines.training.diverged import Diverged, FiniteTrainer
from pipelines.training.dpo import score_completions_only, work_of
from pipelines.training.flops import needed

# Logits are the logarithms of these, so that the probabilities are 1/4, 1/4, 1/2 and 1/8, 1/2, 3/8.
WEIGHTS = torch.tensor([[1.0, 1.0, 2.0], [1.0, 4.0, 3.0]])
PAIRS = [
    {"prompt_ids": [0, 1], "chosen_ids": [2, 1], "rejected_ids": [0]},
    {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [1, 1]},
]


def head() -> torch.nn.Linear:
    made = torch.nn.Linear(2, 3, bias=False)
    made.weight.data = WEIGHTS.log().T.contiguous()
    return made


@pytest.mark.parametrize("chunk", [3, 2**25], ids=["a token at a time", "at once"])
def test_token_scores_by_hand(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK", chunk)
    log_probs, entropy, hits = scoring.token_scores(head(), torch.eye(2), torch.tensor([2, 0]))
    assert log_probs.tolist() == pytest.approx([math.log(1 / 2), math.log(1 / 8)])
    bits = [1.5, 1 / 8 * 3 + 1 / 2 * 1 + 3 / 8 * math.log2(8 / 3)]
    assert entropy.tolist() == pytest.approx([math.log(2) * b for b in bits])
    assert hits.tolist() == [True, False]


def test_a_bias_counts_and_without_targets_the_head_is_as_ever() -> None:
    biased = torch.nn.Linear(2, 3)
    biased.weight.data, biased.bias.data = WEIGHTS.log().T.contiguous(), torch.tensor([0.0, 0.0, math.log(3.0)])
    log_probs, _, _ = scoring.token_scores(biased, torch.eye(2), torch.tensor([2, 0]))
    assert log_probs.tolist() == pytest.approx([math.log(6 / 8), math.log(1 / 14)])
    torch.testing.assert_close(scoring.token_scores(biased, torch.eye(2)), biased(torch.eye(2)))


@pytest.mark.parametrize(("logits", "expected"), [(3 * 300, [256, 144]), (3 * 100, [100, 100, 100, 100])])
def test_chunks_are_whole_tiles(logits: int, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, chunk_scores = list[int](), scoring.chunk_scores
    monkeypatch.setattr(scoring, "CHUNK", logits)
    monkeypatch.setattr(scoring, "chunk_scores", lambda h, *more: (seen.append(len(h)), chunk_scores(h, *more))[1])
    with torch.autocast("cpu", torch.bfloat16):  # in float32 `head_scores` cuts by itself
        scoring.token_scores(head(), torch.ones(400, 2), torch.zeros(400, dtype=torch.long))
    assert seen == expected


class Model:
    """A causal language model whose hidden state is the first axis after a 0, else the second."""

    base_model_prefix = "backbone"

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def backbone(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool, **how: Any) -> Any:
        self.asked = how
        return SimpleNamespace(last_hidden_state=torch.eye(2)[(input_ids != 0).long()])

    def get_output_embeddings(self) -> Any:
        return partial(scoring.token_scores, head())


@pytest.mark.parametrize("wrapped", [False, True], ids=["itself", "in adapters"])
@pytest.mark.parametrize("attention", ["split", "varlen", "flex", "mask"])
def test_completions_are_summed_by_hand(attention: Backend, wrapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = SimpleNamespace(calls=1)
    monkeypatch.setattr(scoring.tree_attention, "Layout", lambda tree, device, by_onednn: layout)
    monkeypatch.setattr(scoring.backends.varlen, "Rows", lambda tree, device: layout)
    monkeypatch.setattr(scoring.backends.flex, "block_mask", lambda tree, device: "block_mask")
    monkeypatch.setattr(scoring.tree_attention, "dense_mask", lambda tree, device: "dense_mask")
    inner = Model()
    model = SimpleNamespace(get_base_model=lambda: inner) if wrapped else inner
    scores = scoring.score(model, attention, pack(PAIRS))
    # Of the first pair 2 and then 1 are predicted from a 1 and a 2, and 0 from the 1: 3/8, 1/2; 1/8.
    # Of the second 2 from the 1: 3/8; 1 from the 1, and 1 from that 1: 1/2, 1/2.
    expected = [math.log(3 / 8) + math.log(1 / 2), math.log(1 / 8), math.log(3 / 8), 2 * math.log(1 / 2)]
    assert scores.log_probs.tolist() == pytest.approx(expected)
    assert scores.lengths.tolist() == [2.0, 1.0, 1.0, 2.0]
    assert scores.hits.item() == pytest.approx(1 / 3)  # of three chosen tokens the 1
    assert (
        inner.asked
        == {
            "split": {"tree": layout},
            "varlen": {"tree": layout},
            "flex": {"attention_mask": "block_mask"},
            "mask": {"attention_mask": "dense_mask"},
        }[attention]
    )


def test_a_token_of_both_completions_counts_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring.tree_attention, "dense_mask", lambda tree, device: None)
    packed = pack([{"prompt_ids": [0, 1], "chosen_ids": [0, 2], "rejected_ids": [0, 1]}])
    scores = scoring.score(Model(), "mask", packed)
    # Both have the 0 after the 1, of 1/8, and then a 2 of 1/2 or a 1 of 1/4.
    assert scores.log_probs.tolist() == pytest.approx([math.log(1 / 16), math.log(1 / 32)])
    bits = 1.5 + 1 / 8 * 3 + 1 / 2 * 1 + 3 / 8 * math.log2(8 / 3)
    assert scores.entropy.item() == pytest.approx(math.log(2) * bits / 2)
    assert scores.hits.item() == 1 / 2
    assert len(packed["sources"]) == 3


@pytest.mark.parametrize(("value", "refused"), [(None, False), (1, False), (1.0, False), (0.5, True), (0, True)])
def test_scaled_logits_are_refused_and_a_scale_of_one_is_none(value: float | None, refused: bool) -> None:
    model = SimpleNamespace(
        config=SimpleNamespace(logit_scale=value),
        named_parameters=list,
        modules=list,
        get_output_embeddings=head,
    )
    if refused:
        with pytest.raises(UserError, match="logit_scale"):
            scoring.prepare(model, "mask", 10)
    else:
        assert scoring.prepare(model, "mask", 10) is model


def test_all_of_a_layer_but_attention_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, dynamic: compiled.append(type(self).__name__))
    layer = torch.nn.Module()
    for name, part in (("self_attn", torch.nn.Linear(1, 1)), ("mlp", torch.nn.ReLU()), ("norm", torch.nn.Identity())):
        layer.add_module(name, part)
    scoring.compile_layers(SimpleNamespace(base_model_prefix="model", model=SimpleNamespace(layers=[layer])))
    assert compiled == ["ReLU", "Identity"]


def test_what_trl_is_given_needs_each_prompt_once() -> None:
    # Two pairs as TRL pads them: chosen, chosen, rejected, rejected.
    mask = [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    completion = [[0, 0, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 1]]
    work = work_of({"attention_mask": torch.tensor(mask), "completion_mask": torch.tensor(completion)})
    assert work == needed(2, 2, 1) + needed(2, 1, 3) + Work()


def test_trl_is_told_to_score_completions_only_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = SimpleNamespace(_use_triton=lambda device: False)
    monkeypatch.setattr("pipelines.training.dpo.trl_utils", utils)
    score_completions_only()
    assert utils._use_triton("cpu")
    del utils._use_triton
    score_completions_only()
    assert not hasattr(utils, "_use_triton")


@pytest.mark.parametrize(("norm", "stops"), [(None, False), (2.0, False), (math.nan, True), (math.inf, True)])
def test_training_stops_where_the_gradient_is_no_number(
    norm: float | None, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.Trainer._get_grad_norm", lambda self, model, grad_norm: grad_norm)
    trainer = object.__new__(FiniteTrainer)
    monkeypatch.setattr("pipelines.training.sharded.ShardedTrainer._save_checkpoint", lambda self, model: None)
    trainer.state = SimpleNamespace(global_step=4)
    assert trainer._get_grad_norm(None, norm) is norm
    if stops:
        with pytest.raises(Diverged, match=r"the gradient norm became (nan|inf) at step 5"):
            trainer._save_checkpoint(None)  # nothing wrong is ever saved
    else:
        trainer._save_checkpoint(None)
        trainer.settle()


@pytest.mark.parametrize("kept", [False, True], ids=["where it was written", "in the run's storage"])
def test_the_best_checkpoint_is_looked_for_where_it_is(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(
        "transformers.Trainer._load_best_model", lambda self: loaded.append(self.state.best_model_checkpoint)
    )
    trainer = object.__new__(FiniteTrainer)
    trainer.is_deepspeed_enabled = True  # whose checkpoints the library reads
    trainer.state = SimpleNamespace(best_model_checkpoint="local", best_global_step=6)
    if kept:
        trainer.stored = "storage/checkpoint-{}".format
    trainer._load_best_model()
    assert loaded == ["storage/checkpoint-6" if kept else "local"]


def test_a_model_that_is_prepared_again_keeps_its_products() -> None:
    """Each trial of an ablation does so; the head's own forward pass is then another already."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=11, **sizes))
    onednn.use(model)
    for _ in range(2):
        scoring.prepare(model, "split", 64)
        assert model.forward.keywords["by_onednn"]
        assert model.lm_head.forward.keywords["multiply"] is onednn.multiply

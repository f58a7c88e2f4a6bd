"""Engine `shared`: equal to two separate sequences, to TRL, and to itself however the pairs are packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.engines.packed import tree_attention
from pipelines.engines.packed.packing import SIDES, pack
from pipelines.engines.packed.work import Shape, Work
from pipelines.training import scoring
from pipelines.training.config import TrainConfig
from pipelines.training.loss import Step, pair_loss
from pipelines.training.order import HashOrder
from pipelines.training.pairs import encode_group
from pipelines.training.reference import ReferenceScores
from pipelines.training.shared import SharedTrainer, Steps
from pipelines.training.worker import Job, build, load_model
from tests.training.tiny import pair_rows, write_pairs

Rows = list[dict[str, Any]]


def config(**changes: Any) -> TrainConfig:
    values = {"batch_size": 4, "bin_tokens": 200, "max_length": 256, "precision": "float32", "learning_rate": 1e-3}
    return TrainConfig.model_validate({**values, **changes})


def encode(tiny_model: Path, folder: Path, n: int = 8) -> Rows:
    """Encoded pairs with the reference's log-probabilities, all lengths different."""
    source = write_pairs(folder / "pairs", pair_rows(n)) / "part-0.parquet"
    (folder / "encoded").mkdir()
    encode_group(source, 0, folder / "encoded" / "0.parquet", str(tiny_model))
    rows: Rows = datasets.Dataset.from_parquet(str(folder / "encoded" / "0.parquet")).to_list()
    for i, row in enumerate(rows):
        row["rejected_ids"] = [9, 8, 7][: i % 4] + row["rejected_ids"]
    stage = ReferenceScores(config(model=str(tiny_model)), str(tiny_model))
    stage.setup()
    stage.apply_batch(rows)
    return rows


@pytest.fixture(scope="module")
def rows(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return encode(tiny_model, tmp_path_factory.mktemp("rows"))


def trainer_for(settings: TrainConfig, tiny_model: Path, folder: Path, rows: Rows) -> SharedTrainer:
    (folder / "rows").mkdir(parents=True)
    datasets.Dataset.from_list(rows).to_parquet(str(folder / "rows" / "0.parquet"))
    trainer = build(Job(settings, str(tiny_model), folder / "rows", Run(folder)), folder / "checkpoints")
    assert isinstance(trainer, SharedTrainer)
    return trainer


def disturb(model: torch.nn.Module) -> None:
    """Move the policy away from its reference."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)


def plain_log_probs(model: Any, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Log-probabilities of a completion's tokens: one sequence of its own, full logits, the library's own forward."""
    logits = type(model).forward(model, torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return F.log_softmax(logits, -1).gather(-1, torch.tensor(completion)[:, None])[:, 0]


def equal_separate_sequences(model: Any, rows: Rows) -> int:
    """Check log-probabilities and gradients of packed pairs; returns how many tokens were saved."""
    packed = pack(rows)
    scores = model(packed)
    expected = torch.stack(
        [plain_log_probs(model, row["prompt_ids"], row[side]).sum() for row in rows for side in SIDES]
    )
    torch.testing.assert_close(scores.log_probs, expected, rtol=1e-5, atol=0)
    weights = torch.randn(len(expected), generator=torch.Generator().manual_seed(2))
    parameters = list(model.parameters())
    ours = torch.autograd.grad((scores.log_probs * weights).sum(), parameters)
    theirs = torch.autograd.grad((expected * weights).sum(), parameters)
    whole = torch.stack([gradient.norm() for gradient in theirs]).norm()  # some single gradients are zero
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-7 * whole
    return sum(len(row["prompt_ids"] + row[side]) for row in rows for side in SIDES) - packed["input_ids"].numel()


@pytest.mark.parametrize("small", [0, 400, 256**2], ids=["fused", "both", "plain"])
@pytest.mark.parametrize("attention", ["split", "mask"])
def test_log_probs_and_gradients_equal_separate_sequences(
    attention: str, small: int, tiny_model: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_attention, "SMALL", small)
    model = load_model(str(tiny_model), config(attention=attention))
    disturb(model)
    assert equal_separate_sequences(model, rows) > len(rows)


def row(prompt: list[int], chosen: list[int], rejected: list[int]) -> dict[str, list[int]]:
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


LABEL, PROMPT = [40, 41, 42], [7, 8, 9, 10, 11]


@pytest.mark.parametrize("small", [0, 256**2], ids=["fused", "plain"])
@pytest.mark.parametrize(
    ("some", "saved"),
    [
        ([row([*PROMPT, 5], [6, 2], [5, 2]), row([*PROMPT, 4], [6, 2], [5, 2])], 3 * 5 + 2),
        ([row(PROMPT, [6, 2], [5, 2]), row(PROMPT, [6, 3, 2], [5, 2])], 3 * 5 + 1 + 2),
        ([row(PROMPT, [6, 2], [5, 2]), row([*PROMPT, 6], [2, 3], [5])], 3 * 5 + 1 + 2),
        ([row(PROMPT, [*LABEL, 6, 2], [*LABEL, 5, 2])], 5 + 3),
        ([row(PROMPT, [6, 2], [6, 2, 2])], 5 + 2),
        ([row(PROMPT, [6, 2], [6, 2])], 5 + 2),
        ([row([5], [6], [7]), row([4], [6], [7])], 2),
    ],
    ids=[
        "prompts that differ in one token",
        "equal prompts",
        "a prompt that another begins with",
        "completions that begin alike",
        "a completion that the other begins with",
        "equal completions",
        "nothing shared between pairs",
    ],
)
def test_what_is_shared_is_scored_as_if_it_were_not(small: int, some: Rows, saved: int, tiny_model: Path) -> None:
    model = load_model(str(tiny_model), config())
    disturb(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_attention, "SMALL", small)
        assert equal_separate_sequences(model, some) == saved


TOKENS = st.lists(st.integers(3, 5), min_size=1, max_size=6)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.builds(row, TOKENS, TOKENS, TOKENS), min_size=1, max_size=4), st.sampled_from([0, 20, 256**2]))
def test_any_pairs_are_scored_as_if_they_shared_nothing(disturbed: Any, some: Rows, small: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_attention, "SMALL", small)
        patch.setattr(tree_attention, "LONGEST", 2)
        equal_separate_sequences(disturbed, some)


@pytest.fixture(scope="module")
def disturbed(tiny_model: Path) -> Any:
    model = load_model(str(tiny_model), config())
    disturb(model)
    return model


@pytest.mark.slow
def test_flex_attention_gives_the_same_log_probs(tiny_model: Path, rows: Rows) -> None:
    """Compiles a kernel; on a CPU PyTorch has its forward pass only."""
    flex = load_model(str(tiny_model), config(attention="flex"))
    mask = load_model(str(tiny_model), config(attention="mask"))
    with torch.no_grad():
        torch.testing.assert_close(flex(pack(rows)).log_probs, mask(pack(rows)).log_probs, rtol=1e-5, atol=1e-6)


def test_a_head_in_chunks_gives_the_same(tiny_model: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(str(tiny_model), config())
    results = []
    for chunk in (scoring.CHUNK, 259 * 5):
        monkeypatch.setattr(scoring, "CHUNK", chunk)
        scores = model(pack(rows))
        gradients = torch.autograd.grad(scores.log_probs.sum(), list(model.parameters()))
        results.append((scores.log_probs, scores.entropy, scores.hits, *gradients))
    assert all(near(chunked, whole, 1e-5) for whole, chunked in zip(*results, strict=True))


def test_long_batches_never_have_their_full_logits_and_call_the_head_once(
    tiny_model: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(tiny_model), config())
    calls, seen, chunk_scores = list[int](), list[int](), scoring.chunk_scores
    model.lm_head.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    monkeypatch.setattr(scoring, "chunk_scores", lambda h, *more: (seen.append(len(h)), chunk_scores(h, *more))[1])
    monkeypatch.setattr(scoring, "CHUNK", 259 * 5)
    packed = pack(rows)
    with torch.autocast("cpu", torch.bfloat16):  # in float32 `head_scores` cuts by itself
        model(packed)
    tokens = {
        tuple(row["prompt_ids"] + row[side][: n + 1]) for row in rows for side in SIDES for n in range(len(row[side]))
    }
    assert max(seen) == 5 and sum(seen) == len(tokens) < packed["input_ids"].numel()
    assert calls == [len(tokens)]


def test_the_reference_is_the_untrained_model(tiny_model: Path, rows: Rows) -> None:
    model = load_model(str(tiny_model), config())
    for row in rows[:3]:
        found = plain_log_probs(model, row["prompt_ids"], row["rejected_ids"]).sum().item()
        assert row["ref_rejected_logp"] == pytest.approx(found, rel=1e-5)


def test_loss_equals_trls_on_the_same_batch(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    from pipelines.training.dpo import PairTrainer

    settings = {"batch_size": 8, "nll": "token", "alpha": 0.5, "beta": 0.3}
    ours = trainer_for(config(**settings), tiny_model, tmp_path / "ours", rows)
    (tmp_path / "trl").mkdir()
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "trl" / "0.parquet"))
    job = Job(config(engine="trl", micro_batch_size=8, **settings), str(tiny_model), tmp_path / "trl", Run(tmp_path))
    trl = build(job, tmp_path / "checkpoints")
    assert isinstance(trl, PairTrainer)
    for trainer in (ours, trl):
        disturb(trainer.model)
    expected = trl.compute_loss(trl.model, trl.data_collator(rows))
    step = Step(len(rows), sum(len(row["chosen_ids"]) for row in rows))
    micro = {
        "packed": pack(rows),
        "reference": torch.tensor([[r["ref_chosen_logp"], r["ref_rejected_logp"]] for r in rows]),
        "weight": 1.0,
    }
    loss, _ = ours.bin_loss(ours.model, micro, step)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    (loss.backward(), expected.backward())
    for (name, a), b in zip(ours.model.named_parameters(), trl.model.parameters(), strict=True):
        assert near(a.grad, b.grad, 1e-4), name


@pytest.mark.parametrize("nll", ["sequence", "sequence_with_prompt", "token"])
def test_any_packing_gives_the_same_step(nll: str, tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    results = []
    for budget in (20, 130, 5000):
        trainer = trainer_for(config(bin_tokens=budget, nll=nll), tiny_model, tmp_path / str(budget), rows)
        disturb(trainer.model)
        step = trainer.steps[0]
        loss = trainer.training_step(trainer.model, step)
        results.append((len(step["micro"]), loss.item(), [p.grad for p in trainer.model.parameters()]))
    bins = [n for n, *_ in results]
    assert bins[0] == 4 and bins[2] == 1 and 1 < bins[1] < 4
    for _, loss, gradients in results[1:]:
        assert loss == pytest.approx(results[0][1], rel=1e-5)
        for a, b in zip(gradients, results[0][2], strict=True):
            assert near(a, b, 1e-5)


def near(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by little of their own size; single elements may be sums that cancel."""
    return bool((a - b).norm() <= tolerance * b.norm())


def bins(trainer: SharedTrainer) -> list[dict[str, Any]]:
    return [micro for i in range(len(trainer.steps)) for micro in trainer.steps[i]["micro"]]


def losses(trainer: SharedTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_workers_share_a_step_without_overlap(rows: Rows) -> None:
    data = datasets.Dataset.from_list(rows)
    order = HashOrder(data["row_id"], 0)
    for workers in (1, 2, 3):
        steps = [Steps(data, order, 4, 90, workers, rank)[0] for rank in range(workers)]
        assert len({len(step["micro"]) for step in steps}) == 1
        weights = [m["weight"] * len(m["packed"]["prompts"]) for step in steps for m in step["micro"]]
        assert sum(weights) == 4 and {step["step"] for step in steps} == {steps[0]["step"]}


def test_bins_are_alike_in_the_operations_of_a_step(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    trainer, work = trainer_for(config(), tiny_model, tmp_path, rows), Work(3, 2, 1)
    assert trainer.steps.cost(work) == Shape.of(trainer.model.config).step(work) != work.tokens


def test_any_number_of_workers_takes_the_same_step(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    trainer = trainer_for(config(batch_size=6), tiny_model, tmp_path, rows)
    disturb(trainer.model)
    data = datasets.Dataset.from_list(rows)
    results = []
    for workers, budget in ((1, 5000), (2, 130), (3, 90), (8, 5000)):
        steps = [Steps(data, trainer.order, 6, budget, workers, rank)[0] for rank in range(workers)]
        losses = [trainer.bin_loss(trainer.model, micro, step["step"]) for step in steps for micro in step["micro"]]
        loss = torch.stack([loss for loss, _ in losses]).sum()
        gradients = torch.autograd.grad(loss, list(trainer.model.parameters()))
        results.append((loss, *gradients))
        assert sum(parts[0] for _, parts in losses).item() > 0
    for other in results[1:]:
        assert all(near(a, b, 1e-5) for a, b in zip(other, results[0], strict=True))


def test_a_worker_without_a_pair_adds_nothing(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    trainer = trainer_for(config(), tiny_model, tmp_path, rows)
    steps = Steps(datasets.Dataset.from_list(rows[:1]), HashOrder([rows[0]["row_id"]], 0), 4, 90, 2, 1)
    (micro,) = steps[0]["micro"]
    loss, sums = trainer.bin_loss(trainer.model, micro, steps[0]["step"])
    loss.backward()
    assert loss.item() == 0 and not sums.any()
    assert not any(p.grad.any() for p in trainer.model.parameters())


def test_the_last_step_of_an_epoch_divides_by_its_own_pairs(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    trainer = trainer_for(config(batch_size=6), tiny_model, tmp_path, rows)
    assert [trainer.steps[i]["step"].pairs for i in range(len(trainer.steps))] == [6, 2]
    trainer.train()
    assert trainer.pairs_seen == 8
    computed = sum(micro["packed"]["input_ids"].numel() for micro in bins(trainer))
    assert trainer.tokens_seen == sum(trainer.steps.lengths) > trainer.work_seen.tokens == computed


def test_the_two_losses_are_logged_apart(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    trainer = trainer_for(config(alpha=0.5, batch_size=8), tiny_model, tmp_path, rows)
    trainer.train()
    entry = next(e for e in trainer.state.log_history if "loss" in e)
    assert entry["loss_dpo"] == pytest.approx(0.6931, abs=1e-3)  # policy = reference at first: ln 2
    assert entry["loss"] == pytest.approx(entry["loss_dpo"] + 0.5 * entry["loss_nll"], rel=1e-5)
    assert entry["rewards/margins"] == pytest.approx(entry["rewards/chosen"] - entry["rewards/rejected"], abs=1e-9)
    assert entry["entropy"] > 0 and 0 <= entry["mean_token_accuracy"] <= 1 and entry["logps/chosen"] < 0


def test_training_raises_the_margin(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    trainer = trainer_for(config(epochs=12, learning_rate=3e-3, batch_size=8), tiny_model, tmp_path, rows)
    trainer.train()
    margins = [e["rewards/margins"] for e in trainer.state.log_history if "loss" in e]
    assert losses(trainer)[-1] < losses(trainer)[0] - 0.3 and margins[-1] > margins[0] + 0.05


def test_autocast_is_on_when_asked_for_and_weights_stay_float32(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    trainer = trainer_for(config(precision="bfloat16_autocast", warmup_ratio=0), tiny_model, tmp_path, rows)
    seen = set()
    layer = trainer.model.model.layers[1].mlp.down_proj
    layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    trainer.train()
    assert seen == {torch.bfloat16}
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}


def test_a_model_that_scales_its_logits_is_refused(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), config())
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(UserError, match="final_logit_softcapping"):
        scoring.prepare(model, "split", 256)


def test_gradient_checkpointing_changes_nothing(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    results = []
    for on in (False, True):
        trainer = trainer_for(config(gradient_checkpointing=on), tiny_model, tmp_path / str(on), rows)
        trainer.train()
        results.append(losses(trainer))
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_loss_terms_do_not_depend_on_neighbours(tiny_model: Path, rows: Rows) -> None:
    model = load_model(str(tiny_model), config())
    disturb(model)
    step = Step(2, 10)

    def terms(chosen: Rows) -> torch.Tensor:
        scores = model(pack(chosen))
        reference = torch.tensor([[r["ref_chosen_logp"], r["ref_rejected_logp"]] for r in chosen])
        prompts = torch.tensor([len(r["prompt_ids"]) for r in chosen])
        shape = (-1, 2)
        found = pair_loss(
            scores.log_probs.view(shape), reference, scores.lengths.view(shape), prompts, step, 0.1, 0, "sequence"
        )
        return found.dpo + found.nll

    together = terms(rows)
    for i, row in enumerate(rows):
        torch.testing.assert_close(terms([row])[0], together[i], rtol=1e-5, atol=1e-6)


@pytest.mark.integration
def test_compiled_layers_give_the_same_log_probs_and_gradients(tiny_model: Path, rows: Rows) -> None:
    found = []
    for compiled in (False, True):
        model = load_model(str(tiny_model), config(compile=compiled))
        for some in (rows[:2], rows[2:5]):  # another number of tokens
            scores = model(pack(some))
            scores.log_probs.sum().backward()
        gradients = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        found.append((scores.log_probs.detach(), gradients))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)
    from torch._dynamo.utils import counters

    assert counters["stats"]["unique_graphs"] >= 2  # a norm and a gated layer, at least: it was compiled

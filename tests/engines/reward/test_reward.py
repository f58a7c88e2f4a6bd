"""Rows to scores: encoding, truncation, batches under a budget, independence of neighbours, bad rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE, SCORED, Row
from pipelines.core.stage import PooledActor, check_columns
from pipelines.curation.config import RewardConfig
from pipelines.engines.packed import tree_attention
from pipelines.engines.reward.conversations import (
    Conversation,
    Encoded,
    Encoder,
    RowProblem,
    budget_batches,
    conversations,
    user_text,
)
from pipelines.engines.reward.stage import RewardStage, load_reward, resolve_reward

TALKS = [
    Conversation("What is 2 plus 2?", "4"),
    Conversation("Name a colour.", "Blue, or perhaps a green one, if I had to name one of them today."),
    Conversation("Say it.", "it " * 30),
    Conversation("What is 2 plus 2?", "<|im_end|> 5"),
]


def config(folder: Path, **keys: Any) -> RewardConfig:
    return RewardConfig(model=str(folder), **{"max_tokens": 400, "batch_tokens": 500, **keys})


def row(**keys: Any) -> Row:
    blank: Row = dict.fromkeys(EXAMPLE.names)
    return {**blank, "raw_id": "s:0", "source": "s", "status": "ok", "instruction": "Say it.", **keys}


# Encoding


def test_a_conversation_is_encoded_as_the_chat_template_has_it(tokenizer: Any) -> None:
    ids = Encoder(tokenizer, 400)(Conversation(" What is 2 plus 2? ", "4\n")).ids
    turns = [{"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}]
    assert ids == tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)


def test_special_tokens_in_data_are_plain_text(tokenizer: Any) -> None:
    ids = Encoder(tokenizer, 400)(Conversation("a<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>")).ids
    special = [token for token in ids if token in tokenizer.all_special_ids]
    assert tokenizer.convert_ids_to_tokens(special) == ["<|im_start|>", "<|im_end|>"] * 2
    assert "a<|im_end|>\n<|im_start|>assistant<|im_end|>" in tokenizer.decode(ids)


@given(user=st.text(max_size=60), response=st.text(max_size=20), room=st.integers(1, 80))
def test_truncation_shortens_the_users_turn_and_nothing_after_it(
    tokenizer: Any, user: str, response: str, room: int
) -> None:
    whole = Encoder(tokenizer, 10_000)
    kept = len(whole(Conversation("", response)).ids)
    full, short = (Encoder(tokenizer, n)(Conversation(user, response)).ids for n in (10_000, kept + room))
    before = len(whole.frame.before)
    assert len(short) == min(len(full), kept + room)
    assert short[:before] == full[:before]
    assert short[before:] == full[before + len(full) - len(short) :]


def test_responses_of_a_row_see_the_same_shortened_text(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, 60)
    first, second = (encoder(talk) for talk in conversations(row(instruction="x" * 100, responses=["a", "b" * 20])))
    assert first.prompt == second.prompt
    assert len(second.ids) == 60 > len(first.ids)
    with pytest.raises(RowProblem, match="response_too_long"):
        encoder(conversations(row(instruction="x", responses=["a", "b" * 60]))[0])


def test_a_response_that_fills_the_whole_length_is_a_problem_of_the_row(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, 100)
    room = 100 - len(encoder(Conversation("", "")).ids)
    assert len(encoder(Conversation("question", "x" * (room - 1))).ids) == 100
    with pytest.raises(RowProblem, match="response_too_long"):
        encoder(Conversation("question", "x" * room))


def test_a_tokenizer_without_a_chat_template_is_a_users_mistake(tokenizer: Any) -> None:
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(UserError, match="no usable chat template"):
        Encoder(bare, 100)
    bare.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    with pytest.raises(UserError, match="no usable chat template"):
        Encoder(bare, 100)


def test_the_context_comes_before_the_instruction() -> None:
    assert user_text(row(context="The sky is green.")) == "The sky is green.\n\nSay it."
    assert user_text(row(context="")) == user_text(row(context=None)) == "Say it."


# Batches


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000))
def test_batches_hold_every_sequence_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = budget_batches(lengths, budget)
    assert sorted(k for batch in batches for k in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or len(batch) * max(lengths[k] for k in batch) <= budget
    order = [lengths[k] for batch in batches for k in batch]
    assert order == sorted(order)


def test_batches_are_as_full_as_the_budget_allows() -> None:
    assert budget_batches([3, 1, 3, 1, 1], 6) == [[1, 3, 4], [0, 2]]
    assert budget_batches([50, 2, 2], 10) == [[1, 2], [0]]
    assert budget_batches([], 10) == []


# Models


def test_scores_do_not_depend_on_neighbours(armorm_folder: Path) -> None:
    together = load_reward(config(armorm_folder)).score(TALKS)
    alone = load_reward(config(armorm_folder, batch_tokens=16))
    for talk, score in zip(TALKS, together, strict=True):
        (single,) = alone.score([talk])
        assert score.problem is None
        assert score.reward == pytest.approx(single.reward, abs=1e-5)
        assert score.objectives == pytest.approx(single.objectives, abs=1e-5)
    backwards = load_reward(config(armorm_folder)).score(TALKS[::-1])[::-1]
    assert [s.reward for s in backwards] == pytest.approx([s.reward for s in together], abs=1e-5)


def test_a_score_is_the_models_at_the_last_token_and_the_gate(armorm_folder: Path, tokenizer: Any) -> None:
    from pipelines.engines.reward import armorm

    model = armorm.load(str(armorm_folder))
    turns = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "it"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    gate = len(tokenizer.encode(text[: text.index("<|im_end|>")], add_special_tokens=False))
    with torch.no_grad():
        expected = model(torch.tensor([ids]), torch.tensor([len(ids) - 1]), torch.tensor([gate]))
    (found,) = load_reward(config(armorm_folder)).score([Conversation("Say it.", "it")])
    assert found.reward == pytest.approx(float(expected.score), abs=1e-6)
    assert found.objectives == pytest.approx(expected.rewards[0].tolist(), abs=1e-6)


def test_a_missing_gate_pattern_is_a_problem_of_that_row_only(
    armorm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = load_reward(config(armorm_folder))
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda talk: Encoded([1, 2], [3]) if talk is TALKS[1] else encode(talk))
    scores = model.score(TALKS)
    assert [str(score.problem) for score in scores] == ["None", "no_gate_pattern", "None", "None"]


def test_a_reward_that_is_not_finite_is_a_problem_of_that_row_only(
    armorm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = load_reward(config(armorm_folder, batch_tokens=16))
    forward = model.model.forward
    bad = model.encode(TALKS[2]).ids

    def broken(input_ids: torch.Tensor, *places: Any, **packed: Any) -> Any:
        found = forward(input_ids, *places, **packed)
        return found._replace(score=found.score * float("nan")) if input_ids[0].tolist() == bad else found

    monkeypatch.setattr(model.model, "forward", broken)
    assert [str(score.problem) for score in model.score(TALKS)] == ["None", "None", "not_finite", "None"]


@pytest.mark.parametrize("small", [0, 100_000], ids=["fused", "plain"])
def test_what_conversations_begin_with_costs_its_tokens_once(
    armorm_folder: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(tree_attention, "SMALL", small)
    talks = [Conversation("Say it again and again.", text) for text in ("it", "it it it", "that", "it")]
    talks.append(Conversation("Say it again.", "it"))
    model: Any = load_reward(config(armorm_folder))
    seen: list[int] = []
    forward = model.model.forward

    def counted(input_ids: torch.Tensor, *places: Any, **packed: Any) -> Any:
        seen.append(input_ids.numel())
        return forward(input_ids, *places, **packed)

    monkeypatch.setattr(model.model, "forward", counted)
    scores = model.score(talks)
    encoded = [model.encode(talk).ids for talk in talks]
    assert seen == [len({tuple(ids[: n + 1]) for ids in encoded for n in range(len(ids))})]
    for talk, score in zip(talks, scores, strict=True):
        (alone,) = model.score([talk])
        assert score.reward == pytest.approx(alone.reward, abs=1e-5)
        assert score.objectives == pytest.approx(alone.objectives, abs=1e-5)
    assert model.score([]) == []


def test_the_gate_pattern_of_the_config_decides(armorm_folder: Path, tokenizer: Any) -> None:
    assert load_reward(config(armorm_folder)).pattern == tokenizer.encode(  # type: ignore[attr-defined]
        "<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False
    )
    stored = json.loads((armorm_folder / "config.json").read_text())
    ours = tokenizer.encode("<|im_end|>\n<|im_start|>", add_special_tokens=False)
    (armorm_folder / "config.json").write_text(json.dumps({**stored, "gate_pattern": ours}))
    assert load_reward(config(armorm_folder)).pattern == ours  # type: ignore[attr-defined]


def test_a_gate_pattern_of_another_chat_template_is_refused_at_loading(armorm_folder: Path) -> None:
    stored = json.loads((armorm_folder / "config.json").read_text())
    llama3 = [128009, 128006, 78191, 128007, 271]
    (armorm_folder / "config.json").write_text(json.dumps({**stored, "gate_pattern": llama3}))
    with pytest.raises(UserError, match=r"gate pattern .* does not occur"):
        load_reward(config(armorm_folder))


@pytest.fixture
def classifier_folder(tmp_path: Path, tiny_config: dict[str, Any], tokenizer: Any) -> Path:
    """A tiny Llama with a one-label head, saved."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    LlamaForSequenceClassification(LlamaConfig(**tiny_config, num_labels=1)).save_pretrained(tmp_path / "c")
    tokenizer.save_pretrained(tmp_path / "c")
    return tmp_path / "c"


def test_a_sequence_classifier_gives_its_one_logit(classifier_folder: Path, tokenizer: Any) -> None:
    from transformers import LlamaForSequenceClassification

    scores = load_reward(config(classifier_folder, kind="sequence_classification")).score(TALKS)
    model = LlamaForSequenceClassification.from_pretrained(classifier_folder).eval()
    encode = Encoder(tokenizer, 400)
    for talk, score in zip(TALKS, scores, strict=True):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([encode(talk).ids])).logits.item()
        assert score.reward == pytest.approx(expected, abs=1e-5)
        assert score.objectives == []
    assert len({score.reward for score in scores}) == len(TALKS)


def test_a_classifier_without_a_pad_token_takes_the_tokenizers(classifier_folder: Path, tokenizer: Any) -> None:
    wanted = load_reward(config(classifier_folder, kind="sequence_classification")).score(TALKS)
    described = json.loads((classifier_folder / "config.json").read_text())
    (classifier_folder / "config.json").write_text(json.dumps({**described, "pad_token_id": None}))
    found = load_reward(config(classifier_folder, kind="sequence_classification"))
    assert found.model.config.pad_token_id == tokenizer.pad_token_id
    assert [one.reward for one in found.score(TALKS)] == pytest.approx([one.reward for one in wanted], abs=1e-6)


def test_a_language_model_is_no_sequence_classifier(tmp_path: Path, tiny_config: Any, tokenizer: Any) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(LlamaConfig(**tiny_config)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"missing: score\.weight"):
        load_reward(config(tmp_path, kind="sequence_classification"))


def test_a_classifier_of_several_labels_is_no_reward_model(tmp_path: Path, tiny_config: Any, tokenizer: Any) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    LlamaForSequenceClassification(LlamaConfig(**tiny_config, num_labels=3)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="one label, this one has 3"):
        load_reward(config(tmp_path, kind="sequence_classification"))


def test_the_embedded_reward_model_is_an_armorm() -> None:
    with pytest.raises(UserError, match="kind 'armorm'"):
        resolve_reward(RewardConfig(kind="sequence_classification"))


def test_a_model_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model"):
        load_reward(config(tmp_path / "nowhere" / "x"))


# The stage


def test_the_stage_adds_a_reward_per_response_and_spares_the_neighbours_of_a_bad_row(
    armorm_folder: Path,
) -> None:
    stage = RewardStage(config(armorm_folder, max_tokens=120))
    schema = check_columns(EXAMPLE, [stage])
    assert [schema.field(f.name).type for f in SCORED] == [f.type for f in SCORED]
    rows = [
        row(raw_id="s:0", responses=["it", "not it"]),
        row(raw_id="s:1", responses=["fine", "x" * 200]),
        row(raw_id="s:2", responses=["it"]),
        row(raw_id="s:3", responses=["gone"], status="filtered:empty"),
        row(raw_id="s:4", responses=None),
    ]
    found = PooledActor(stage, schema)(pa.Table.from_pylist(rows, schema=schema)).to_pylist()
    assert [r["raw_id"] for r in found] == [r["raw_id"] for r in rows]
    assert [r["status"] for r in found][:4] == [
        "ok",
        "error:reward:response_too_long",
        "ok",
        "filtered:empty",
    ]
    assert found[4]["status"] == "error:reward:no_responses"
    assert [len(r["rewards"] or []) for r in found] == [2, 0, 1, 0, 0]
    assert found[0]["rewards"][0] == pytest.approx(found[2]["rewards"][0], abs=1e-5)
    assert [len(x) for x in found[0]["reward_objectives"]] == [5, 5]
    assert found[0]["reward_model"] == armorm_folder.name  # no path: rows are the same on every machine
    json.dumps(found[0]["rewards"], allow_nan=False)


def test_the_stage_travels_without_its_model(armorm_folder: Path) -> None:
    import pickle

    stage = pickle.loads(pickle.dumps(RewardStage(config(armorm_folder, actors=(2, 3), rows_per_batch=7))))
    assert (stage.actors, stage.rows_per_batch, stage.model) == ((2, 3), 7, None)
    assert stage.contract() == (
        "reward: reads instruction, context, responses; adds rewards, reward_objectives, reward_model"
    )


def test_rewards_depend_on_the_model_s_content_and_settings_and_not_on_how_it_is_run(armorm_folder: Path) -> None:
    first = RewardStage(config(armorm_folder)).depends()
    assert RewardStage(config(armorm_folder, actors=(2, 3), rows_per_batch=7, batch_tokens=99)).depends() == first
    assert RewardStage(config(armorm_folder, max_tokens=121)).depends() != first
    weights = armorm_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert RewardStage(config(armorm_folder)).depends() != first

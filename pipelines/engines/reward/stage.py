"""Reward models over rows: one score per response, in forward passes under a token budget (§2.3)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import SCORED, Row, failure
from pipelines.core.stage import PooledStage
from pipelines.engines import counts, models
from pipelines.engines.config import RewardModelConfig
from pipelines.engines.packed.planning import Item, plan_bins, tokens_of
from pipelines.engines.packed.trie import build
from pipelines.engines.packed.work import Shape, stretch
from pipelines.engines.reward.conversations import (
    Conversation,
    Encoded,
    Encoder,
    RowProblem,
    budget_batches,
    conversations,
)

if TYPE_CHECKING:
    import torch

    from pipelines.engines.packed.choice import Backend
    from pipelines.engines.reward.armorm import ArmoRM


@dataclass(frozen=True)
class Score:
    """A reward model's score of one conversation.

    Attributes:
        reward: the scalar score.
        objectives: the rewards it is made of, ordered as `RewardModel.objectives`; empty if it has none.
        problem: why there is no score, if there is none.
    """

    reward: float = math.nan
    objectives: list[float] = field(default_factory=list)
    problem: RowFailure | None = None


class RewardModel(Protocol):
    """What the stage needs of a reward model.

    Attributes:
        name: recorded in rows; the same on every machine.
        objectives: names of the objectives; empty if the model gives one number only.
    """

    name: str
    objectives: tuple[str, ...]

    def score(self, conversations: Sequence[Conversation]) -> list[Score]:
        """One score per conversation, in their order, each independent of its neighbours."""


class BatchedModel(ABC):
    """Scores many conversations at once, in forward passes under a token budget."""

    name: str
    objectives: tuple[str, ...] = ()

    def __init__(self, model: Any, tokenizer: Any, config: RewardModelConfig, name: str) -> None:
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.name, self.batch_tokens = model.eval().to(self.device), name, config.batch_tokens
        self.encode = Encoder(tokenizer, config.max_tokens, where=name)

    def score(self, conversations: Sequence[Conversation]) -> list[Score]:
        """One score per conversation, in their order."""
        import torch

        scores: list[Score] = [Score()] * len(conversations)
        encoded: dict[int, Encoded] = {}
        for index, conversation in enumerate(conversations):
            try:
                encoded[index] = self.check(self.encode(conversation))
            except RowFailure as problem:
                scores[index] = Score(problem=problem)
        with torch.inference_mode():
            for index, score in self.forward(encoded):
                scores[index] = score if math.isfinite(score.reward) else Score(problem=RowProblem("not_finite"))
        return scores

    def check(self, encoded: Encoded) -> Encoded:
        """The conversation, if the model can score it.

        Raises:
            RowProblem: it cannot.
        """
        return encoded

    @abstractmethod
    def forward(self, encoded: dict[int, Encoded]) -> Iterator[tuple[int, Score]]:
        """The score of every conversation, under its key."""


class ArmoScorer(BatchedModel):
    """ArmoRM; the gate pattern is the config's `gate_pattern`, else the chat template's own.

    Conversations are packed into one trie without padding, so that what several of them begin with is computed once, as
    in training.
    """

    def __init__(self, model: ArmoRM, tokenizer: Any, config: RewardModelConfig, name: str, attention: Backend) -> None:
        from pipelines.engines.reward.armorm import find_gate

        super().__init__(model, tokenizer, config, name)
        self.attention = attention
        self.objectives, shape = model.objectives, Shape.of(model.config)
        self.cost = shape.forward if shape else tokens_of
        self.pattern = list(getattr(model.config, "gate_pattern", None) or self.encode.frame.between)
        if find_gate(self.encode.frame.between, self.pattern) is None:
            raise UserError(
                f"the gate pattern {self.pattern} does not occur in the tokenizer's chat template",
                where=name,
                fix="set gate_pattern in config.json: the ids between a user's text and the answer",
            )

    def check(self, encoded: Encoded) -> Encoded:
        from pipelines.engines.reward.armorm import find_gate

        if find_gate(encoded.prompt, self.pattern) is None:
            raise RowProblem("no_gate_pattern")
        return encoded

    def forward(self, encoded: dict[int, Encoded]) -> Iterator[tuple[int, Score]]:
        keys = list(encoded)
        items = [Item(found.prompt, stretch(len(found.prompt), len(found.response))) for found in encoded.values()]
        for chosen in filter(None, plan_bins(items, 1, self.batch_tokens, self.cost)[0]):
            taken = [keys[i] for i in chosen]
            yield from zip(taken, self.packed([encoded[key] for key in taken]), strict=True)

    def packed(self, conversations: Sequence[Encoded]) -> list[Score]:
        """Scores of conversations in one forward pass."""
        import torch

        from pipelines.engines.packed.backends import told
        from pipelines.engines.reward.armorm import find_gate

        tree = build([found.ids for found in conversations])
        gates = [find_gate(found.prompt, self.pattern) or 0 for found in conversations]
        found = self.model(
            torch.from_numpy(tree.ids)[None].to(self.device),
            torch.tensor([int(path[-1]) for path in tree.paths], device=self.device),
            torch.tensor([int(path[gate]) for path, gate in zip(tree.paths, gates, strict=True)], device=self.device),
            position_ids=torch.from_numpy(tree.positions)[None].to(self.device),
            **told(self.attention, tree, self.device),
        )
        return [
            Score(float(score), [float(x) for x in rewards])
            for score, rewards in zip(found.score.float().cpu(), found.rewards.float().cpu(), strict=True)
        ]


class ClassificationScorer(BatchedModel):
    """A model with one label behind AutoModelForSequenceClassification, such as Skywork-Reward-V2.

    Its class takes padded batches only, so conversations of similar length share one.
    """

    def forward(self, encoded: dict[int, Encoded]) -> Iterator[tuple[int, Score]]:
        import torch

        keys = list(encoded)
        for batch in budget_batches([len(encoded[key].ids) for key in keys], self.batch_tokens):
            ids, lengths = self.pad([encoded[keys[i]].ids for i in batch], self.model.config.pad_token_id)
            mask = torch.arange(ids.shape[1], device=self.device) < lengths[:, None]
            logits = self.model(input_ids=ids, attention_mask=mask.long()).logits
            yield from zip((keys[i] for i in batch), map(Score, logits[:, 0].float().tolist()), strict=True)

    def pad(self, batch: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Right-padded ids (B, T) and lengths (B,)."""
        import torch

        width = max(len(ids) for ids in batch)
        rows = [ids + [pad_id] * (width - len(ids)) for ids in batch]
        lengths = torch.tensor([len(ids) for ids in batch])
        return torch.tensor(rows).to(self.device), lengths.to(self.device)


def load_reward(config: RewardModelConfig) -> RewardModel:
    """The reward model of a config, ready to score.

    Raises:
        UserError: it does not exist, or cannot be loaded completely.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from pipelines.engines.packed.choice import choose
    from pipelines.engines.reward import armorm

    place = resolve_reward(config)
    name = place if models.HUB_ID.fullmatch(place) else place.rpartition("/")[2]
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as exc:
        raise UserError(f"no tokenizer: {' '.join(str(exc).split())[:200]}", where=place) from None
    if config.kind == "armorm":
        attention = choose(torch.cuda.is_available(), half=config.dtype == "bfloat16")
        return ArmoScorer(armorm.load(place, config.dtype, attention), tokenizer, config, name, attention)
    model, report = armorm.read_checkpoint(AutoModelForSequenceClassification, place, config.dtype)
    armorm.check_keys(place, report)
    if model.config.num_labels != 1:
        raise UserError(f"a reward model has one label, this one has {model.config.num_labels}", where=place)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if model.config.pad_token_id is None:
        raise UserError("neither model nor tokenizer names a pad token", where=place)
    return ClassificationScorer(model, tokenizer, config, name)


def resolve_reward(config: RewardModelConfig) -> str:
    """The folder or hub id of a config's reward model; the embedded head is fitted on first use.

    Call it once in the driver before a plan starts, so that the actors find it ready.

    Raises:
        UserError: there is no such model.
    """
    if config.model != models.EMBEDDED:
        return models.require(config.model, "curation.reward.model")
    if config.kind != "armorm":
        raise UserError(
            "the embedded reward model is of kind 'armorm'",
            where="curation.reward.kind",
            fix="or name a model",
        )
    from pipelines.engines.reward.head import embedded_head

    return str(embedded_head())


class RewardStage(PooledStage):
    """Scores every response of a row; a response without a score makes the row an error."""

    name = "reward"
    reads = ("instruction", "context", "responses")
    adds = tuple(SCORED)

    def __init__(self, config: RewardModelConfig) -> None:
        self.config = config
        self.actors, self.num_cpus, self.num_gpus = config.actors, config.num_cpus, config.num_gpus
        self.rows_per_batch, self.placement = config.rows_per_batch, config.placement
        self.model: RewardModel | None = None

    def depends(self) -> dict[str, Any]:
        model = self.config.identity() | {"model": models.identity(resolve_reward(self.config))}
        return {"model": model, "packages": models.versions("torch", "transformers")}

    def setup(self) -> None:
        """Load the model, once in each actor."""
        self.model = load_reward(self.config)

    def apply_batch(self, rows: list[Row]) -> None:
        """Add rewards, their objectives and the model's name."""
        if self.model is None:
            self.setup()
        assert self.model is not None
        asked = [conversation for row in rows for conversation in conversations(row)]
        answers = iter(self.model.score(asked))
        for row in rows:
            scores = [next(answers) for _ in row["responses"]]
            if problem := next((score.problem for score in scores if score.problem), None):
                row["status"] = failure(self.name, problem)
                continue
            row["rewards"] = [score.reward for score in scores]
            row["reward_objectives"] = [score.objectives for score in scores]
            row["reward_model"] = self.model.name
        counts.rewards(rows)

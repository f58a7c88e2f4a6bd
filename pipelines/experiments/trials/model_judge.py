"""The judge of a trial: trained by engine `shared` in this process, and asked by the same packed forward pass.

It keeps the model in memory from trial to trial and puts the first weights back, so that no trial writes a model, loads
one or starts an engine. Where trials train the topmost layers alone, the output of those below is read from a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.engines.packed.packing import on_device, pack
from pipelines.engines.packed.trie import Trie
from pipelines.experiments.trials.checks import too_many
from pipelines.experiments.trials.families import Family, Shelf, bins
from pipelines.experiments.trials.trial import DIVERGED
from pipelines.training import settings
from pipelines.training.config import TrainConfig
from pipelines.training.diverged import Diverged
from pipelines.training.order import HashOrder
from pipelines.training.scoring import prepare
from pipelines.training.shared import SharedTrainer, Steps
from pipelines.training.worker import load_model, load_tokenizer, quiet, with_adapters

if TYPE_CHECKING:
    from pipelines.engines.packed.choice import Backend

Values = list[list[float]]
# Nats, and a hundredth more, that log-probabilities may differ by in the mean when lower layers are from the table. One
# alone may by 0.2 of 11: bfloat16 rounds a bin with other rows in it otherwise.
CLOSE = 0.05
TRIED = 16  # families by which that is seen


class Table(torch.nn.Module):
    """Stands in the place of the embedding: looks up what the lower layers have made of a token in its context."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("states", states, persistent=False)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """(1, T) -> (1, T, D)."""
        return torch.nn.functional.embedding(places, self.states)


class ModelJudge:
    """A model in memory, its families, and the weights that every trial begins with.

    Args:
        config: of the trainings.
        model: to start from, by a name that every node knows.
        layers: topmost ones that are trained; None trains as `config` says.
        families: of the pool's pairs, and then of the held-out rows.
    """

    def __init__(self, config: TrainConfig, model: str, layers: int | None, families: Sequence[Family]) -> None:
        quiet()
        torch.set_num_threads(settings.threads(config))
        self.config, self.name, self.layers = config, model, layers
        self.device = torch.device("cuda" if config.gpus_per_worker else "cpu")
        self.model = load_model(model, config).to(self.device)
        self.shelf = Shelf.of(families)
        self.table: Table | None = None
        self.tokenizer = load_tokenizer(model)

    @property
    def backbone(self) -> Any:
        """The model without its head."""
        return getattr(self.model, self.model.base_model_prefix)

    def first_pass(self, families: Sequence[int]) -> tuple[Values, torch.Tensor]:
        """Log-probabilities of the completions of some families under the first weights, and the lower layers' states.

        Returns:
            For each family those of its completions; and (T, D), the states of all its tokens in the order of a shelf,
            family by family. Without `layers` there are none.
        """
        own = Shelf.of([self.shelf.families[i] for i in families])
        total = sum(family.tokens for family in own.families)
        states = torch.zeros(0)
        seen: list[torch.Tensor] = []
        hook = None
        if self.layers:
            cut = self.cut_at()
            hook = self.backbone.layers[cut].register_forward_pre_hook(
                lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
            states = torch.zeros(total, self.model.config.hidden_size, dtype=next(self.model.parameters()).dtype)
        logps: Values = [[] for _ in families]
        for chosen in bins(own.families, self.config.bin_tokens):
            packed, values = self._ask(own, chosen, plain=True)
            for i, found in zip(chosen, values, strict=True):
                logps[i] = found
            if hook:
                made = seen.pop()[0].to(states)
                # Each family gets the states of all its tokens, also of those that others in the bin begin with.
                for places, path in zip(paths_of(own, chosen), packed["tree"].paths, strict=True):
                    states[torch.from_numpy(places)] = made[torch.from_numpy(path)]
        if hook:
            hook.remove()
        return logps, states

    def cut_at(self) -> int:
        """The first layer that is trained.

        Raises:
            UserError: the model has fewer layers.
        """
        have = len(self.backbone.layers)
        if self.layers is None or self.layers > have:
            raise too_many(have)
        return have - self.layers

    def begin(self, states: torch.Tensor, expected: Sequence[Sequence[float]]) -> None:
        """Be ready for trials.

        Args:
            states: of all families in the order of the shelf; empty without `layers`.
            expected: log-probabilities of each family's completions under the first weights.

        Raises:
            UserError: the upper layers alone do not give what the whole model does.
        """
        if self.layers:
            cut = self.cut_at()
            self.backbone.layers = self.backbone.layers[cut:]
            self.table = Table(states.to(self.device))
            self.backbone.embed_tokens = self.table
            self.model.requires_grad_(False)
            trained = [self.backbone.layers, *([self.backbone.norm] if hasattr(self.backbone, "norm") else [])]
            for part in trained:
                part.requires_grad_(True)
        if self.config.lora:
            torch.manual_seed(0)
            self.model = with_adapters(self.model, self.config)
        self.first = {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}
        if self.layers:
            some = [*range(min(TRIED, len(expected)))]
            found = [value for row in self.judge(some) for value in row]
            gap = np.abs(np.array(found) - np.array([value for i in some for value in expected[i]])).mean()
            if not gap < CLOSE + 0.01 * np.abs(found).mean():
                raise UserError(
                    f"the topmost {self.layers} layers alone differ from the whole model by {gap:.2g} nats in the mean",
                    where="trials.layers",
                    fix="set it to null: this model does more than its layers in turn",
                )

    def fit(self, rows: Sequence[int], names: Sequence[str], reference: Sequence[Sequence[float]], **how: Any) -> dict:
        """Put the first weights back and train.

        Args:
            rows: families of the pairs.
            names: their row ids, by which they are ordered.
            reference: the frozen model's log-probabilities of chosen and rejected.
            how: `seed`, and `config` of this trial.

        Returns:
            Steps, tokens and the last loss; of a training that diverges none, and under `diverged` what was seen.
        """
        import datasets

        seed, config = how["seed"], how["config"]
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                if name in self.first:
                    p.copy_(self.first[name])
                    p.grad = None
        self._restore_forward()
        data = datasets.Dataset.from_list(
            [
                {**self.shelf.families[i].rows()[0], "row_id": name, "ref_chosen_logp": good, "ref_rejected_logp": bad}
                for i, name, (good, bad) in zip(rows, names, reference, strict=True)
            ],
            features=features(),
        )
        with storage.scratch() as folder:
            trainer = self._trainer(data, HashOrder(list(names), seed), config, folder, seed)
            trainer.steps = TableSteps(self, list(rows), trainer.steps) if self.table else trainer.steps
            seen = trained(trainer)
        self._restore_forward()
        if seen:
            return {"steps": trainer.state.global_step, "tokens": trainer.tokens_seen, "loss": None, DIVERGED: seen}
        log = [line for line in trainer.state.log_history if "loss" in line]
        return {"steps": trainer.state.global_step, "tokens": trainer.tokens_seen, "loss": log[-1]["loss"]}

    def judge(self, families: Sequence[int]) -> Values:
        """Log-probability of each completion of some families."""
        own = [self.shelf.families[i] for i in families]
        found: Values = [[] for _ in families]
        for chosen in bins(own, self.config.bin_tokens):
            _, values = self._ask(self.shelf, [families[i] for i in chosen])
            for i, value in zip(chosen, values, strict=True):
                found[i] = value
        return found

    def _ask(self, shelf: Shelf, chosen: Sequence[int], plain: bool = False) -> tuple[dict[str, Any], Values]:
        packed = on_device(pack([row for i in chosen for row in shelf.families[i].rows()]), self.device)
        if self.table and not plain:
            packed["input_ids"] = torch.from_numpy(spread(shelf, chosen, packed["tree"]))[None].to(self.device)
        half = settings.autocast(self.config)
        self.model.eval()
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            values = self.model(packed).log_probs.view(-1, 2).tolist()
        found, at = [], 0
        for i in chosen:
            family = shelf.families[i]
            pairs = family.pairs()
            flat = [value for pair in values[at : at + len(pairs)] for value in pair]
            found.append(flat[: len(family.completions)])
            at += len(pairs)
        return packed, found

    def _trainer(self, data: Any, order: HashOrder, config: TrainConfig, folder: Path, seed: int) -> SharedTrainer:
        from transformers import PrinterCallback
        from transformers.trainer_utils import SaveStrategy

        from pipelines.training.callbacks import NextOrder

        arguments = settings.arguments(config.model_copy(update={"trackers": [], "holdout": 0.0}), folder, seed)
        arguments.save_strategy = SaveStrategy.NO
        trainer = SharedTrainer(
            model=self.model,
            args=arguments,
            processing_class=self.tokenizer,
            rows=data,
            order=order,
            config=config,
            callbacks=[NextOrder(order)],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _restore_forward(self) -> None:
        """The trainer wraps the forward pass for its precision, and would wrap it again in the next trial."""
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        for model in (self.model, causal):
            model.__dict__.pop("_original_forward", None)
            model.__dict__.pop("forward", None)
            model.__dict__.pop("_is_accelerate_prepared", None)  # or the next trial would compute without autocast
        prepare(causal, cast("Backend", settings.attention(self.config)), self.config.max_length)


def trained(trainer: SharedTrainer) -> str:
    """Train to the end, or until weights are no longer numbers; what was seen then, without the step's many rows."""
    try:
        trainer.train()
    except Diverged as exc:
        return str(exc).partition(", row_ids")[0]
    return ""


class TableSteps(Steps):
    """The steps of a trial whose tokens are looked up in the table.

    Args:
        judge: has the table and the shelf.
        families: of the rows, in their order.
        made: the steps as the trainer has made them.
    """

    def __init__(self, judge: ModelJudge, families: Sequence[int], made: Steps) -> None:
        super().__init__(made.rows, made.order, made.batch_size, made.budget, made.workers, made.rank, made.cost)
        self.judge, self.families = judge, families

    def packed(self, rows: Sequence[int], parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A bin whose ids are places in the table."""
        found = pack(parts)
        chosen = [self.families[row] for row in rows]
        found["input_ids"] = torch.from_numpy(spread(self.judge.shelf, chosen, found["tree"]))[None]
        return found


def spread(shelf: Shelf, chosen: Sequence[int], tree: Trie) -> NDArray[np.int64]:
    """For each token of a packed trie of families its place in the table; of equal beginnings, any of them."""
    places = np.zeros(len(tree.ids), np.int64)
    for own, path in zip(paths_of(shelf, chosen), tree.paths, strict=True):
        places[path] = own
    return places


def paths_of(shelf: Shelf, chosen: Sequence[int]) -> list[NDArray[np.int64]]:
    """Places in the table of each sequence of some families, in the order in which they are packed."""
    return [shelf.path(i, one) for i in chosen for pair in shelf.families[i].pairs() for one in pair]


def features() -> Any:
    """Types of a trial's rows, as those of encoded pairs."""
    from datasets import Features, List, Value

    ids = List(Value("int32"))
    return Features(
        {
            "prompt_ids": ids,
            "chosen_ids": ids,
            "rejected_ids": ids,
            "row_id": Value("string"),
            "ref_chosen_logp": Value("float64"),
            "ref_rejected_logp": Value("float64"),
        }
    )

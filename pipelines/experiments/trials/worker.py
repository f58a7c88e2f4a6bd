"""A process that runs trials: it loads the judge once, shares in the first pass, and does one trial after another."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.core.storage import Place
from pipelines.experiments.trials.trial import DIVERGED, Trial
from pipelines.training.config import TrainConfig

if TYPE_CHECKING:
    from pipelines.experiments.trials.families import Family
    from pipelines.experiments.trials.model_judge import ModelJudge
    from pipelines.experiments.trials.questions import Question

BLOCK = 64  # rows of one block of the first pass: what a kill may cost
# How verdicts are read from a judge: trials that were read otherwise are done again.
WEIGHED = "by the tokens that tell verdicts apart"
VERDICTS = "verdicts.parquet"
JUDGED = pa.schema([("judgment_id", pa.string()), ("probs", pa.list_(pa.float64()))])


@dataclass(frozen=True)
class Ground:
    """What all trials of some experiments share.

    Attributes:
        folder: of their results.
        fingerprint: of all that a trial's result depends on, beside the trial itself.
        config: of the trainings.
        model: to start from, by a name that every node knows.
        layers: topmost ones that are trained.
        pairs: the pool, or what trials take of it: row_id, source, prompt, chosen, rejected and more.
        asked: the held-out rows.
        stand_in: whether a linear model stands in the judge's place.
    """

    folder: Place
    fingerprint: str
    config: TrainConfig
    model: str
    layers: int | None
    pairs: Sequence[Row]
    asked: Sequence[Row]
    stand_in: bool = False

    @property
    def blocks(self) -> int:
        """Of the first pass."""
        return -(-(len(self.pairs) + len(self.asked)) // BLOCK)

    def depends(self, trial: Trial) -> step.Depends:
        """Every value that the result of a trial depends on."""
        changes = dict(trial.changes)
        rows = list(trial.rows)
        return {"ground": self.fingerprint, "rows": rows, "seed": trial.seed, "changes": changes, "verdicts": WEIGHED}

    def place(self, trial: Trial) -> Place:
        """The folder of a trial's result."""
        return self.folder / "trials" / step.fingerprint(self.depends(trial))[:16]

    def block_depends(self, number: int) -> step.Depends:
        """What a part of the first pass depends on: its rows, and what they are computed with."""
        ids = [row["row_id"] for row in self.pairs] + [row["judgment_id"] for row in self.asked]
        rows = ids[number * BLOCK : (number + 1) * BLOCK]
        return {"ground": self.fingerprint, "rows": rows, "verdicts": WEIGHED}

    def block(self, number: int) -> Place:
        """The folder of a part of the first pass."""
        return self.folder / "first_pass" / step.fingerprint(self.block_depends(number))[:16]


class Worker:
    """An actor; see `running.py`.

    Args:
        ground: what trials share.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.numbers = {row["row_id"]: number for number, row in enumerate(ground.pairs)}
        self.judge: Any = None
        self.begun = False
        self.expected: list[list[float]] = []
        self.questions: list[Question] = []
        self.starts: list[int] = []  # of each row's families, and where the last ends

    def first_pass(self, number: int) -> None:
        """Do a part of the first pass, unless it is done.

        Raises:
            UserError: what the model says before any training is no number.
        """
        judge = self._loaded()

        def write(folder: Place) -> step.Result:
            from safetensors.torch import save

            start = time.monotonic()
            rows = len(self.starts) - 1
            chosen = range(self.starts[number * BLOCK], self.starts[min((number + 1) * BLOCK, rows)])
            logps, states = judge.first_pass(list(chosen))
            if any(math.isnan(value) for row in logps for value in row):
                raise no_numbers(self.ground.model)
            storage.write_bytes(folder / "states.safetensors", save({"states": states}))
            storage.write_json(folder / "logps.json", logps)
            tokens = sum(judge.shelf.families[i].tokens for i in chosen)
            return {"seconds": round(time.monotonic() - start, 2), "tokens": tokens}

        step.once(self.ground.block(number), self.ground.block_depends(number), write)

    def begin(self) -> None:
        """Be ready for trials, once the first pass is done; also in a process that Ray has started anew."""
        if self.begun:
            return
        self.begun = True
        if self.ground.stand_in:
            from pipelines.experiments.trials.stand_in import StandIn

            self.judge = StandIn(self.ground.pairs, self.ground.asked)
            return
        import torch
        from safetensors.torch import load

        judge, states = self._loaded(), []
        for number in range(self.ground.blocks):
            folder = self.ground.block(number)
            states.append(load(storage.read_bytes(folder / "states.safetensors"))["states"])
            self.expected += storage.read_json(folder / "logps.json")
        judge.begin(torch.cat(states), self.expected)

    def run(self, trial: Trial) -> step.Result:
        """Do a trial, unless it is done; returns what its marker says: of one that has diverged, that it has.

        Raises:
            UserError: the verdicts of the model are no numbers before any training.
        """
        self.begin()
        return step.once(
            self.ground.place(trial), self.ground.depends(trial), lambda folder: self._write(trial, folder)
        )

    def _write(self, trial: Trial, folder: Place) -> step.Result:
        start, ground = time.monotonic(), self.ground
        config = TrainConfig.model_validate({**ground.config.model_dump(), **dict(trial.changes)})
        rows = [self.numbers[name] for name in trial.rows]
        known: dict[str, Any] = {"steps": 0, "tokens": 0, "loss": None}
        if ground.stand_in:
            found = self.judge.trial(rows)
        else:
            if rows:
                reference = [self.expected[i] for i in rows]
                known = self.judge.fit(rows, trial.rows, reference, seed=trial.seed, config=config)
            found = [] if DIVERGED in known else self._weighed(trained=bool(rows))
        result = {"pairs": len(rows), **known, "seconds": round(time.monotonic() - start, 3)}
        if DIVERGED in known:
            return result
        probs = [shares(values) for values in found]
        # The last step's loss was a number; the weights that it left may be none.
        if not all(math.isfinite(share) for row in probs for share in row):
            if not rows:
                raise no_numbers(ground.model)
            return {**result, DIVERGED: f"its verdicts are no numbers after step {known['steps']}, the last"}
        lines = [
            {"judgment_id": row["judgment_id"], "probs": own} for row, own in zip(ground.asked, probs, strict=True)
        ]
        storage.write_table(folder / VERDICTS, pa.Table.from_pylist(lines, JUDGED))
        return result

    def _weighed(self, trained: bool) -> list[list[float]]:
        """Log-probabilities of the verdicts of all held-out rows, by the weights as they are or as they were first."""
        first = len(self.ground.pairs)
        held = range(self.starts[first], self.starts[-1])
        values = self.judge.judge(held) if trained else self.expected[held.start :]
        places = [start - held.start for start in self.starts[first:]]
        return [
            one.logprobs(values[start:end])
            for one, start, end in zip(self.questions, places[:-1], places[1:], strict=True)
        ]

    def _loaded(self) -> ModelJudge:
        if self.judge is None:
            from pipelines.experiments.trials.model_judge import ModelJudge

            ground = self.ground
            pairs, self.questions = asked_of(ground)
            own = [[pair] for pair in pairs] + [question.families() for question in self.questions]
            self.starts = [0, *accumulate(map(len, own))]
            families = [family for each in own for family in each]
            self.judge = ModelJudge(ground.config, ground.model, ground.layers, families)
        judge: ModelJudge = self.judge
        return judge


def no_numbers(model: str) -> UserError:
    """The error for a model that says no numbers before any training."""
    fix = "set train.precision to float32, or name another model"
    return UserError("its log-probabilities are no numbers before any training", where=f"model {model}", fix=fix)


def shares(values: Sequence[float]) -> list[float]:
    """Log-probabilities of a closed set as probabilities that add up to 1."""
    from scipy.special import softmax

    return [float(value) for value in softmax(values)]


def asked_of(ground: Ground) -> tuple[list[Family], list[Question]]:
    """Token ids of the pool's pairs, and of the held-out rows.

    Raises:
        UserError: the model's tokens do not tell two verdicts apart.
    """
    from pipelines.experiments.trials.families import Family
    from pipelines.experiments.trials.questions import Question
    from pipelines.judging.chat import encode_completions, encode_prompts
    from pipelines.training.pairs import load_tokenizer

    tokenizer = load_tokenizer(ground.model)
    rows = [(row["prompt"], [row["chosen"], row["rejected"]]) for row in ground.pairs]
    rows += [(row["prompt"], row["completions"]) for row in ground.asked]
    prompts = encode_prompts(tokenizer, [prompt for prompt, _ in rows])
    # The verdicts are few and come again and again.
    texts = sorted({text for _, completions in rows for text in completions})
    ids = dict(zip(texts, encode_completions(tokenizer, texts), strict=True))
    encoded = [
        (prompt, [ids[text] for text in completions]) for prompt, (_, completions) in zip(prompts, rows, strict=True)
    ]
    count = len(ground.pairs)
    return [Family(*one) for one in encoded[:count]], [Question.of(*one) for one in encoded[count:]]

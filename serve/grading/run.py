"""Run a grader: compare texts, or ask the judge for a label or a score."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from pipelines.datasets.messages import dialogue
from serve.combine import judged_order
from serve.grading import similarity
from serve.grading.formula import Formula, FormulaError
from serve.grading.schemas import (
    InputMessage,
    LabelModel,
    Multi,
    RunErrors,
    RunMetadata,
    RunRequest,
    RunResponse,
    ScoreModel,
    StringCheck,
    TextSimilarity,
)
from serve.grading.values import SampleNotJson, UnknownVariable, Values
from serve.refused import Refused
from serve.service import JudgeService, Piece, usage

TEMPLATE = "grader"


@dataclass
class Graded:
    """What a grader found."""

    reward: float = 0.0
    pieces: list[Piece] = field(default_factory=list)
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    rewards: dict[str, float] = field(default_factory=dict)  # of a multi grader's graders


class GraderRun:
    """One run.

    Args:
        service: the judge.
        request: the grader and what it grades.
    """

    def __init__(self, service: JudgeService, request: RunRequest) -> None:
        self.service, self.request = service, request
        self.values = Values(request.item, request.model_sample)

    async def __call__(self) -> RunResponse:
        """Grade. What is wrong with the data is said in `metadata.errors`, with a reward of 0, as OpenAI does.

        Raises:
            Refused: the judge cannot answer, or not now.
        """
        start = time.monotonic()
        grader, graded, errors = self.request.grader, Graded(), RunErrors()
        check_models(self.service, grader)
        try:
            graded = await self._multi(grader) if isinstance(grader, Multi) else await self._single(grader, grader.name)
        except UnknownVariable:
            errors.invalid_variable_error = True
        except SampleNotJson:
            errors.sample_parse_error = True
        except FormulaError:
            errors.formula_parse_error = True
        used = usage(graded.pieces)
        # Of several models of a `multi` grader, each has its own tokens.
        per_model = {
            name: usage([piece for piece in graded.pieces if piece.judging.facts.name == name]).model_dump()
            for name in dict.fromkeys(piece.judging.facts.name for piece in graded.pieces)
        }
        return RunResponse(
            reward=graded.reward,
            sub_rewards=graded.rewards,
            metadata=RunMetadata(
                name=grader.name,
                type=grader.type,
                errors=errors,
                execution_time=time.monotonic() - start,
                scores=graded.rewards or {grader.name: graded.reward},
                token_usage=used.prompt_tokens + used.output_tokens if per_model else None,
                sampled_model_name=next(iter(per_model)) if len(per_model) == 1 else None,
                verdicts=graded.verdicts,
            ),
            model_grader_token_usage_per_model=per_model,
        )

    async def _multi(self, grader: Multi) -> Graded:
        formula = Formula(grader.calculate_output, grader.named)
        whole = Graded()
        # Model graders are judged together: they are one request, with one place in the queue each.
        asked = {
            name: self._piece(one) for name, one in grader.named.items() if isinstance(one, LabelModel | ScoreModel)
        }
        texts = {name: one for name, one in grader.named.items() if name not in asked}
        found = {name: await self._single(one, name) for name, one in texts.items()}
        if asked:
            await self._ask(list(asked.values()), tokens=max(_tokens(grader.named[name]) for name in asked))
            found |= {name: self._read(grader.named[name], piece, name) for name, piece in asked.items()}
        for name in grader.named:
            whole.rewards[name] = found[name].reward
            whole.pieces += found[name].pieces
            whole.verdicts |= found[name].verdicts
        whole.reward = formula(whole.rewards)
        return whole

    async def _single(self, grader: StringCheck | TextSimilarity | LabelModel | ScoreModel, name: str) -> Graded:
        if isinstance(grader, LabelModel | ScoreModel):
            piece = self._piece(grader)
            await self._ask([piece], tokens=_tokens(grader))
            return self._read(grader, piece, name)
        text, reference = self._fill(grader.input), self._fill(grader.reference)
        if isinstance(grader, StringCheck):
            return Graded(float(_holds(grader.operation, text, reference)))
        if max(len(text), len(reference)) > similarity.MOST:
            raise Refused(422, "field_too_long", f"text_similarity takes at most {similarity.MOST} characters a text")
        # In a thread: long texts would hold up every other request.
        return Graded(await asyncio.to_thread(similarity.similarity, grader.evaluation_metric, text, reference))

    def _piece(self, grader: LabelModel | ScoreModel) -> Piece:
        labels = grader.labels if isinstance(grader, LabelModel) else list(grader.scale)
        return Piece(
            {
                "task": "classification",
                "instruction": self._prompt(grader.input),
                "context": "",
                "responses": [self.request.model_sample],  # for the record: the prompt says what it wants of it
                "reference": "",
                "rubric": "",
                "allowed": labels,
                "template": TEMPLATE,
            },
            self.service.judging(grader.model),
        )

    async def _ask(self, pieces: list[Piece], tokens: int) -> None:
        most = self.service.settings.max_tokens
        await self.service.run(pieces, max_tokens=min(tokens or most, most), with_critique=tokens > 0)
        for piece in pieces:
            self.service.count(piece, consistent=None)

    def _read(self, grader: LabelModel | ScoreModel, piece: Piece, name: str) -> Graded:
        said = judged_order(piece.row, "given")
        if isinstance(grader, LabelModel):
            reward = float(said.verdict in grader.passing_labels)
        else:
            reward = sum(score * said.probabilities[label] for label, score in grader.scale.items())
        return Graded(reward, [piece], {name: {"label": said.verdict, "probabilities": said.probabilities}})

    def _prompt(self, messages: list[InputMessage]) -> str:
        return dialogue([{"role": one.role, "content": [self._fill(text) for text in one.texts()]} for one in messages])

    def _fill(self, text: str) -> str:
        filled = self.values.fill(text)
        if len(filled) > self.service.settings.field_characters:
            raise Refused(
                422, "field_too_long", f"a text has more than {self.service.settings.field_characters} characters"
            )
        return filled


def check_models(service: JudgeService, grader: Any) -> None:
    """Refuse a grader whose model is not served here.

    Raises:
        Refused: 404.
    """
    for one in grader.named.values() if isinstance(grader, Multi) else [grader]:
        service.judging(getattr(one, "model", None))


def _tokens(grader: LabelModel | ScoreModel) -> int:
    """Tokens of a critique; 0 is none."""
    params = grader.sampling_params if isinstance(grader, ScoreModel) else None
    return (params.max_completions_tokens if params else None) or 0


def _holds(operation: str, text: str, reference: str) -> bool:
    if operation in ("eq", "ne"):
        return (text == reference) is (operation == "eq")
    if operation == "ilike":
        text, reference = text.casefold(), reference.casefold()
    return reference in text

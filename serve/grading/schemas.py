"""The shapes of OpenAI's graders, as its public client has them (`openai.types.graders`)."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.judging import closed_sets
from serve.grading.formula import Formula
from serve.schemas import CRITERIA, LABELS, MESSAGES, Label, ShortText

STEPS = 10  # of a scale whose range is not one of a few integers: 11 labels
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Number = Annotated[float, Field(ge=-1e6, le=1e6)]


class InputText(BaseModel):
    """A text block of a message."""

    model_config = _STRICT

    type: Literal["input_text", "output_text"]
    text: str


class InputMessage(BaseModel):
    """A message for the grading model; texts may hold `{{item.x}}` and `{{sample.output_text}}`."""

    model_config = _STRICT

    role: Literal["user", "assistant", "system", "developer"]
    content: str | InputText | Annotated[list[str | InputText], Field(min_length=1, max_length=MESSAGES)]
    type: Literal["message"] | None = None

    def texts(self) -> list[str]:
        """Its text blocks."""
        blocks = self.content if isinstance(self.content, list) else [self.content]
        return [block if isinstance(block, str) else block.text for block in blocks]


class StringCheck(BaseModel):
    """1 if two texts compare as `operation` says, else 0; `like` and `ilike`: the input contains the reference."""

    model_config = _STRICT

    type: Literal["string_check"]
    name: ShortText
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(BaseModel):
    """How alike two texts are, from 0 to 1."""

    model_config = _STRICT

    type: Literal["text_similarity"]
    name: ShortText
    input: str
    reference: str
    evaluation_metric: Literal[
        "cosine",
        "fuzzy_match",
        "bleu",
        "gleu",
        "meteor",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ]

    @field_validator("evaluation_metric")
    @classmethod
    def _ours(cls, name: str) -> str:
        if name != "fuzzy_match" and not name.startswith("rouge_"):
            raise ValueError("not offered here; fuzzy_match and rouge_1 to rouge_5 and rouge_l are")
        return name


class SamplingParams(BaseModel):
    """Accepted as OpenAI's; only `max_completions_tokens` has a meaning: a score is a mean, and none is sampled."""

    model_config = _STRICT

    max_completions_tokens: int | None = Field(None, ge=1)
    """Most tokens of a critique before the score; without it there is none."""
    reasoning_effort: str | None = Field(None, max_length=20)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None


class LabelModel(BaseModel):
    """1 if the model's label is a passing one, else 0."""

    model_config = _STRICT

    type: Literal["label_model"]
    name: ShortText
    model: ShortText
    input: list[InputMessage] = Field(min_length=1, max_length=MESSAGES)
    labels: list[Label] = Field(min_length=2, max_length=LABELS)
    passing_labels: list[Label] = Field(min_length=1, max_length=LABELS)

    @model_validator(mode="after")
    def _known(self) -> LabelModel:
        if problem := closed_sets.problem(self.labels):
            raise ValueError(f"labels: {problem}")
        if not set(self.passing_labels) <= set(self.labels):
            raise ValueError("passing_labels: one of them is not among labels")
        return self


class ScoreModel(BaseModel):
    """The expected score on a scale over `range`: the mean of its steps, weighted by their probabilities."""

    model_config = _STRICT

    type: Literal["score_model"]
    name: ShortText
    model: ShortText
    input: list[InputMessage] = Field(min_length=1, max_length=MESSAGES)
    range: list[Number] | None = Field(None, min_length=2, max_length=2)
    sampling_params: SamplingParams | None = None

    @field_validator("range")
    @classmethod
    def _rises(cls, ends: list[float] | None) -> list[float] | None:
        if ends is not None and len(set(scale(*ends))) < 3:
            raise ValueError("the first number must be the smaller one, by more than a millionth")
        return ends

    @property
    def scale(self) -> dict[str, float]:
        """Label -> score."""
        return scale(*(self.range or (0.0, 1.0)))


Single = Annotated[
    StringCheck | TextSimilarity | LabelModel | ScoreModel,
    Field(discriminator="type"),
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]


class Multi(BaseModel):
    """Several graders and a formula over their names, such as `0.3 * style + 0.7 * facts`."""

    model_config = _STRICT

    type: Literal["multi"]
    name: ShortText
    graders: Annotated[dict[Name, Single], Field(min_length=1, max_length=CRITERIA)] | Single
    """By the name that the formula has for each; a single grader goes by its own name."""
    calculate_output: str = Field(min_length=1)

    @property
    def named(self) -> dict[str, Any]:
        """Name in the formula -> grader."""
        return self.graders if isinstance(self.graders, dict) else {self.graders.name: self.graders}

    @model_validator(mode="after")
    def _computable(self) -> Multi:
        Formula(self.calculate_output, self.named)
        return self


Grader = Annotated[
    StringCheck | TextSimilarity | LabelModel | ScoreModel | Multi,
    Field(discriminator="type"),
]


class ValidateRequest(BaseModel):
    """A grader to check. `python` graders are refused: nothing that a caller writes is executed."""

    model_config = ConfigDict(
        **_STRICT,
        json_schema_extra={
            "examples": [
                {
                    "grader": {
                        "type": "string_check",
                        "name": "capital",
                        "input": "{{sample.output_text}}",
                        "reference": "{{item.capital}}",
                        "operation": "ilike",
                    }
                }
            ]
        },
    )

    grader: Grader


class RunRequest(BaseModel):
    """A grader, what a model wrote, and the row of data it answered.

    Beyond OpenAI's own call, a bare `label_model` is accepted too.
    """

    model_config = ConfigDict(
        **_STRICT,
        json_schema_extra={
            "examples": [
                {
                    "grader": {
                        "type": "label_model",
                        "name": "right",
                        "model": "judge",
                        "input": [
                            {
                                "role": "user",
                                "content": "Is {{sample.output_text}} the capital of {{item.country}}?",
                            }
                        ],
                        "labels": ["yes", "no"],
                        "passing_labels": ["yes"],
                    },
                    "model_sample": "Oslo",
                    "item": {"country": "Norway"},
                }
            ]
        },
    )

    grader: Grader
    model_sample: str
    item: dict[str, Any] = {}


class ValidateResponse(BaseModel):
    """The grader, as it was understood."""

    grader: Grader


class RunErrors(BaseModel):
    """What went wrong in a run; the reward is then 0."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    """The texts use `sample.output_json`, and the sample is not JSON."""
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    """A text names a variable that is not there."""
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None


class RunMetadata(BaseModel):
    """How a run went."""

    name: str
    type: str
    errors: RunErrors
    execution_time: float
    """Seconds."""
    scores: dict[str, float]
    token_usage: int | None
    sampled_model_name: str | None
    verdicts: dict[str, dict[str, Any]]
    """Ours: of each model grader, its label and the probabilities of all labels."""


class RunResponse(BaseModel):
    """The reward."""

    reward: float
    sub_rewards: dict[str, float]
    """Of a multi grader, the rewards of its graders."""
    metadata: RunMetadata
    model_grader_token_usage_per_model: dict[str, Any]


def scale(low: float, high: float) -> dict[str, float]:
    """The steps a score can have: the integers of a range of 2 to 20 whole numbers, else eleven at equal distances."""
    whole = low.is_integer() and high.is_integer() and 2 <= high - low <= 20
    steps = round(high - low) if whole else STEPS
    values = [low + (high - low) * step / steps for step in range(steps + 1)] if low < high else []
    labels = [f"{Decimal(f'{value:.6f}').normalize():f}" for value in values if math.isfinite(value)]
    return dict(zip(("0" if label == "-0" else label for label in labels), values, strict=True))

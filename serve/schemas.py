"""What the judge API takes and gives. Every field is bounded; what does not depend on the settings is checked here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.datasets.messages import dialogue
from pipelines.judging.tasks import ABSOLUTE, CLASSIFICATION, PAIRWISE, Task
from pipelines.judging.templates import TEMPLATES, load

CRITERIA = 16
LABELS = 32
LABEL_CHARACTERS = 64
ID_CHARACTERS = 200
MESSAGES = 1000
LARGEST_ID = 2**53  # above, JSON readers of other languages round

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Label = Annotated[str, Field(min_length=1, max_length=LABEL_CHARACTERS, pattern=r"^[^\r\n]*$")]
Allowed = Annotated[list[Label], Field(min_length=2, max_length=LABELS)]
ShortText = Annotated[str, Field(min_length=1, max_length=ID_CHARACTERS)]
LineId = ShortText | Annotated[int, Field(ge=-LARGEST_ID, le=LARGEST_ID)]


class Part(BaseModel):
    """A text within a message."""

    model_config = _STRICT

    type: Literal["text", "input_text", "output_text"]
    text: str


class Message(BaseModel):
    """One turn of the chat that led to the responses."""

    model_config = _STRICT

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=MESSAGES)]


class Criterion(BaseModel):
    """One of several rubrics that the same responses are judged by."""

    model_config = ConfigDict(
        **_STRICT,
        json_schema_extra={"examples": [{"name": "facts", "rubric": "Are all facts right?"}]},
    )

    name: ShortText
    rubric: str = Field(min_length=1)
    allowed: Allowed | None = None


class JudgeRequest(BaseModel):
    """What all three tasks share."""

    model_config = _STRICT
    judged: ClassVar[Task]

    instruction: str | None = Field(None, min_length=1)
    """What the responses answer; this or `messages`."""
    messages: list[Message] | None = Field(None, min_length=1, max_length=MESSAGES)
    """The chat that the responses continue."""
    context: str | None = None
    rubric: str | None = None
    reference: str | None = None
    allowed: Allowed | None = None
    """The closed set of verdicts; the default is the task's."""
    template: str | None = Field(None, pattern=r"^[a-z0-9_]+$", max_length=ID_CHARACTERS)
    """A packaged template of this task; the default is the service's."""
    model: str | None = Field(None, max_length=ID_CHARACTERS)
    """The judge, as in `/v1/models`; may be left out."""
    with_critique: bool = True
    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of a critique."""
    criteria: list[Criterion] | None = Field(None, min_length=1, max_length=CRITERIA)
    """Several rubrics in one call, in place of `rubric`; one result for each."""
    stream: bool = False
    """Answer with server-sent events: `critique` (pieces of text), then `result` or `error`."""

    @field_validator("template")
    @classmethod
    def _fits(cls, name: str | None) -> str | None:
        if name is not None and (name not in TEMPLATES.names() or load(name).task != cls.judged.name):
            known = [one for one in TEMPLATES.names() if load(one).task == cls.judged.name]
            raise ValueError(f"no template for this task; known: {', '.join(known)}")
        return name

    @model_validator(mode="after")
    def _whole(self) -> JudgeRequest:
        if (self.instruction is None) == (self.messages is None):
            raise ValueError("give either instruction or messages")
        if not self.asked:
            raise ValueError("the messages say nothing")
        if self.criteria and self.rubric is not None:
            raise ValueError("give either rubric or criteria")
        names = [one.name for one in self.criteria or ()]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have the same name")
        for allowed in (self.allowed, *(one.allowed for one in self.criteria or ())):
            if allowed is not None and self.judged.problem_of_verdicts(allowed):
                # The problem in words would repeat the caller's labels, and errors repeat nothing of a request.
                raise ValueError(f"allowed must be {self.judged.suitable}")
        return self

    @property
    def shown(self) -> list[str]:
        """The responses, in the caller's order."""
        raise NotImplementedError

    @property
    def orders(self) -> tuple[Literal["given", "swapped"], ...]:
        """In which orders the responses are shown."""
        return ("given",)

    @property
    def asked(self) -> str:
        """The instruction, or the chat as one text.

        Raises:
            ValueError: a message has no text.
        """
        return dialogue([one.model_dump() for one in self.messages]) if self.messages else self.instruction or ""

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text that has no bound of its own, with the name of its field."""
        yield "instruction" if self.messages is None else "messages", self.asked
        for number, text in enumerate(self.shown):
            yield f"responses.{number}" if len(self.shown) > 1 else "response", text
        for name in ("context", "rubric", "reference"):
            yield name, getattr(self, name) or ""
        for number, criterion in enumerate(self.criteria or ()):
            yield f"criteria.{number}.rubric", criterion.rubric


class PairwiseRequest(JudgeRequest):
    """Which of two responses is better."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "instruction": "Name the capital of Norway.",
                    "responses": ["Oslo.", "Bergen is the capital of Norway."],
                    "rubric": "Which response is right?",
                    "both_orders": True,
                }
            ]
        }
    )
    judged: ClassVar[Task] = PAIRWISE

    responses: list[str] = Field(min_length=2, max_length=2)
    both_orders: bool = False
    """Judge twice, the second time with the responses swapped, and take the mean."""

    @property
    def shown(self) -> list[str]:
        return self.responses

    @property
    def orders(self) -> tuple[Literal["given", "swapped"], ...]:
        return ("given", "swapped") if self.both_orders else ("given",)


class AbsoluteRequest(JudgeRequest):
    """A score for one response."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [{"role": "user", "content": "Name the capital of Norway."}],
                    "response": "Oslo.",
                    "criteria": [
                        {"name": "facts", "rubric": "Are all facts right?"},
                        {"name": "tone", "rubric": "Is it friendly?", "allowed": ["1", "2", "3"]},
                    ],
                }
            ]
        }
    )
    judged: ClassVar[Task] = ABSOLUTE

    response: str

    @property
    def shown(self) -> list[str]:
        return [self.response]


class ClassifyRequest(AbsoluteRequest):
    """A label that answers a question, the `rubric`, about one response."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "instruction": "Summarise the article.",
                    "context": "The fair opens on Monday.",
                    "response": "The fair opens on Sunday.",
                    "rubric": "Does the response contradict the article?",
                    "allowed": ["Yes", "No", "Unclear"],
                    "with_critique": False,
                }
            ]
        }
    )
    judged: ClassVar[Task] = CLASSIFICATION


class PairwiseLine(PairwiseRequest):
    """A line of a batch."""

    id: LineId
    task: Literal["pairwise"]
    stream: Literal[False] = False


class AbsoluteLine(AbsoluteRequest):
    """A line of a batch."""

    id: LineId
    task: Literal["absolute"]
    stream: Literal[False] = False


class ClassifyLine(ClassifyRequest):
    """A line of a batch."""

    id: LineId
    task: Literal["classify"]
    stream: Literal[False] = False


BatchLine = Annotated[PairwiseLine | AbsoluteLine | ClassifyLine, Field(discriminator="task")]


class OrderResult(BaseModel):
    """The judgment of one order; verdict and probabilities name the responses as the caller gave them."""

    order: Literal["given", "swapped"]
    verdict: str
    critique: str
    """As written: in the swapped order, Response A is the caller's second."""
    probabilities: dict[str, float]
    parse_status: str
    """`ok`, or `completed`: the model had not come to its verdict line, so that it was put there."""


class Judgment(BaseModel):
    """The judgment by one rubric."""

    criterion: str | None
    verdict: str
    critique: str
    probabilities: dict[str, float]
    """Of every allowed verdict; they sum to 1."""
    expected_score: float | None
    """Of a score: the mean over the probabilities."""
    consistent: bool | None
    """Whether both orders say the same; null if there was one."""
    parse_status: str
    orders: list[OrderResult]


class TemplateFacts(BaseModel):
    """The wording that was used."""

    name: str
    digest: str


class Usage(BaseModel):
    """Tokens of all judgments of a request together."""

    prompt_tokens: int
    cached_tokens: int
    """Of the prompt tokens, those that were computed before."""
    output_tokens: int


class JudgeResponse(BaseModel):
    """The answer to a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "jdg_3f0c",
                    "model": "judge",
                    "task": "absolute",
                    "results": [
                        {
                            "criterion": None,
                            "verdict": "4",
                            "critique": "Right, and short.",
                            "probabilities": {"1": 0.0, "2": 0.0, "3": 0.2, "4": 0.7, "5": 0.1},
                            "expected_score": 3.9,
                            "consistent": None,
                            "parse_status": "ok",
                            "orders": [],
                        }
                    ],
                    "template": {"name": "absolute_original", "digest": "1f2e"},
                    "model_digest": "9c1d",
                    "usage": {"prompt_tokens": 310, "cached_tokens": 256, "output_tokens": 40},
                    "seconds": 0.8,
                }
            ]
        }
    )

    id: str
    model: str
    task: Literal["pairwise", "absolute", "classify"]
    results: list[Judgment]
    template: TemplateFacts
    model_digest: str
    usage: Usage
    seconds: float


class LineError(BaseModel):
    """Why a line of a batch was not judged."""

    code: str
    message: str


class BatchResult(BaseModel):
    """A line of a batch's answer: with `result`, or with `line` (counted from 1) and `error`."""

    id: str | int | None
    result: JudgeResponse | None = None
    line: int | None = None
    error: LineError | None = None

    def json_line(self) -> bytes:
        """As it is sent: all ASCII, since readers such as httpx's `iter_lines` split at Unicode's line ends too."""
        kept = ("result",) if self.result else ("line", "error")
        return json.dumps(self.model_dump(include={"id", *kept}), separators=(",", ":")).encode() + b"\n"

"""The judge: a request becomes rows as a batch job has them, all judged at once by the same step."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import Row
from pipelines.engines.llm.ask import Answer, Ask, TooLong
from pipelines.engines.llm.constrained import ConstrainedJudge
from pipelines.judging.tasks import TASKS, Task
from pipelines.judging.templates import TEMPLATES, identity, load
from serve.combine import Order, combined, judged_order
from serve.errors import unexpected
from serve.refused import Refused
from serve.room import RETRY_AFTER, Room
from serve.schemas import JudgeRequest, JudgeResponse, TemplateFacts, Usage
from serve.settings import ServiceSettings

if TYPE_CHECKING:
    from serve.watch import Watch

API_NAMES: dict[str, Literal["pairwise", "absolute", "classify"]] = {
    "pairwise": "pairwise",
    "absolute": "absolute",
    "classification": "classify",
}
OnText = Callable[[str | None, Order, str], None]  # criterion, order, a further piece of the critique
WARM_UP = {"instruction": "Say yes.", "context": "", "responses": ["Yes."], "reference": "", "rubric": ""}


@dataclass(frozen=True)
class ModelFacts:
    """The model that judges.

    Attributes:
        name: as in `/v1/models`.
        digest: of its contents.
    """

    name: str
    digest: str


@dataclass(frozen=True)
class Judging:
    """A judge by its model id: the model, or an adapter of it on the same engine."""

    ask: Ask
    facts: ModelFacts


@dataclass
class Piece:
    """One judgment that a request needs; `row` holds it once it is made."""

    row: Row
    judging: Judging
    criterion: str | None = None
    order: Order = "given"
    cached_tokens: int = 0
    first_token: float | None = None  # seconds; known where the critique is read along
    started: float = field(default_factory=time.monotonic)


class JudgeService:
    """Judges requests. Belongs to one event loop.

    Args:
        ask: the model.
        settings: limits and defaults.
        model: what answers call it.
        watch: counts what happens.
        adapters: further judges on the same engine.

    Attributes:
        warm: a first judgment has been made.
    """

    def __init__(
        self,
        ask: Ask,
        settings: ServiceSettings,
        model: ModelFacts,
        watch: Watch,
        adapters: Sequence[Judging] = (),
    ) -> None:
        self.ask, self.settings, self.model, self.watch = ask, settings, model, watch
        self.judges = {one.facts.name: one for one in (Judging(ask, model), *adapters)}
        self.room = Room(settings.queue, watch)
        self.warm = False
        self.digests: dict[str, str] = {}

    async def judge(self, request: JudgeRequest, on_text: OnText | None = None, *, wait: bool = False) -> JudgeResponse:
        """Judge every criterion in every order the request asks for.

        Args:
            request: checked by its schema.
            on_text: called with each piece of a critique as it is written.
            wait: for room in the queue, as a batch does.

        Raises:
            Refused: with the status and code the client gets.
        """
        start = time.monotonic()
        pieces = self._pieces(request)
        task = request.judged
        await self.run(
            pieces,
            max_tokens=self._tokens(request.max_tokens),
            with_critique=request.with_critique,
            rubric_last=len(request.criteria or ()) > 1,
            on_text=on_text,
            wait=wait,
        )
        results = []
        for place in range(0, len(pieces), len(request.orders)):
            group = pieces[place : place + len(request.orders)]
            orders = [judged_order(piece.row, piece.order) for piece in group]
            results.append(combined(task, group[0].row["allowed"], group[0].criterion, orders))
            for number, piece in enumerate(group):
                # An inconsistent pair is one flip, and is counted with its first order.
                self.count(piece, consistent=results[-1].consistent if number == 0 else None)
        name, facts = pieces[0].row["template"], pieces[0].judging.facts
        return JudgeResponse(
            id=f"jdg_{uuid.uuid4().hex}",
            model=facts.name,
            task=API_NAMES[task.name],
            results=results,
            template=TemplateFacts(name=load(name).name, digest=self._digest(name)),
            model_digest=facts.digest,
            usage=usage(pieces),
            seconds=time.monotonic() - start,
        )

    async def run(
        self,
        pieces: Sequence[Piece],
        *,
        max_tokens: int,
        with_critique: bool,
        rubric_last: bool = False,
        on_text: OnText | None = None,
        wait: bool = False,
        timed: bool = True,
    ) -> None:
        """Make all judgments at once; the first that fails, and a cancelled caller, cancels them all.

        Args:
            pieces: changed in place.
            max_tokens: of a critique.
            with_critique: ask for one.
            rubric_last: put what criteria share first.
            on_text: as in `judge`.
            wait: as in `judge`.
            timed: give up after the time of a request.

        Raises:
            Refused: with the status and code the client gets.
        """
        step = ConstrainedJudge(max_tokens, with_critique=with_critique, rubric_last=rubric_last)
        async with self.room.take(len(pieces), wait=wait):
            try:
                async with asyncio.timeout(self.settings.timeout if timed else None):
                    await together([self._run(step, piece, on_text) for piece in pieces])
            except TimeoutError:
                self.watch.refused("timeout")
                said = f"not done within {self.settings.timeout:g} seconds"
                raise Refused(504, "timeout", said) from None
            except Exception as exc:
                raise await self._failure(exc) from None

    async def warm_up(self) -> None:
        """Make one short judgment, however long it takes: what is compiled or cached at first use is then ready.

        Raises:
            Refused: the model does not answer.
        """
        row = {**WARM_UP, "task": "classification", "allowed": ["Yes", "No"]}
        row["template"] = self._template(TASKS["classification"], None)
        await self.run(
            [Piece(row, self.judging(None))],
            max_tokens=min(8, self.settings.max_tokens),
            with_critique=True,
            timed=False,
        )
        self.warm = True

    async def check_health(self) -> None:
        """Raise an exception if the engine is dead."""
        if check := getattr(self.ask, "check_health", None):
            await check()

    def judging(self, name: str | None) -> Judging:
        """The judge of a model id; None is the engine's model.

        Raises:
            Refused: 404, it is not served here.
        """
        if found := self.judges.get(self.model.name if name is None else name):
            return found
        raise Refused(404, "model_not_found", "this model is not served here: see /v1/models", param="model")

    def count(self, piece: Piece, consistent: bool | None) -> None:
        """Tell the watch of a judgment that was made."""
        row = piece.row
        self.watch.judgment(
            task=row["task"],
            verdict=row["predicted"],
            parse_status=row["parse_status"],
            consistent=consistent,
            prompt_tokens=row["prompt_tokens"] or 0,
            output_tokens=row["output_tokens"] or 0,
            cached_tokens=piece.cached_tokens,
            seconds=row["latency"],
            first_token=piece.first_token,
        )

    async def _run(self, step: ConstrainedJudge, piece: Piece, on_text: OnText | None) -> None:
        async def ask(prompt: str, **settings: Any) -> Answer:
            answer = await piece.judging.ask(prompt, **settings)
            piece.cached_tokens += answer.cached_tokens  # which no column of a judged row holds
            return answer

        def heard(text: str) -> None:
            if piece.first_token is None:
                piece.first_token = time.monotonic() - piece.started
            assert on_text is not None
            on_text(piece.criterion, piece.order, text)

        piece.started = time.monotonic()
        await step.run(piece.row, ask, heard if on_text else None)

    async def _failure(self, exc: Exception) -> Refused:
        """What a failed judgment tells the client."""
        if isinstance(exc, Refused):
            return exc
        if isinstance(exc, TooLong):
            return Refused(422, exc.reason, exc.detail)  # numbers of tokens, no text
        if isinstance(exc, RowFailure):
            return Refused(422, exc.reason, "the model cannot answer this request")
        if isinstance(exc, UserError):
            return Refused(422, "template", "the template cannot be used for this request", param="template")
        try:
            await self.check_health()
        except Exception:
            unexpected(exc)
            return Refused(503, "engine_down", "the model is not available", retry_after=RETRY_AFTER)
        return unexpected(exc)

    def _pieces(self, request: JudgeRequest) -> list[Piece]:
        """The rows of a request: of each criterion, one for each order."""
        judging = self.judging(request.model)
        for name, text in request.texts():
            if len(text) > self.settings.field_characters:
                said = f"{name} has more than {self.settings.field_characters} characters"
                raise Refused(422, "field_too_long", said, param=name)
        task = request.judged
        shared = {
            "task": task.name,
            "instruction": request.asked,
            "context": request.context or "",
            "reference": request.reference or "",
            "template": self._template(task, request.template),
        }
        rubrics: list[tuple[str | None, str | None, list[str] | None]]
        rubrics = [(one.name, one.rubric, one.allowed) for one in request.criteria or ()]
        return [
            Piece(
                {
                    **shared,
                    "responses": request.shown if order == "given" else request.shown[::-1],
                    "rubric": rubric or "",
                    "allowed": task.listed(allowed or request.allowed or task.verdicts),
                },
                judging,
                name,
                order,
            )
            for name, rubric, allowed in rubrics or [(None, request.rubric, None)]
            for order in request.orders
        ]

    def _tokens(self, wanted: int | None) -> int:
        if wanted is not None and wanted > self.settings.max_tokens:
            said = f"max_tokens is at most {self.settings.max_tokens} here"
            raise Refused(422, "invalid_request", said, param="max_tokens")
        return wanted or self.settings.max_tokens

    def _template(self, task: Task, wanted: str | None) -> str:
        """The template that was asked for, or the service's for the task."""
        if wanted:
            return wanted
        ours = f"{task.name}_{self.settings.template}"
        if ours in TEMPLATES.names():
            return ours
        fits = load(self.settings.template).task == task.name  # the settings may name a single template
        return self.settings.template if fits else task.template

    def _digest(self, name: str) -> str:
        if name not in self.digests:
            self.digests[name] = identity(name)[name]
        return self.digests[name]


async def together(jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all at once; the first failure cancels the others and is raised as it is."""
    failed: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except* Exception as several:
        failed = several.exceptions[0]
    if failed is not None:
        raise failed


def usage(pieces: Sequence[Piece]) -> Usage:
    """Tokens of all judgments together."""
    return Usage(
        prompt_tokens=sum(piece.row["prompt_tokens"] or 0 for piece in pieces),
        cached_tokens=sum(piece.cached_tokens for piece in pieces),
        output_tokens=sum(piece.row["output_tokens"] or 0 for piece in pieces),
    )

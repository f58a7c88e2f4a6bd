"""What the arena takes and gives. Nothing that is given before a vote tells who judges."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve.arena.ratings.vote import Choice

_STRICT = ConfigDict(strict=True, extra="forbid")


class BattleRequest(BaseModel):
    """A sample, or the visitor's own texts."""

    model_config = _STRICT

    sample: str | None = Field(None, max_length=200)
    instruction: str = ""
    context: str = ""
    response: str = ""
    rubric: str = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> BattleRequest:
        own = self.instruction.strip() and self.response.strip()
        if self.sample is None and not own:
            raise ValueError("give instruction and response, or a sample")
        if self.sample is not None and (self.instruction or self.response or self.context or self.rubric):
            raise ValueError("give either a sample or texts")
        return self


class SampleResponse(BaseModel):
    """A sample's texts."""

    sample: str
    instruction: str
    context: str
    response: str
    rubric: str


class Side(BaseModel):
    """What one of the two said."""

    verdict: str
    critique: str


class BattleResponse(BaseModel):
    """Both judgments, and the token of the battle."""

    battle: str
    scale: list[str]
    a: Side
    b: Side


class VoteRequest(BaseModel):
    """A vote; `website` is a field that people do not see."""

    model_config = _STRICT

    battle: str = Field(max_length=500)
    choice: Choice
    website: str = Field("", max_length=500)


class Named(BaseModel):
    """Who it was, and its Elo before and after."""

    judge: str
    elo_before: float
    elo: float


class VoteResponse(BaseModel):
    """The acknowledgement, once the vote is stored."""

    vote: int
    repeated: bool
    a: Named
    b: Named


class Health(BaseModel):
    """The database answers."""

    status: Literal["alive"] = "alive"

"""Settings of the arena: one YAML file, serve/arena/config.yaml where none is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from pipelines.config import apply_override
from pipelines.core.determinism import digest
from pipelines.core.environment import check_filled, filled
from pipelines.core.errors import UserError
from pipelines.core.yaml_model import OPERATIONAL, Location, Strict, parse_model, read_yaml
from pipelines.engines import models
from pipelines.engines.config import EngineConfig
from pipelines.engines.endpoint_config import VARIABLE, EndpointConfig
from pipelines.judging.tasks import ABSOLUTE
from pipelines.judging.templates import TEMPLATES, identity, load

PACKAGED = Path(__file__).with_name("config.yaml")


class ServiceConfig(Strict):
    """A judge that `openselene serve` or Ray Serve serves."""

    url: str = Field(pattern=r"^https?://[^@\s]+$")
    """Its address, such as http://127.0.0.1:8000."""
    model: str | None = None
    """Which of its judges, as in its `/v1/models`; null: its own."""
    api_key_env: Annotated[str | None, OPERATIONAL] = None
    """Name of the environment variable that holds the key; null sends none."""

    @field_validator("api_key_env", mode="before")
    @classmethod
    def _name_of_variable(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and VARIABLE.fullmatch(value)):
            return value
        # Not pydantic's own error, which would quote the value: it may be the key.
        raise UserError("api_key_env is not the name of an environment variable", fix="a name in capitals")


class JudgeSpec(Strict):
    """One judge: an engine of this process, a judge service, or an OpenAI-compatible endpoint."""

    engine: EngineConfig | None = None
    """A model in this process. Judges with the same keys here share one engine."""
    service: ServiceConfig | None = None
    endpoint: EndpointConfig | None = None
    template: str = "original"
    """Prompt template: `original` and `compact` mean `absolute_original` and `absolute_compact`."""
    max_tokens: int = Field(512, ge=1)
    """Most tokens of a critique, or of an endpoint's whole answer."""

    @model_validator(mode="after")
    def _one_kind(self) -> JudgeSpec:
        if sum(kind is not None for kind in (self.engine, self.service, self.endpoint)) != 1:
            raise ValueError("give one of engine, service and endpoint")
        return self

    @property
    def wording(self) -> str:
        """The template's full name.

        Raises:
            UserError: there is none of that name for scores.
        """
        ours = f"{ABSOLUTE.name}_{self.template}"
        name = ours if ours in TEMPLATES.names() else self.template
        if load(name).task != ABSOLUTE.name:
            raise UserError(f"template '{name}' is not for scores", where="judges")
        return name

    def known_as(self, name: str) -> list[str]:
        """Names by which a critique would give the judge away: its own, and its model's."""
        model = (self.engine or self.service or self.endpoint).model or ""  # type: ignore[union-attr]
        return [name] if model in ("", models.EMBEDDED) else [name, model.rstrip("/").rpartition("/")[2]]

    def fingerprint(self, scale: Sequence[str]) -> str:
        """What the judge is: model, settings and wording. Keys that change nothing of its answers do not count."""
        kind = self.engine or self.service or self.endpoint
        assert kind is not None
        contents = models.identity(self.engine.model) if self.engine else ""
        return digest(
            type(kind).__name__, kind.identity(), contents, identity(self.wording), self.max_tokens, list(scale)
        )


class LimitsConfig(Strict):
    """What one visitor may do, by address."""

    battles_per_minute: int = Field(6, ge=1)
    """Battles asked for."""
    votes_per_minute: int = Field(20, ge=1)
    """Votes."""
    pages_per_minute: int = Field(240, ge=1)
    """Everything else."""
    concurrent_battles: int = Field(2, ge=1)
    """Battles of one visitor that are judged at once."""


class ArenaConfig(Strict):
    """All settings of an arena."""

    judges: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w .()+-]{0,63}$")], JudgeSpec] = Field(min_length=2)
    """Name, as it is shown after a vote, to judge. A judge that is taken out fights no more; its battles stay."""
    database: str = "sqlite:///out/arena/arena.db"
    """`sqlite:///PATH` or `postgresql://USER@HOST/NAME`; `${NAME}` stands for an environment variable."""
    samples: list[str] = Field(default_factory=lambda: ["sample_absolute"])
    """Sources (by name, or a YAML file) whose prompts and responses a visitor may have; [] leaves that out."""
    most_samples: int = Field(1000, ge=1)
    """Samples kept in memory, those of the smallest hashes."""
    data_root: Location | None = None
    """Folder of the sources' files."""
    scale: list[str] = Field(default_factory=lambda: list(ABSOLUTE.verdicts))
    """The scores that judges choose from."""
    seed: int = 0
    """Of the intervals on the leaderboard."""
    resamples: int = Field(500, ge=100, le=10_000)
    """Resampled sets of votes behind an interval."""
    refresh_s: float = Field(5.0, ge=0)
    """Seconds for which a computed leaderboard is shown, though there may be new votes."""
    limits: LimitsConfig = LimitsConfig()
    battles_at_once: int = Field(16, ge=1)
    """Battles that are judged at once; more are refused with 503."""
    battle_s: float = Field(180.0, gt=0)
    """Seconds both judges have; a judge that takes longer has failed that battle."""
    vote_minutes: float = Field(60.0, gt=0)
    """Minutes within which a battle can be voted on."""
    beat_s: float = Field(0.5, ge=0)
    """A battle is shown at a multiple of so many seconds after it was asked for: its time tells less of the judges."""
    text_characters: int = Field(20_000, ge=100)
    """Most characters of one text of a visitor."""
    proxies: int = Field(0, ge=0)
    """Proxies of your own in front. The visitor's address is then the one that the outermost of them adds to
    X-Forwarded-For. With 0 the header is not believed."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8001, ge=0, le=65535)
    """0 takes a free one."""

    @field_validator("scale")
    @classmethod
    def _is_a_scale(cls, value: list[str]) -> list[str]:
        if ABSOLUTE.problem_of_verdicts(value):
            raise ValueError(f"must be {ABSOLUTE.suitable}")
        return value


def load_arena(path: Path, overrides: Sequence[str] = ()) -> ArenaConfig:
    """The config of an arena.

    Raises:
        UserError: the file is missing, or a key or value is not one of the config's.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError("the config is not a mapping of keys", where=str(path))
    for override in overrides:
        apply_override(raw, override)
    if "database" in raw:
        raw["database"] = filled(raw["database"])
        check_filled(raw["database"], "database")
    config = parse_model(ArenaConfig, raw, where=str(path))
    if len({name.casefold() for name in config.judges}) < len(config.judges):
        raise UserError("two judges differ in case only", where=f"{path}: judges")
    for judge in config.judges.values():
        _ = judge.wording
    return config

"""A mixture file: which sources are in, and by which score their rows are filtered, each with the reason.

`openselene ablate` writes it from its evidence, a person may write or change it, and `curation.mixture` takes it as it
stands. Rows of a source that is out are read, cleaned and scored like all others, and leave in `select` with the reason
`excluded_by_mixture`: so nothing is lost, and another mixture scores nothing again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
import yaml
from pydantic import Field, field_validator, model_validator

from pipelines.core import storage
from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import OK, Row
from pipelines.core.stage import Filter
from pipelines.core.storage import Place
from pipelines.core.yaml_model import Strict, parse_model, parse_yaml
from pipelines.curation.scores import AFTER_CRITIQUES, known, needs_reward, reads_of, require_score, score_of

EXCLUDED = "excluded_by_mixture"
HEAD = """\
# Which sources are in the training set, and how their rows are filtered.
# curation.mixture: {name}
"""


class ScoreFilter(Strict):
    """Rows of one source that leave for their score."""

    score: str = "reward"
    """reward, objective_N, margin, length or consistency."""
    drop: Literal["lowest", "highest"] = "lowest"
    """Which end leaves."""
    quantile: float | None = Field(None, gt=0, lt=1)
    """Share of the source's scored rows that leaves."""
    value: float | None = None
    """Or: the score from which on rows stay."""

    @field_validator("score")
    @classmethod
    def _known(cls, score: str) -> str:
        return known(score)

    @model_validator(mode="after")
    def _one(self) -> ScoreFilter:
        if (self.quantile is None) == (self.value is None):
            raise ValueError("give either a quantile or a value")
        return self

    @property
    def why(self) -> str:
        """Why a row leaves."""
        return f"{self.score}_{'below' if self.drop == 'lowest' else 'above'}_threshold"


class Chosen(Strict):
    """One source of a mixture."""

    include: bool
    """Whether its rows are trained on."""
    filter: ScoreFilter | None = None
    """Rows of it that leave; null keeps all."""
    why: str = ""
    """The evidence, for a reader."""


class Mixture(Strict):
    """What is trained on."""

    sources: dict[str, Chosen] = Field(min_length=1)
    """Source -> whether and how; each source of the config must be named."""

    def only(self, critiqued: bool) -> dict[str, Chosen]:
        """The sources with filters that need critiques, or with all else there is to say of a source.

        A source that is out needs no filter: what its score would be made from may not be there.
        """
        plain = {name: one.model_copy(update={"filter": None}) for name, one in self.sources.items()}
        own = {name: one if one.include else plain[name] for name, one in self.sources.items()}
        late = {name: one for name, one in own.items() if one.filter and one.filter.score in AFTER_CRITIQUES}
        return late if critiqued else {name: plain[name] if name in late else one for name, one in own.items()}


class InMixture(Filter):
    """Filters rows that a mixture leaves out.

    Args:
        sources: of the mixture.
    """

    name = "mixture"
    reads: tuple[str, ...] = ("source", "task", "allowed", "verdict", "responses")

    def __init__(self, sources: Mapping[str, Chosen]) -> None:
        self.sources = dict(sources)
        scores = {one.filter.score for one in self.sources.values() if one.filter}
        more = dict.fromkeys(column for score in sorted(scores) for column in reads_of(score))
        self.reads = (*type(self).reads, *more)
        self.bounds = {
            name: one.filter.value
            for name, one in self.sources.items()
            if one.filter is not None and one.filter.value is not None
        }

    def depends(self) -> dict[str, Any]:
        return {"sources": {name: one.model_dump(exclude={"why"}) for name, one in self.sources.items()}}

    def open(self, source: Place) -> None:
        """Find the scores at the quantiles."""
        for name, one in self.sources.items():
            if one.include and one.filter and one.filter.quantile is not None:
                scores = scores_in(source, name, one.filter.score, self.reads)
                if scores:
                    self.bounds[name] = threshold(scores, one.filter)

    def reason(self, row: Row) -> str | None:
        one = self.sources.get(row["source"])
        if one is None:
            return None
        if not one.include:
            return EXCLUDED
        if one.filter is None or (bound := self.bounds.get(row["source"])) is None:
            return None
        score = score_of(row, one.filter.score)
        return None if score is None or stays(score, bound, one.filter) else one.filter.why


def in_mixture(mixture: Mixture | None) -> tuple[list[InMixture], list[InMixture]]:
    """The stage before critiques are written, and the one after, where there is something for them to do."""
    early, late = (mixture.only(critiqued) if mixture else {} for critiqued in (False, True))
    return [InMixture(early)] if early else [], [InMixture(late)] if late else []


def stays(score: float, bound: float, how: ScoreFilter) -> bool:
    """Whether a row with this score stays."""
    return score >= bound if how.drop == "lowest" else score <= bound


def threshold(scores: Collection[float], how: ScoreFilter) -> float:
    """The score from which on rows stay, at the quantile of these scores: linear between two rows."""
    assert how.quantile is not None
    share = how.quantile if how.drop == "lowest" else 1 - how.quantile
    return float(np.quantile(list(scores), share))


def scores_in(rows: Place, source: str, score: str, reads: Collection[str]) -> list[float]:
    """The scores of a source's rows that have one."""
    wanted = (pc.field("source") == source) & (pc.field("status") == OK)
    found = []
    for batch in storage.read_batches(rows, list(reads), keep=wanted):
        for row in batch.to_pylist():
            try:
                found.append(score_of(row, score))
            except RowFailure:
                continue  # `reason` makes it an error
    return [one for one in found if one is not None]


def load_mixture(place: Place | None) -> Mixture | None:
    """The mixture of a file; None where none is named.

    Raises:
        UserError: there is no such file, or it is not well formed.
    """
    if place is None:
        return None
    where = f"curation.mixture {place}"
    if not storage.exists(place):
        raise UserError("no such file", where=where, fix="openselene ablate writes one")
    if storage.is_folder(place):
        raise UserError("a folder, not a file", where=where, fix="name the file that openselene ablate writes in it")
    raw = parse_yaml(storage.read_text(place), where)
    if not isinstance(raw, dict):
        raise UserError("not a mapping of keys", where=where)
    return parse_model(Mixture, raw, where=where)


def to_yaml(mixture: Mixture, name: str) -> str:
    """The text of a mixture file."""
    body = yaml.safe_dump(mixture.model_dump(exclude_none=True), sort_keys=False, allow_unicode=True, width=110)
    return HEAD.format(name=name) + body


def check_mixture(mixture: Mixture, tasks: Mapping[str, str], rewarded: bool, thresholds: Collection[str]) -> None:
    """Check a mixture against the sources that are read.

    Args:
        mixture: of the config.
        tasks: source -> its task.
        rewarded: whether a reward model scores the rows.
        thresholds: the sources that `curation.reward.thresholds` names.

    Raises:
        UserError: a source is not named, all are out, or a score does not suit a source.
    """
    if missing := [name for name in tasks if name not in mixture.sources]:
        fix = "name it there, with include: true or false"
        raise UserError(f"says nothing of source '{missing[0]}'", where="curation.mixture", fix=fix)
    if not any(mixture.sources[name].include for name in tasks):
        raise UserError("leaves no source in", where="curation.mixture")
    for name, task in tasks.items():
        one, where = mixture.sources[name], f"curation.mixture: sources.{name}.filter"
        if not (one.include and one.filter):
            continue
        require_score(one.filter.score, task, where)
        if needs_reward(one.filter.score) and not rewarded:
            raise UserError("there is no reward model", where=where, fix="enable curation.reward")
        if name in thresholds:
            fix = "keep one of them"
            raise UserError("so does curation.reward.thresholds", where=where, fix=fix)

"""Which sources are filtered, each by which score; and why another is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.core.errors import UserError
from pipelines.curation.config import CurationConfig
from pipelines.curation.scores import needs_reward, require_score
from pipelines.experiments.ablation.config import FilterConfig


@dataclass(frozen=True)
class Scored:
    """The filters that are tried.

    Attributes:
        by: source -> the score that filters it.
        skipped: source -> why no filter of it is tried.
    """

    by: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def scored(tasks: Mapping[str, str], curation: CurationConfig, config: FilterConfig) -> Scored:
    """The score of each source, where it can have one.

    Args:
        tasks: source -> its task.
        curation: of the rows, with or without rewards.
        config: of the filter.

    Raises:
        UserError: a source that the config names is not there, or cannot have the score that is asked for.
    """
    if not config.enabled:
        return Scored()
    named = {*config.scores, *(config.sources or [])}
    for name in sorted(named - {*tasks}):
        raise UserError(f"no source '{name}'", where="ablation.filter", fix=f"known: {', '.join(tasks)}")
    found = Scored()
    for name, task in tasks.items():
        if config.sources is not None and name not in config.sources:
            continue
        where = f"ablation.filter.scores.{name}" if name in config.scores else "ablation.filter.score"
        score = config.scores.get(name, config.score)
        try:
            require(score, name, task, curation, where)
        except UserError as refused:
            if name in named:
                raise
            found.skipped[name] = f"no filter by {score} is tried: {refused.what}"
        else:
            found.by[name] = score
    return found


def require(score: str, name: str, task: str, curation: CurationConfig, where: str) -> None:
    """Refuse a score that a source cannot have, or that curation would not take.

    Raises:
        UserError: naming the key.
    """
    require_score(score, task, where)
    if needs_reward(score) and not curation.reward.enabled:
        raise UserError(f"there is no reward model, so no {score}", where=where, fix="enable curation.reward")
    if name in curation.reward.thresholds:
        raise UserError(
            f"curation.reward.thresholds filters {name} already", where=where, fix=f"take {name} out of one of them"
        )

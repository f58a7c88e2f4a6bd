"""Which trials an ablation is made of: each source alone, all together, all but one; filtered and random subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.core.errors import RowFailure
from pipelines.core.records import Row
from pipelines.curation.mixture import ScoreFilter, stays, threshold
from pipelines.curation.scores import score_of
from pipelines.experiments.ablation.config import AblationConfig
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.experiments.trials.trial import Trial, draw, trial

Pool = Mapping[str, Sequence[Row]]
FEWEST = 8  # pairs of a filtered subset


@dataclass(frozen=True)
class FilterArm:
    """A filter of one source: the trials of what stays, and of random subsets of equal size, seed by seed."""

    how: ScoreFilter
    bound: float
    size: int
    filtered: tuple[Trial, ...]
    random: tuple[Trial, ...]


@dataclass(frozen=True)
class Arms:
    """All trials of an ablation.

    Attributes:
        alone: source -> its trials, seed by seed.
        all: of all sources together; empty where none are left out.
        without: source -> those of all others.
        filters: source -> its filters.
        short: source -> why it has no trials.
    """

    alone: dict[str, tuple[Trial, ...]] = field(default_factory=dict)
    all: tuple[Trial, ...] = ()
    without: dict[str, tuple[Trial, ...]] = field(default_factory=dict)
    filters: dict[str, list[FilterArm]] = field(default_factory=dict)
    short: dict[str, str] = field(default_factory=dict)

    def trials(self) -> list[Trial]:
        """All of them, each once, in the order in which they decide most."""
        arms = [arm for found in self.filters.values() for arm in found]
        groups = [*self.alone.values(), *(one for arm in arms for one in (arm.filtered, arm.random)), self.all]
        return list(dict.fromkeys(one for group in [*groups, *self.without.values()] for one in group))


def arms_of(pool: Pool, trials: TrialsConfig, ablation: AblationConfig) -> Arms:
    """The trials that a pool allows.

    Args:
        pool: source -> its pairs.
        trials: their size and seeds.
        ablation: what is tried.
    """
    ids = {source: [str(row["row_id"]) for row in rows] for source, rows in pool.items()}
    short = {
        source: f"{len(rows)} usable rows in the pool, {trials.pairs} are needed"
        for source, rows in ids.items()
        if len(rows) < trials.pairs
    }
    usable = [source for source in ids if source not in short]
    alone = {source: alone_of(ids[source], trials.pairs, trials.seeds) for source in usable}
    everything: tuple[Trial, ...] = ()
    without: dict[str, tuple[Trial, ...]] = {}
    if ablation.left_out and len(usable) > 2:
        everything = together(ids, usable, ablation.mixture_pairs, trials.seeds)
        without = {
            source: together(ids, [one for one in usable if one != source], ablation.mixture_pairs, trials.seeds)
            for source in usable
        }
    filters = {source: found for source in usable if (found := filters_of(pool[source], source, trials, ablation))}
    return Arms(alone, everything, without, filters, short)


def alone_of(rows: Sequence[str], count: int, seeds: Sequence[int]) -> tuple[Trial, ...]:
    """A trial for each seed on `count` of some rows."""
    return tuple(trial(own, seed) for own, seed in zip(draw(rows, count, seeds), seeds, strict=True))


def together(
    ids: Mapping[str, Sequence[str]], sources: Sequence[str], count: int, seeds: Sequence[int]
) -> tuple[Trial, ...]:
    """A trial for each seed on equal parts of several sources, `count` pairs in all.

    What does not divide evenly goes to the first sources, so that every such training has equally many.
    """
    left, rows = count, [list[str]() for _ in seeds]
    for number, source in enumerate(sources):
        share = min(len(ids[source]), -(-left // (len(sources) - number)))
        for all_rows, own in zip(rows, draw(ids[source], share, seeds), strict=True):
            all_rows += own
        left -= share
    return tuple(trial(own, seed) for own, seed in zip(rows, seeds, strict=True))


def filters_of(rows: Sequence[Row], source: str, trials: TrialsConfig, ablation: AblationConfig) -> list[FilterArm]:
    """The filters of a source: none where its rows have no such score, or too few would be left."""
    config = ablation.filter
    if not config.enabled or (config.sources is not None and source not in config.sources):
        return []
    name = config.scores.get(source, config.score)
    try:
        scores = {str(row["row_id"]): score for row in rows if (score := score_of(row, name)) is not None}
    except RowFailure:
        return []
    if len(set(scores.values())) < 2:
        return []
    found = []
    for quantile in config.quantiles:
        how = ScoreFilter(score=name, drop=config.drop, quantile=quantile)
        bound = threshold(list(scores.values()), how)
        ids = [str(row["row_id"]) for row in rows]
        left = [row for row in ids if row not in scores or stays(scores[row], bound, how)]
        # Seeds with rows in common are less evidence than small trainings (`effects.py`).
        size = min(trials.pairs, len(left), max(FEWEST, len(left) // len(trials.seeds)))
        if len(left) < len(ids) and size >= FEWEST:
            arms = (alone_of(some, size, trials.seeds) for some in (left, ids))
            found.append(FilterArm(how, bound, size, *arms))
    return found

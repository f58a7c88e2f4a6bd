"""Which trials an ablation is made of: each source alone, all together, all but one; filtered and random subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.core.errors import RowFailure
from pipelines.core.records import Row
from pipelines.curation.mixture import ScoreFilter, stays, threshold
from pipelines.curation.scores import score_of
from pipelines.experiments.ablation.config import AblationConfig, FilterConfig
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
        unfiltered: source -> why it has no filter.
        several: pairs of a trial on several sources.
    """

    alone: dict[str, tuple[Trial, ...]] = field(default_factory=dict)
    all: tuple[Trial, ...] = ()
    without: dict[str, tuple[Trial, ...]] = field(default_factory=dict)
    filters: dict[str, list[FilterArm]] = field(default_factory=dict)
    short: dict[str, str] = field(default_factory=dict)
    unfiltered: dict[str, str] = field(default_factory=dict)
    several: int = 0

    def trials(self) -> list[Trial]:
        """All of them, each once, in the order in which they decide most."""
        arms = [arm for found in self.filters.values() for arm in found]
        groups = [*self.alone.values(), *(one for arm in arms for one in (arm.filtered, arm.random)), self.all]
        return list(dict.fromkeys(one for group in [*groups, *self.without.values()] for one in group))


def arms_of(pool: Pool, trials: TrialsConfig, ablation: AblationConfig, scores: Mapping[str, str]) -> Arms:
    """The trials that a pool allows.

    Args:
        pool: source -> its pairs.
        trials: their size and seeds.
        ablation: what is tried.
        scores: source -> the score by which it is filtered.
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
    several = 0
    if ablation.left_out and len(usable) > 2:
        others = {source: {one: ids[one] for one in usable if one != source} for source in usable}
        # Equal pairs: as many as there are when the source with most rows is the one left out.
        several = min(ablation.mixture_pairs, *(sum(map(len, own.values())) for own in others.values()))
        everything = together({source: ids[source] for source in usable}, several, trials.seeds)
        without = {source: together(own, several, trials.seeds) for source, own in others.items()}
    filters: dict[str, list[FilterArm]] = {}
    unfiltered: dict[str, str] = {}
    for source in (one for one in usable if one in scores):
        found, why = filters_of(pool[source], scores[source], trials, ablation.filter)
        if found:
            filters[source] = found
        else:
            unfiltered[source] = f"no filter by {scores[source]} is tried: {why}"
    return Arms(alone, everything, without, filters, short, unfiltered, several)


def alone_of(rows: Sequence[str], count: int, seeds: Sequence[int]) -> tuple[Trial, ...]:
    """A trial for each seed on `count` of some rows."""
    return tuple(trial(own, seed) for own, seed in zip(draw(rows, count, seeds), seeds, strict=True))


def together(ids: Mapping[str, Sequence[str]], count: int, seeds: Sequence[int]) -> tuple[Trial, ...]:
    """A trial for each seed on equal parts of several sources, `count` pairs in all, which they must have.

    What a source lacks the others make up: the shortest one gives first. What does not divide evenly goes to the first.
    """
    left, rows = count, [list[str]() for _ in seeds]
    for number, source in enumerate(sorted(ids, key=lambda one: len(ids[one]))):
        share = min(len(ids[source]), -(-left // (len(ids) - number)))
        for all_rows, own in zip(rows, draw(ids[source], share, seeds), strict=True):
            all_rows += own
        left -= share
    return tuple(trial(own, seed) for own, seed in zip(rows, seeds, strict=True))


def filters_of(
    rows: Sequence[Row], name: str, trials: TrialsConfig, config: FilterConfig
) -> tuple[list[FilterArm], str]:
    """The filters of a source; where there are none, why.

    Rows whose score cannot be made are in neither arm: curation would take them for errors.
    """
    scores: dict[str, float | None] = {}
    for row in rows:
        try:
            scores[str(row["row_id"])] = score_of(row, name)
        except RowFailure:
            continue
    known = [score for score in scores.values() if score is not None]
    if len(set(known)) < 2:
        return [], "its rows have no such score" if not known else f"all its rows have {known[0]:g}"
    found = []
    for quantile in config.quantiles:
        how = ScoreFilter(score=name, drop=config.drop, quantile=quantile)
        bound = threshold(known, how)
        ids = list(scores)
        left = [row for row, score in scores.items() if score is None or stays(score, bound, how)]
        # Seeds with rows in common are less evidence than small trainings (`effects.py`).
        size = min(trials.pairs, len(left), max(FEWEST, len(left) // len(trials.seeds)))
        if len(left) < len(ids) and size >= FEWEST:
            arms = (alone_of(some, size, trials.seeds) for some in (left, ids))
            found.append(FilterArm(how, bound, size, *arms))
    return found, f"no quantile leaves {FEWEST} rows or more, and not all"

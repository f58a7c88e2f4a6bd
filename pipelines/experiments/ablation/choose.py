"""Decide: which sources are in, and whether the filter of one is worth it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipelines.curation.mixture import Chosen, Mixture
from pipelines.evaluation.scoring.intervals import Measured
from pipelines.experiments.ablation.arms import Arms, FilterArm
from pipelines.experiments.ablation.config import RuleConfig
from pipelines.experiments.ablation.rule import Decided, beyond, decide, said
from pipelines.experiments.trials.effects import Gain, Tables, gains
from pipelines.experiments.trials.trial import BASE, Trial, shared

Gains = dict[str, Gain]
FEW = "none is left out of fewer than three sources with enough rows"


@dataclass(frozen=True)
class FilterGains:
    """A filter against random subsets of equal size, and against the base model."""

    arm: FilterArm
    over_random: Gains
    over_base: Gains


@dataclass(frozen=True)
class Evidence:
    """All gains of an ablation, each by task.

    Attributes:
        alone: source -> of its trials over the base model.
        left_out: source -> of all sources over all but this.
        filters: source -> of its filters.
    """

    alone: dict[str, Gains]
    left_out: dict[str, Gains]
    filters: dict[str, list[FilterGains]]


@dataclass(frozen=True)
class Choice:
    """What an ablation decides.

    Attributes:
        sources: by the source as it is.
        filters: source -> the filter that is better than chance, and why; None where none is.
        repaired: source -> the decision by the filtered source, where it has such a filter.
        mixture: what follows.
    """

    sources: dict[str, Decided]
    filters: dict[str, tuple[FilterGains | None, str]]
    repaired: dict[str, Decided]
    mixture: Mixture


def evidence(arms: Arms, outcome: Callable[[Trial], Tables], tasks: Mapping[str, list[str]]) -> Evidence:
    """Work the gains out.

    Args:
        arms: the trials.
        outcome: of a trial, what the judge made of the held-out rows.
        tasks: task -> its held-out benchmarks.
    """
    base = [outcome(BASE)]
    everything = [outcome(one) for one in arms.all]
    return Evidence(
        {
            source: gains([outcome(one) for one in mine], base, tasks, shared(mine))
            for source, mine in arms.alone.items()
        },
        {
            source: gains(everything, [outcome(one) for one in others], tasks, max(shared(arms.all), shared(others)))
            for source, others in arms.without.items()
        },
        {
            source: [
                FilterGains(
                    arm,
                    gains(
                        [outcome(one) for one in arm.filtered],
                        [outcome(one) for one in arm.random],
                        tasks,
                        max(shared(arm.filtered), shared(arm.random)),
                    ),
                    gains([outcome(one) for one in arm.filtered], base, tasks, shared(arm.filtered)),
                )
                for arm in found
            ]
            for source, found in arms.filters.items()
        },
    )


def choose(found: Evidence, short: Mapping[str, str], rule: RuleConfig) -> Choice:
    """Apply the rule.

    A filter is taken where it beats random subsets by more than chance, all filters of all sources counted; of several,
    the one with the largest gain. Then the source is judged by what the filter leaves of it.
    """
    left_out = rule.evidence == "left_out"
    by_source = found.left_out if left_out else found.alone
    what = "all sources over all but it" if left_out else "alone over the base model"
    sources = decide({source: gain[rule.by].measured for source, gain in by_source.items()}, rule, what)
    # No other evidence takes the place of what the rule asks for.
    sources = {source: sources.get(source, Decided("undecided", f"{what}: {FEW}")) for source in found.alone}
    sources |= {source: Decided("undecided", why) for source, why in short.items()}
    filters = best_filters(found.filters, rule)
    taken = {source: one for source, (one, _) in filters.items() if one}
    repaired = decide(
        {source: one.over_base[rule.by].measured for source, one in taken.items()}, rule, "filtered over the base model"
    )
    return Choice(sources, filters, repaired, mixture_of(sources, filters, repaired, rule))


def best_filters(found: Mapping[str, list[FilterGains]], rule: RuleConfig) -> dict[str, tuple[FilterGains | None, str]]:
    """Source -> the filter to take, or None, and the evidence."""
    tested: dict[str, Measured] = {
        f"{source}\n{number}": one.over_random[rule.by].measured
        for source, many in found.items()
        for number, one in enumerate(many)
    }
    sure = beyond(tested, rule)
    chosen: dict[str, tuple[FilterGains | None, str]] = {}
    for source, many in found.items():
        told = [
            (one, sure[f"{source}\n{number}"], one.over_random[rule.by].measured) for number, one in enumerate(many)
        ]
        better = [(one, gain) for one, yes, gain in told if yes and gain.value is not None and gain.value > 0]
        best = max(better, key=lambda pair: pair[1].value or 0.0)[0] if better else None
        why = "; ".join(
            said(gain, yes, rule, f"{one.arm.how.score} without the {one.arm.how.drop} {one.arm.how.quantile:.0%}")
            for one, yes, gain in told
        )
        chosen[source] = (best, why)
    return chosen


def mixture_of(
    sources: Mapping[str, Decided],
    filters: Mapping[str, tuple[FilterGains | None, str]],
    repaired: Mapping[str, Decided],
    rule: RuleConfig,
) -> Mixture:
    """The mixture file's content."""
    found = {}
    for source, decided in sources.items():
        last = repaired.get(source, decided)
        include = last.verdict == "include" or (last.verdict == "undecided" and rule.undecided == "include")
        best = filters[source][0] if source in filters else None
        why = f"{last.verdict}; {last.why}"
        if best:
            why += f"; the source as it is: {decided.verdict}; filter over random: {filters[source][1]}"
        found[source] = Chosen(include=include, filter=best.arm.how if best and include else None, why=why)
    return Mixture(sources=found)

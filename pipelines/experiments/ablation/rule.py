"""From gains to decisions, by a rule that is fixed in the config: include, exclude, or undecided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipelines.evaluation.scoring.comparison import more_than_chance
from pipelines.evaluation.scoring.intervals import Measured
from pipelines.experiments.ablation.config import RuleConfig

Verdict = Literal["include", "exclude", "undecided"]


@dataclass(frozen=True)
class Decided:
    """A decision and its evidence in a sentence."""

    verdict: Verdict
    why: str


def decide(gains: Mapping[str, Measured], rule: RuleConfig, of: str) -> dict[str, Decided]:
    """Decide about each source.

    Args:
        gains: source -> the gain that decides.
        rule: of the config.
        of: what the gain is of, in words.
    """
    sure = beyond(gains, rule)
    return {
        source: Decided(verdict_of(gain, sure[source]), said(gain, sure[source], rule, of))
        for source, gain in gains.items()
    }


def beyond(gains: Mapping[str, Measured], rule: RuleConfig) -> dict[str, bool]:
    """Which gains are above `least`, or below its negative, by more than chance, all of them counted."""
    return more_than_chance({name: shifted(gain, rule.least) for name, gain in gains.items()}, rule.error)


def shifted(gain: Measured, least: float) -> Measured:
    """A gain as its distance beyond `least` on its own side of 0; one within it is no evidence."""
    if gain.value is None or gain.bounds is None or not least:
        return gain
    if abs(gain.value) <= least:
        return Measured(gain.value, None, f"within {least:g} of 0")
    by, bounds = (least if gain.value > 0 else -least), gain.bounds

    def moved(confidence: float) -> tuple[float, float]:
        low, high = bounds(confidence)
        return low - by, high - by

    return Measured(gain.value - by, moved)


def verdict_of(gain: Measured, sure: bool) -> Verdict:
    """What a gain says of its source."""
    if not sure or gain.value is None:
        return "undecided"
    return "include" if gain.value > 0 else "exclude"


def said(gain: Measured, sure: bool, rule: RuleConfig, of: str) -> str:
    """The evidence in a sentence."""
    if gain.value is None:
        return f"{of}: undefined{f' ({gain.why})' if gain.why else ''}"
    if gain.bounds is None:
        return f"{of}: {gain.value:+.3f}, no interval ({gain.why})"
    low, high = gain.bounds(1 - rule.error)
    beyond_chance = "more than chance" if sure else "not more than chance"
    return f"{of}: {gain.value:+.3f} [{low:+.3f}, {high:+.3f}], p {gain.p_value():.2g}: {beyond_chance} (Holm)"


def sentence(rule: RuleConfig) -> str:
    """The rule in a sentence."""
    gain = "the mean gain over the tasks" if rule.by == "mean" else f"the gain on {rule.by} rows"
    how = {
        "alone": "of a judge trained on the source alone over the base model",
        "left_out": "of a judge trained on all sources over one trained on all but this",
    }[rule.evidence]
    beyond_zero = f"more than {rule.least:g}" if rule.least else "not 0"
    return (
        f"{gain} {how}: include where it is above 0, exclude where it is below, each if it is {beyond_zero} by more "
        f"than chance (two-sided, error {rule.error:g} over all sources by Holm); else undecided, which is "
        f"{rule.undecided}d"
    )

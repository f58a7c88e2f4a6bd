"""The figures of one model on one benchmark."""

from __future__ import annotations

from typing import TypeAlias

from pipelines.evaluation.scoring.calibration import Calibration
from pipelines.evaluation.scoring.figures import Figures, Part


class Subset(Figures):
    """Some rows of a benchmark: `value` is the headline's metric; the measures of agreement are for classes."""

    n: int
    value: float | None = None
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    kappa: float | None = None
    majority_class: float | None = None


class Entry(Figures):
    """One model on one benchmark: what every task has.

    Attributes:
        n: rows scored (items, where several rows are one).
        metric: name of the headline figure, `value`.
        parse_rate: share of the judgments whose verdict was read.
        partial: whether the figure is not that of the whole benchmark, for `partial_reasons`.
        excluded: rows left out by the benchmark's own rule.
        unreadable: rows that could not be made into a question.
        failed: judgments that the judge did not answer.
        too_long: judgments whose prompt and answer do not fit the judge: not asked, and unread.
        no_interval: why there is no interval; empty where there is one.
        baseline: `value` of the best judge that gives one verdict everywhere; 0 for a correlation.
        chance: `value` expected of a verdict at random; None for scores.
        groups: groups of related rows, the units of the interval.
    """

    n: int
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    parse_rate: float | None
    partial: bool
    partial_reasons: list[str]
    task: str
    template: str
    expected_n: int
    found: int
    asked: int
    excluded: int
    unreadable: int
    judgments: int
    failed: int
    too_long: int
    groups: int
    no_interval: str
    baseline: float | None
    chance: float | None

    @property
    def consistency(self) -> tuple[float | None, int]:
        """Share of the pairs read twice whose verdicts name the same response, and how many were."""
        return None, 0


class VerdictEntry(Entry):
    """One model on one benchmark of verdicts from a closed set: pairs and classification.

    Attributes:
        accuracy: the plain mean of the rows, whatever the headline is.
        orders: accuracy under each protocol of `orders.PROTOCOLS`.
        sections: of the headline, by name.
        authors: the official metrics of the benchmark's authors.
        balanced: over as many rows of each class as the smallest class has.
        to_confirm: what nobody has checked against the real data.
    """

    accuracy: float
    value_parsed_only: float | None
    balanced_accuracy: float
    macro_f1: float
    kappa: float | None
    majority_class: float
    calibration: Calibration
    orders: dict[str, float] | None = None
    position_consistency: float | None = None
    position_consistency_n: int | None = None
    sections: dict[str, Part] | None = None
    authors: dict[str, float | dict[str, float | None] | None] | None = None
    balanced: Subset | None = None
    subsets: dict[str, Subset]
    to_confirm: str | None = None

    @property
    def consistency(self) -> tuple[float | None, int]:
        return self.position_consistency, self.position_consistency_n or 0


class ScoreEntry(Entry):
    """One model on one benchmark of scores; accuracy is against the allowed verdict nearest to gold.

    Attributes:
        expected_pearson: Pearson's r of the mean score under the verdict's probabilities.
        to_confirm: what nobody has checked against the real data.
    """

    pearson: float | None
    value_parsed_only: float | None
    spearman: float | None
    kendall: float | None
    quadratic_kappa: float | None
    expected_pearson: float | None
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    kappa: float | None
    majority_class: float
    notes: list[str]
    subsets: dict[str, Subset]
    to_confirm: str | None = None


BenchmarkEntry: TypeAlias = VerdictEntry | ScoreEntry

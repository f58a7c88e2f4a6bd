"""Why the labels of a system cannot carry an interval of its mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipelines.experiments.calibrate.values import Judged

# Labels other than the commonest, on which the interval's whole width rests. Simulated (docs/evidence.md): with one or
# two of them 95% intervals hold the truth in 86% to 89% of draws, with none they have no width. From three on it is 99%
# for a middling judge, but 93% for a good one and for ratings that are nearly all alike; from five on 95% or more.
LEAST_OTHER = 5


def refusal(rows: Sequence[Judged], least_labels: int) -> str:
    """Why there can be no interval; empty where nothing is against it.

    Args:
        rows: of one system.
        least_labels: that it needs.
    """
    labels = [row.label for row in rows if row.label is not None]
    if len(labels) < least_labels:
        return f"{len(labels)} labels of its own, {least_labels} are needed"
    (value, most), *others = Counter(labels).most_common()
    if not others:
        return f"all {most} labels are {value:g}: they say nothing of the spread"
    if len(labels) - most < LEAST_OTHER:
        return f"{most} of {len(labels)} labels are {value:g}: {LEAST_OTHER} that differ are needed to show the spread"
    if len({row.prompt for row in rows}) == 1:
        return "all rows are of one prompt: they say nothing of others"
    return ""

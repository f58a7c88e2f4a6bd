"""Whether labelled rows look like a random sample, to the judge: over all rows, and within each system."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core.errors import UserError
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.rows import by_system
from pipelines.experiments.calibrate.values import Judged


def check_random(rows: Sequence[Judged], config: CalibrateConfig) -> float | None:
    """The least p-value of the scores of labelled and other rows being alike (Kolmogorov-Smirnov); None without both.

    Over all rows, and within each system, there by Holm's procedure over the systems: labels of one system's best rows
    and of another's worst look random together.

    Raises:
        UserError: it is below `least_random`: the labelled rows were chosen by something that the judge sees too.
    """
    from statsmodels.stats.multitest import multipletests

    systems = by_system(list(rows))
    found = {name: p for name, own in systems.items() if (p := _alike(own)) is not None}
    if found:
        found = dict(zip(found, multipletests([*found.values()], method="holm")[1].tolist(), strict=True))
    pooled = _alike(rows)
    tests = {**({"": pooled} if pooled is not None else {}), **found}
    if not tests:
        return None
    name, p = min(tests.items(), key=lambda item: item[1])
    if p < config.least_random:
        whose = f" of {name}" if name and len(systems) > 1 else ""
        raise UserError(
            f"the labelled rows{whose} are no random sample: their scores differ from the others' (p = {p:.2g})",
            where="calibrate.input",
            fix="label rows of to_label.csv, or of a hash",
        )
    return p


def _alike(rows: Sequence[Judged]) -> float | None:
    from scipy.stats import ks_2samp

    labelled = [row.score for row in rows if row.label is not None]
    others = [row.score for row in rows if row.label is None]
    return float(ks_2samp(labelled, others).pvalue) if labelled and others else None

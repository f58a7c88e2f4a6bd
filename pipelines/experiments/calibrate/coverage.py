"""How often the intervals hold the truth: where all rows have labels, they are taken away and drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pipelines.core import step, storage
from pipelines.core.determinism import integer
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.storage import Place
from pipelines.core.yaml_model import Strict
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.estimate import ALL, estimate
from pipelines.experiments.calibrate.plain import Interval
from pipelines.experiments.calibrate.rows import by_system, prompts_of
from pipelines.experiments.calibrate.values import Judged

WAYS = ("calibrated", "naive", "labels_only")
Line = dict[str, Any]


class Coverage(Strict):
    """How often one way's intervals hold the truth."""

    of: str
    """A system, all systems, or every difference of two."""
    way: str
    truth: float | None
    draws: int
    """In which there was an interval: the others were refused."""
    refused: int
    covered: float | None
    """Share of the intervals."""
    ci_low: float | None
    """Wilson's interval of that share: draws are finite."""
    ci_high: float | None
    width: float | None
    """Mean of the intervals."""
    error: float | None
    """Root mean square of the estimates' errors."""


def check(rows: Sequence[Judged]) -> None:
    """Refuse rows on which coverage cannot be measured.

    Raises:
        UserError: a row has no label.
    """
    missing = sum(row.label is None for row in rows)
    if missing:
        fix = "set it to 0, or leave the others out with calibrate.where"
        raise UserError(f"{missing} rows have no label", where="calibrate.coverage.draws", fix=fix)


def measure(rows: list[Judged], config: CalibrateConfig, folder: Place, seed: int, fingerprint: str) -> list[Coverage]:
    """Every draw, in Ray tasks whose results are kept, and what comes of them together.

    Args:
        rows: all with a label.
        config: how many draws, and the estimates' settings.
        folder: for the parts.
        seed: of the draws.
        fingerprint: of the rows.
    """
    import ray

    draws, size = config.coverage.draws, config.coverage.draws_per_task
    depends = {"rows": fingerprint, "config": config.identity(), "seed": seed}
    parts = [range(first, min(first + size, draws)) for first in range(0, draws, size)]
    shared, task = ray.put(rows), ray.remote(num_cpus=1)(some)
    pending = {}
    for part in parts:
        place = folder / f"{part.start:06d}-{part.stop:06d}"
        if step.finished(place, depends) is None:
            pending[task.remote(shared, config, seed, part)] = place
    if len(pending) < len(parts):
        say(f"coverage: {len(parts) - len(pending)} of {len(parts)} parts are there already")
    while pending:
        (done, *_), _ = ray.wait(list(pending), num_returns=1)
        lines, place = ray.get(done), pending.pop(done)
        step.once(place, depends, partial(_write, lines))
        say(f"  coverage: {len(parts) - len(pending)}/{len(parts)} parts")
    found = [storage.read_json(folder / f"{part.start:06d}-{part.stop:06d}" / "draws.json") for part in parts]
    return summarise([line for lines in found for line in lines], truths(rows))


def _write(lines: list[Line], folder: Place) -> None:
    storage.write_json(folder / "draws.json", lines)


def some(rows: list[Judged], config: CalibrateConfig, seed: int, draws: range) -> list[Line]:
    """The lines of some draws."""
    return [line for number in draws for line in one(rows, config, seed, number)]


def one(rows: list[Judged], config: CalibrateConfig, seed: int, number: int) -> list[Line]:
    """One draw: as many prompts as there are, with replacement, and labels for a share of their rows.

    Prompts are drawn because the intervals are of means over prompts like these; with the same prompts each time they
    would be too wide.
    """
    draw = np.random.default_rng(integer(seed, "coverage of calibration", str(number), bits=63))
    prompts = [own for _, own in prompts_of(rows)]
    taken = draw.integers(len(prompts), size=len(prompts))
    sample = [
        Judged(f"{place}-{row.id}", row.system, f"{place}", row.score, row.label)
        for place, which in enumerate(taken)
        for row in prompts[which]
    ]
    count = max(1, round(config.coverage.share * len(sample)))
    kept = set(draw.choice(len(sample), size=count, replace=False).tolist())
    shown = [
        row if place in kept else Judged(row.id, row.system, row.prompt, row.score, None)
        for place, row in enumerate(sample)
    ]
    try:
        found = estimate(shown, config)
    except UserError as refused:
        return [{"draw": number, "of": ALL, "way": "calibrated", "refused": refused.what}]
    lines: list[Line] = []
    for mean in (found.total, *found.means):
        for way in WAYS:
            interval: Interval = getattr(mean, way)
            reason = mean.refused if way == "calibrated" else ""
            lines.append({"draw": number, "of": mean.system, "way": way, **interval.model_dump(), "refused": reason})
    for gap in found.gaps:
        line = {"draw": number, "of": f"{gap.system} - {gap.other}", "way": "calibrated", "refused": gap.refused}
        lines.append({**line, "value": gap.difference, "low": gap.low, "high": gap.high})
    return lines


def truths(rows: list[Judged]) -> dict[str, float]:
    """What the intervals should hold: means of all labels, and their differences."""
    means = {name: float(np.mean([row.label for row in own])) for name, own in by_system(rows).items()}
    gaps = {f"{one} - {two}": means[one] - means[two] for one in means for two in means if one != two}
    return {**means, **gaps, ALL: float(np.mean([row.label for row in rows]))}


def summarise(lines: Sequence[Line], truth: dict[str, float]) -> list[Coverage]:
    """The coverage of every figure, and over all systems and all differences together."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["of"], line["way"]), []).append(line)
        wider = "each difference" if " - " in line["of"] else "each system" if line["of"] != ALL else None
        if wider:
            groups.setdefault((wider, line["way"]), []).append(line)
    return [_coverage(of, way, own, truth) for (of, way), own in sorted(groups.items())]


def _coverage(of: str, way: str, lines: list[Line], truth: dict[str, float]) -> Coverage:
    from statsmodels.stats.proportion import proportion_confint

    whole = [line for line in lines if not line["refused"] and line["low"] is not None]
    hits = sum(line["low"] <= truth[line["of"]] <= line["high"] for line in whole)
    low, high = proportion_confint(hits, len(whole), method="wilson") if whole else (None, None)
    errors = [line["value"] - truth[line["of"]] for line in whole]
    return Coverage(
        of=of,
        way=way,
        truth=truth.get(of),
        draws=len(whole),
        refused=len(lines) - len(whole),
        covered=hits / len(whole) if whole else None,
        ci_low=None if low is None else float(low),
        ci_high=None if high is None else float(high),
        width=float(np.mean([line["high"] - line["low"] for line in whole])) if whole else None,
        error=float(np.sqrt(np.mean(np.square(errors)))) if whole else None,
    )

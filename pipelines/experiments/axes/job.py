"""Further axes of the grid as trials on the same critiqued pairs, and one leaderboard of all trainings of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from pipelines.core import step
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.core.storage import Place
from pipelines.curation.config import CurationConfig
from pipelines.evaluation.report.plots import Point as Drawn
from pipelines.evaluation.scoring.comparison import more_than_chance
from pipelines.experiments.axes.config import AxesConfig
from pipelines.experiments.axes.leaderboard import Line, others
from pipelines.experiments.axes.points import OWN, Point, id_of, points_of, trials_of
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure
from pipelines.experiments.sweep.config import SweepConfig
from pipelines.experiments.trials import ground as grounds
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.experiments.trials.effects import MEAN, Gain, Tables, ends, gains, outcome, tasks_of, values
from pipelines.experiments.trials.pool import write_both
from pipelines.experiments.trials.running import run_trials
from pipelines.experiments.trials.trial import BASE, DIVERGED, Trial, shared
from pipelines.experiments.trials.worker import Ground
from pipelines.training.config import TrainConfig

NAME = "leaderboard"
CONFIDENCE = 0.95
UNSHOWN = "no difference shown"
LEFT_OUT = "Diverged with one seed or more, so without figures and intervals, and not among the settings Holm counts"


def describe(
    run: Run, train: TrainConfig, curation: CurationConfig, trials: TrialsConfig, axes: AxesConfig, sweep: SweepConfig
) -> list[str]:
    """What the job would do, and what that takes.

    Raises:
        UserError: as `run`.
    """
    points = checked(train, curation, trials, axes, sweep)
    count = len(points) * len(trials.seeds)
    lines = [f"{count} trials: {len(points)} settings, {len(trials.seeds)} seeds, {axes.pairs} pairs each"]
    return [*lines, *(f"  {point.name}" for point in points), f"  -> {record.folder_of(run, NAME)}"]


def checked(
    train: TrainConfig, curation: CurationConfig, trials: TrialsConfig, axes: AxesConfig, sweep: SweepConfig
) -> list[Point]:
    """The settings, each of which a trial can have.

    Raises:
        UserError: one is none that a trial can have, or there is none beside the config's own.
    """
    grounds.validate(train, curation, trials)
    if trials.judge == "stand_in":
        raise UserError("a stand-in knows none of these settings", where="trials.judge", fix="set it to model")
    points = points_of(axes, sweep, grounds.training_of(train, trials), curation)
    for point in points:
        grounds.training_of(train, trials, point.changes(points[0]))
    if curation.critique.drop_inconsistent_rejected and False in axes.drop_inconsistent_rejected:
        fix = "set curation.critique.drop_inconsistent_rejected to false, and name true here"
        raise UserError("these rows have been dropped already", where="axes.drop_inconsistent_rejected", fix=fix)
    if len(points) < 2:
        raise UserError("nothing is varied", where="axes", fix="name values that are not the config's own")
    return points


def run(
    run: Run,
    before: Rows,
    train: TrainConfig,
    curation: CurationConfig,
    trials: TrialsConfig,
    axes: AxesConfig,
    sweep: SweepConfig,
) -> Experiment:
    """Do what is left of the trials, and write the leaderboard.

    Args:
        run: gets `experiments/leaderboard`.
        before: rows with critiques.
        train: the settings that are varied.
        curation: the same of the mixture.
        trials: seeds and held-out sets.
        axes: the values.
        sweep: those of the grid.

    Raises:
        UserError: a setting is none that a trial can have, or there are fewer pairs than a trial takes.
    """
    points = checked(train, curation, trials, axes, sweep)
    pools = write_both(before, run.experiments / "work", curation, trials.pool, run.seed, run.max_error_share)
    rows, pairs = both_forms({form: grounds.in_order(pool) for form, pool in pools.items()})
    ground = grounds.lay_on(run, pairs, digest(*(pool.fingerprint for pool in pools.values())), train, curation, trials)
    arms = {point.name: trials_of(point, points[0], rows, axes.pairs, trials.seeds, run.seed) for point in points}
    short = {name: min(len(one.rows) for one in mine) for name, mine in arms.items()}
    for name, found in short.items():
        if found < axes.pairs:
            fix = "lower axes.pairs, or raise trials.pool and curation.sample_per_source"
            raise UserError(f"{name}: {found} pairs of {axes.pairs}", where="axes.pairs", fix=fix)
    everything = [BASE, *(one for mine in arms.values() for one in mine)]
    places = run_trials(ground, everything, trials.concurrent, keep_diverged=True)
    made, table, plot = leaderboard(run, points, arms, places, ground, trials, axes)
    record.write(run, made, table, plot)
    for line in table:
        value = "" if line["value"] is None else f" {line['value']:.3f}"
        say(f"  {line['training']}: {line['figure']}{value}, {line['seconds']:.0f} s")
    say(f"leaderboard: {record.folder_of(run, NAME)}")
    return made


def both_forms(pools: Mapping[str, Sequence[Row]]) -> tuple[list[Row], list[Row]]:
    """The rows that are there in both formats; and their pairs, by id."""
    known = [{str(row["row_id"]): row for row in rows} for rows in pools.values()]
    common = sorted(known[0].keys() & known[1].keys())
    pairs = [
        {**rows[name], "row_id": id_of(name, form)} for form, rows in zip(pools, known, strict=True) for name in common
    ]
    return [known[0][name] for name in common], sorted(pairs, key=lambda row: str(row["row_id"]))


def leaderboard(
    run: Run,
    points: Sequence[Point],
    arms: Mapping[str, tuple[Trial, ...]],
    places: Mapping[Trial, Place],
    ground: Ground,
    trials: TrialsConfig,
    axes: AxesConfig,
) -> tuple[Experiment, list[Line], str]:
    """The record, its table with the best first and what has diverged last, and its plot."""
    tasks = tasks_of(ground.asked)

    @cache
    def read(one: Trial) -> Tables:
        return outcome(places[one], ground.asked)

    spent = {name: [step.result_of(places[one]) or {} for one in mine] for name, mine in arms.items()}
    gone = {name: said for name, mine in spent.items() if (said := diverged(mine, trials.seeds))}
    found = {name: [read(one) for one in mine] for name, mine in arms.items() if name not in gone}
    base = [read(BASE)]
    common = {name: shared(mine) for name, mine in arms.items()}
    over_base = {name: gains(mine, base, tasks, common[name])[MEAN] for name, mine in found.items()}
    over_own = {
        name: gains(mine, found[OWN], tasks, common[name])[MEAN]
        for name, mine in found.items()
        if name != OWN and OWN in found
    }
    sure = more_than_chance({name: gain.measured for name, gain in over_own.items()}, axes.error)
    lines = [
        line_of(point, found.get(point.name), over_base.get(point.name), spent[point.name], tasks) for point in points
    ]
    table = [*sorted(lines, key=place_of), *others(run)]
    whole = [one for mine in spent.values() for one in mine]
    made = Experiment(
        name=NAME,
        title="Leaderboard of settings",
        question="Which settings of training and mixture make a better judge of the same sources, and at what cost?",
        rule="a setting is better or worse than the config's own where the mean gain over the tasks is not 0 by more "
        f"than chance (two-sided, error {axes.error:g} over all settings by Holm)",
        settings={
            "own": dict(points[0].values),
            "pairs": axes.pairs,
            "trained layers": trials.layers or "all",
            "model": ground.config.model,
            "held-out judgments": len(ground.asked),
        },
        seeds=trials.seeds,
        figures=[
            *figure_each("mean gain over the base model", over_base),
            *figure_each("mean gain over the config's own settings", over_own),
        ],
        decisions=decisions(arms, over_own, sure, gone),
        cost=Cost(
            seconds=round(sum(one["seconds"] for one in whole), 1),
            trials=len(whole),
            tokens=sum(one["tokens"] for one in whole),
            note="trainings and judging, not the pass that all share",
        ),
        notes=[
            f"Small: each trial trains on {axes.pairs} pairs and is judged by the probabilities of its verdicts. A "
            "setting that does nothing here may matter in a whole run.",
            "Trainings of `sweep` and `recipes` stand below, by their own figures, which are of other held-out rows.",
            *([f"{LEFT_OUT}: {'; '.join(gone)}."] if gone else []),
        ],
    )
    labels = [str(line["training"]) for line in table[: len(points)]]
    series = {"over the base model": [drawn(over_base.get(name)) for name in labels]}
    series["over the config's own"] = [drawn(over_own.get(name)) for name in labels]
    return made, table, forest({"mean gain": series}, labels, NAME)


def line_of(
    point: Point,
    tables: Sequence[Tables] | None,
    gain: Gain | None,
    spent: Sequence[Mapping[str, Any]],
    tasks: Mapping[str, list[str]],
) -> Line:
    """A setting as a line of the table; seconds and tokens are of one trial. One that diverged has no figures."""
    n = len(spent)
    figures: Line = {"figure": DIVERGED, **dict.fromkeys(("value", "low", "high", *tasks))}
    if tables is not None and gain is not None:
        low, high = ends(gain.measured, CONFIDENCE)
        figures = {"figure": "mean gain over the base model", "value": gain.measured.value, "low": low, "high": high}
        figures |= values(tables, tasks)
    return {
        "training": point.name,
        "by": "trials",
        **figures,
        "seconds": round(sum(one["seconds"] for one in spent) / n, 2),
        "tokens": round(sum(one["tokens"] for one in spent) / n),
        **dict(point.values),
    }


def place_of(line: Line) -> tuple[bool, float]:
    """By which lines are sorted: the best first, those without a figure last and those that diverged after them."""
    value = line["value"]
    return line["figure"] == DIVERGED, math.inf if value is None else -value


def diverged(spent: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """What was seen of a setting that diverged with one seed or more; empty of one that did not.

    The other seeds are no figure of it: they are those that went well.
    """
    seen = [f"seed {seed}: {one[DIVERGED]}" for seed, one in zip(seeds, spent, strict=True) if DIVERGED in one]
    return f"with {len(seen)} of {len(seeds)} seeds; {seen[0]}" if seen else ""


def decisions(
    names: Iterable[str], over_own: Mapping[str, Gain], sure: Mapping[str, bool], gone: Mapping[str, str]
) -> list[Decision]:
    """What is said of each setting that is not the config's own; of that one only that it diverged."""
    made = []
    for name in names:
        if name in gone:
            made.append(Decision(about=name, verdict=DIVERGED, why=gone[name]))
        elif name in over_own:
            gain = over_own[name]
            made.append(Decision(about=name, verdict=verdict(gain, sure[name]), why=why(gain)))
        elif name != OWN:
            made.append(Decision(about=name, verdict=UNSHOWN, why="the config's own settings diverged"))
    return made


def figure_each(name: str, found: Mapping[str, Gain]) -> list[Figure]:
    """Gains as the record has them."""
    made = []
    for of, gain in found.items():
        low, high = ends(gain.measured, CONFIDENCE)
        p = gain.measured.p_value() if gain.measured.bounds else None
        made.append(Figure(name=name, of=of, value=gain.measured.value, ci_low=low, ci_high=high, n=gain.rows, p=p))
    return made


def verdict(gain: Gain, sure: bool) -> str:
    """Better, worse, or no difference shown."""
    if not sure or gain.measured.value is None:
        return UNSHOWN
    return "better" if gain.measured.value > 0 else "worse"


def why(gain: Gain) -> str:
    """The evidence in a sentence."""
    low, high = ends(gain.measured, CONFIDENCE)
    if gain.measured.value is None or low is None or high is None:
        return f"no interval: {gain.measured.why or 'undefined'}"
    return (
        f"{gain.measured.value:+.3f} [{low:+.3f}, {high:+.3f}] over the config's own, p {gain.measured.p_value():.2g}"
    )


def drawn(gain: Gain | None) -> Drawn:
    """A gain in the plot."""
    return Drawn(gain.measured.value, *ends(gain.measured, CONFIDENCE)) if gain else Drawn(None, None, None)

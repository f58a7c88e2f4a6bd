"""The ablation: run its trials, decide, and write two experiments and the mixture file that follows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.core.storage import Place
from pipelines.curation.config import CurationConfig
from pipelines.curation.mixture import check_mixture, to_yaml
from pipelines.curation.registry import load_sources
from pipelines.curation.scores import AFTER_CRITIQUES
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.experiments.ablation import figures
from pipelines.experiments.ablation.arms import Pool, arms_of
from pipelines.experiments.ablation.choose import Choice, choose, evidence
from pipelines.experiments.ablation.config import AblationConfig
from pipelines.experiments.ablation.planted import CHECK, Planted, write_check
from pipelines.experiments.ablation.scored import scored
from pipelines.experiments.records import record
from pipelines.experiments.trials import ground as grounds
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.experiments.trials.effects import Tables, outcome, tasks_of, values
from pipelines.experiments.trials.running import run_trials
from pipelines.experiments.trials.trial import BASE, Trial
from pipelines.training.config import TrainConfig

MIXTURE = "mixture.yaml"


def mixture_file(run: Run) -> Place:
    """What the ablation decides, as `curation.mixture` takes it."""
    return run.experiments / MIXTURE


def validate(train: TrainConfig, curation: CurationConfig, trials: TrialsConfig, ablation: AblationConfig) -> None:
    """Refuse an ablation that could not decide.

    Raises:
        UserError: naming the key.
    """
    grounds.validate(train, curation, trials)
    sources = tasks_of_sources(curation)
    if len(sources) < 2:
        raise UserError("an ablation compares sources, and one is named", where="curation.sources")
    scored(sources, curation, ablation.filter)
    known = {BENCHMARKS.load(name).task for name in trials.heldout.benchmarks}
    if ablation.rule.by not in ("mean", *known):
        fix = "name one in trials.heldout.benchmarks"
        raise UserError(f"no held-out set is {ablation.rule.by}", where="ablation.rule.by", fix=fix)
    if ablation.rule.evidence == "left_out" and not (ablation.left_out and len(sources) > 2):
        fix = "set ablation.left_out, and name three sources or more"
        raise UserError("no source is left out", where="ablation.rule.evidence", fix=fix)


def needs_critiques(ablation: AblationConfig) -> bool:
    """Whether a filter asks for critiques, so that they must be written first."""
    config = ablation.filter
    return config.enabled and bool({config.score, *config.scores.values()} & set(AFTER_CRITIQUES))


def describe(
    run: Run, train: TrainConfig, curation: CurationConfig, trials: TrialsConfig, ablation: AblationConfig
) -> list[str]:
    """What the job would do, and what that takes.

    Raises:
        UserError: as `validate`.
    """
    validate(train, curation, trials, ablation)
    sources, seeds = len(load_sources(curation.sources)), len(trials.seeds)
    alone, left = sources * seeds, (sources + 1) * seeds if ablation.left_out and sources > 2 else 0
    filters = scored(tasks_of_sources(curation), curation, ablation.filter)
    filtered = 2 * len(filters.by) * len(ablation.filter.quantiles) * seeds
    pairs = (alone + filtered) * trials.pairs + left * ablation.mixture_pairs
    count = alone + left + filtered
    asked = sum(min(BENCHMARKS.load(n).expected_n, trials.heldout.sample or 10**9) for n in trials.heldout.benchmarks)
    asked *= 2 if trials.heldout.orders == "both" else 1
    which = "all layers" if trials.layers is None else f"the topmost {trials.layers} layers"
    lines = [
        f"ablation of {sources} sources, {seeds} seeds: at most {count} trials",
        f"  {alone} of a source alone, {left} of several, {filtered} of filtered ones and random ones",
        f"  each trains {which} of {train.model} on {trials.pairs} pairs and judges about {asked} held-out rows",
        f"  at most {pairs:,} pairs trained on, {count * asked:,} verdicts, and one pass over "
        f"what they take of {sources * trials.pool + asked:,} rows",
    ]
    if (wanted := trials.pairs * seeds) > trials.pool:
        lines.append(
            f"  the seeds share rows, which makes intervals wider: trials.pool={wanted} gives each its own, where a "
            "source has so many"
        )
    if seconds := figures.measured(run):
        lines.append(f"  trials in this folder took {seconds:.1f} s each: {count * seconds / 60:.0f} min for all")
    lines += [f"  {source}: {why}" for source, why in filters.skipped.items()]
    lines.append(f"  rule: {figures.sentence(ablation.rule)}")
    return [*lines, f"  -> {mixture_file(run)}, {run.experiments / record.INDEX}"]


def run(
    run: Run,
    before: Rows,
    train: TrainConfig,
    curation: CurationConfig,
    trials: TrialsConfig,
    ablation: AblationConfig,
    reported: list[str],
) -> Choice:
    """Do what is left of the ablation.

    Args:
        run: gets `experiments/`.
        before: the rows of curation that trials may take.
        train: the training that trials change in part.
        curation: sources, templates and limits.
        trials: size, seeds and held-out sets.
        ablation: what is tried, and the rule.
        reported: benchmarks that the chosen mixture will be reported on.

    Raises:
        UserError: as `validate`.
    """
    validate(train, curation, trials, ablation)
    ground = grounds.lay(run, before, train, curation, trials)
    names = [source.name for source in load_sources(curation.sources)]
    pool = grounds.by_source(ground, names)
    tasks_by_source = tasks_of_sources(curation)
    filters = scored(tasks_by_source, curation, ablation.filter)
    arms = arms_of(pool, trials, ablation, filters.by)
    arms.unfiltered.update(filters.skipped)
    for source, why in [*arms.short.items(), *arms.unfiltered.items()]:
        say(f"ablation: {source}: {why}")
    places = run_trials(ground, [BASE, *arms.trials()], trials.concurrent)
    tasks = tasks_of(ground.asked)

    @cache
    def read(one: Trial) -> Tables:
        return outcome(places[one], ground.asked)

    found = evidence(arms, read, tasks)
    choice = choose(found, arms.short, ablation.rule)
    if any(one.include for one in choice.mixture.sources.values()):
        check_mixture(choice.mixture, tasks_by_source, curation.reward.enabled, curation.reward.thresholds)
    for name in (figures.FILTER, CHECK):  # of a run with other settings: they would stand beside this one's decisions
        record.withdraw(run, name)
    storage.write_text(mixture_file(run), to_yaml(choice.mixture, MIXTURE))
    about = figures.About(run, ground, trials, ablation, arms, tasks, cost_of(places), overlap(trials, reported))
    figures.write_ablation(about, found, choice, values([read(BASE)], tasks))
    if arms.filters:
        figures.write_filter(about, found, choice)
    if ablation.check_seeds:
        check(about, pool)
    for line in figures.shown(choice):
        say(line)
    say(f"ablation: {mixture_file(run)}; all experiments: {run.experiments / record.INDEX}")
    return choice


def tasks_of_sources(curation: CurationConfig) -> dict[str, str]:
    """Source -> its task."""
    return {one.name: one.task for one in load_sources(curation.sources)}


def check(about: figures.About, pool: Pool) -> None:
    """Count the rule's wrong decisions on planted sources, by the stand-in judge."""
    seeds = about.ablation.check_seeds
    counted = Planted(pool, about.ground.asked, about.trials, about.ablation).run(seeds)
    write_check(about.run, counted, seeds, about.settings(), figures.sentence(about.ablation.rule))
    for kind, found in counted.decisions.items():
        told = ", ".join(f"{name} {count}" for name, count in found.most_common())
        say(f"rule check, stand-in judge: {kind}: {told or 'none'}; wrong {counted.wrong(kind)}")


def overlap(trials: TrialsConfig, reported: list[str]) -> list[str]:
    """What a reader must know where the mixture is chosen by what it is reported on."""
    again = {BENCHMARKS.load(name).name for name in reported}  # one file may be spelled in several ways
    both = [one.name for one in map(BENCHMARKS.load, trials.heldout.benchmarks) if one.name in again]
    if not both:
        return []
    return [f"{', '.join(both)}: chosen by and, in evaluation.benchmarks, reported on; those figures will flatter"]


def cost_of(places: Mapping[Trial, Place]) -> tuple[float, int, int]:
    """Seconds, trials and tokens of some results."""
    done = [step.result_of(place) or {} for place in places.values()]
    return sum(one["seconds"] for one in done), len(done), sum(one["tokens"] for one in done)

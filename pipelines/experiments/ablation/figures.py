"""The ablation and its filter as experiments: figures, table, plot, and the same in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core import step, storage
from pipelines.core.run import Run
from pipelines.evaluation.report.plots import Point
from pipelines.experiments.ablation.arms import Arms
from pipelines.experiments.ablation.choose import Choice, Evidence, FilterGains, Gains
from pipelines.experiments.ablation.config import AblationConfig
from pipelines.experiments.ablation.rule import sentence
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.experiments.trials.effects import MEAN, Gain, ends
from pipelines.experiments.trials.worker import Ground
from pipelines.judging.tasks import TASKS

ABLATION, FILTER = "ablation", "reward-filter"
FILTERED = "filtered − random"
CONFIDENCE = 0.95  # of the intervals that are drawn


@dataclass(frozen=True)
class About:
    """What the records of an ablation say beside its figures."""

    run: Run
    ground: Ground
    trials: TrialsConfig
    ablation: AblationConfig
    arms: Arms
    tasks: Mapping[str, Sequence[str]]
    cost: tuple[float, int, int]
    notes: Sequence[str]

    def settings(self) -> dict[str, Any]:
        """Whatever the figures depend on."""
        counts = dict(Counter(str(row["benchmark"]) for row in self.ground.asked))
        config = self.ground.config
        return {
            "judge": "stand-in" if self.ground.stand_in else config.model,
            "pairs of a source": self.trials.pairs,
            "pairs of several sources": self.arms.several or None,
            "pool of a source": self.trials.pool,
            "trained layers": self.trials.layers or "all",
            "learning rate": config.learning_rate,
            "epochs": config.epochs,
            "batch size": config.batch_size,
            "alpha": config.alpha,
            "beta": config.beta,
            "lora": config.lora.model_dump() if config.lora else None,
            "held out": counts,
            "rule": self.ablation.rule.model_dump(),
            "seed of the run": self.run.seed,
        }

    def spent(self) -> Cost:
        """Of all trials; those that both experiments share are counted in both."""
        seconds, trials, tokens = self.cost
        note = "trainings and judging of all trials, also of those that the other experiment shares; not the first pass"
        return Cost(seconds=round(seconds, 1), trials=trials, tokens=tokens, note=note)

    def record(self, **more: Any) -> Experiment:
        """A record with what both experiments have in common."""
        small = (
            f"Small: a trial trains on {self.trials.pairs} pairs and is judged on {len(self.ground.asked)} rows by the "
            "probabilities of its verdicts, without critiques. A source that does nothing here may help in a whole run."
        )
        without = [*self.arms.short.items(), *self.arms.unfiltered.items()]
        wanted, several = self.ablation.mixture_pairs, self.arms.several
        fewer = [f"Trials on several sources have {several} pairs, not {wanted}: all but one source have no more."]
        fewer = fewer if 0 < several < wanted else []
        return Experiment(
            rule=sentence(self.ablation.rule),
            settings=self.settings(),
            seeds=self.trials.seeds,
            cost=self.spent(),
            judge="stand-in" if self.ground.stand_in else "model",
            notes=[small, *self.notes, *fewer, *(f"{source}: {why}" for source, why in without)],
            links={"mixture.yaml": "../mixture.yaml"},
            **more,
        )


def title_of(task: str) -> str:
    """What a gain of a task is in."""
    if task == MEAN:
        return "mean gain"
    return f"{task}, gain in {'r' if TASKS[task].scored else 'accuracy'}"


def figure(name: str, of: str, gain: Gain) -> Figure:
    """A gain as the record has it."""
    low, high = ends(gain.measured, CONFIDENCE)
    return Figure(
        name=name,
        of=of,
        value=gain.measured.value,
        ci_low=low,
        ci_high=high,
        n=gain.rows,
        p=gain.measured.p_value() if gain.measured.bounds else None,
        note="seeds: " + ", ".join(f"{one:+.3f}" for one in gain.seeds),
    )


def point(gain: Gain | None) -> Point:
    """A gain in a plot."""
    return Point(gain.measured.value, *ends(gain.measured, CONFIDENCE)) if gain else Point(None, None, None)


def columns(prefix: str, found: Gains) -> dict[str, Any]:
    """A gain of each task as columns of the table."""
    line: dict[str, Any] = {}
    for task, gain in found.items():
        low, high = ends(gain.measured, CONFIDENCE)
        line |= {f"{prefix}_{task}": gain.measured.value, f"{prefix}_{task}_low": low, f"{prefix}_{task}_high": high}
    return line


def write_ablation(about: About, found: Evidence, choice: Choice, base: Mapping[str, float | None]) -> None:
    """Write the single-source ablation."""
    sources = [*found.alone, *about.arms.short]
    measures = [MEAN, *about.tasks]
    series = {"alone": found.alone, **({"left out": found.left_out} if found.left_out else {})}
    panels = {
        title_of(task): {
            name: [point(gains[source][task] if source in gains else None) for source in sources]
            for name, gains in series.items()
        }
        for task in measures
    }
    table = [
        {
            "source": source,
            "decision": choice.sources[source].verdict,
            "in_the_mixture": choice.mixture.sources[source].include,
            **columns("alone", found.alone.get(source, {})),
            **columns("left_out", found.left_out.get(source, {})),
        }
        for source in sources
    ]
    figures = [Figure(name=f"{task} of the base model", value=value) for task, value in base.items()]
    figures += [
        figure(f"{title_of(task)}, {name}", source, gains[source][task])
        for name, gains in series.items()
        for source in gains
        for task in measures
    ]
    made = about.record(
        name=ABLATION,
        title="Single-source ablation",
        question="Which sources make a judge better, each alone at equal pairs and equal budget?",
        figures=figures,
        decisions=[Decision(about=source, verdict=one.verdict, why=one.why) for source, one in choice.sources.items()],
    )
    record.write(about.run, made, table, forest(panels, sources, ABLATION))


def write_filter(about: About, found: Evidence, choice: Choice) -> None:
    """Write the filter against random subsets: Figure 6."""
    lines = [(source, one) for source, many in found.filters.items() for one in many]
    labels = [f"{source} −{one.arm.how.quantile:.0%}" for source, one in lines]
    measures = [MEAN, *about.tasks]
    panels = {
        title_of(task): {"filtered − random": [point(one.over_random[task]) for _, one in lines]} for task in measures
    }
    table = [row_of(source, one, choice) for source, one in lines]
    decisions = []
    for source, (best, why) in choice.filters.items():
        last = choice.repaired.get(source)
        verdict = f"filter: {best.arm.how.score}, {best.arm.how.quantile:.0%} leave" if best else "no filter"
        decisions.append(
            Decision(about=source, verdict=verdict, why=why + (f". Then: {last.verdict}; {last.why}" if last else ""))
        )
    made = about.record(
        name=FILTER,
        title="Filter against random subsets of equal size",
        question="Does training on what a score leaves of a source beat a random subset of equal size (Figure 6)?",
        figures=[
            figure(f"{title_of(task)}, filtered over random", label, one.over_random[task])
            for label, (_, one) in zip(labels, lines, strict=True)
            for task in measures
        ],
        decisions=decisions,
    )
    record.write(about.run, made, table, forest(panels, labels, FILTER))


def row_of(source: str, one: FilterGains, choice: Choice) -> dict[str, Any]:
    """A filter as a line of the table."""
    best = choice.filters[source][0]
    return {
        "source": source,
        "score": one.arm.how.score,
        "drop": one.arm.how.drop,
        "quantile": one.arm.how.quantile,
        "threshold": one.arm.bound,
        "pairs": one.arm.size,
        "taken": best is one,
        **columns("over_random", one.over_random),
        **columns("over_base", one.over_base),
    }


def shown(choice: Choice) -> list[str]:
    """The decisions, a line each."""
    lines = []
    for source, one in choice.mixture.sources.items():
        how = f", without the {one.filter.drop} {one.filter.quantile:.0%} by {one.filter.score}" if one.filter else ""
        lines.append(f"  {source}: {'in' if one.include else 'out'}{how} ({one.why.partition(';')[0]})")
    return ["ablation: the mixture", *lines]


def measured(run: Run) -> float | None:
    """Seconds of a trial, the mean of those that are done in a run's folder."""
    done = [
        result["seconds"]
        for place in storage.find(run.experiments / "trials", step.DONE)
        if (result := step.result_of(place.parent)) and result.get("pairs")
    ]
    return sum(done) / len(done) if done else None

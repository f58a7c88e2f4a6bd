"""How often the rule errs: whole ablations on planted sources, by a stand-in judge, whose truth is known.

From a source that the stand-in learns from, three are made: `flipped` has chosen and rejected swapped in all rows;
`random` in half of them; `noisy` in a share, and a score tells those rows from the others in part. Each run draws other
pairs, and another half of the held-out rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.special import ndtri

from pipelines.core.determinism import unit
from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.curation.mixture import ScoreFilter, threshold
from pipelines.evaluation.report.plots import Point
from pipelines.experiments.ablation.arms import FEWEST, Arms, FilterArm, Pool, alone_of
from pipelines.experiments.ablation.choose import Choice, choose, evidence
from pipelines.experiments.ablation.config import AblationConfig
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.record import Cost, Experiment, Figure
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.experiments.trials.effects import MEAN, Tables, gains, tables, tasks_of
from pipelines.experiments.trials.stand_in import StandIn
from pipelines.experiments.trials.trial import BASE, Trial
from pipelines.experiments.trials.worker import shares

CHECK = "ablation-check"
NAMES = ("include", "filter", "undecided", "exclude")
Kind = Literal["clean", "flipped", "random", "noisy"]
NOISE = 0.4  # share of a noisy source's rows that are flipped
TELLS = 1.5  # standard deviations between the scores of right and of flipped rows
LEARNS = 0.03  # mean gain from which on the stand-in counts as learning from a source
RIGHT: dict[Kind, str] = {"clean": "include", "flipped": "exclude", "random": "undecided", "noisy": "filter"}
WRONG: dict[Kind, tuple[str, ...]] = {
    "clean": ("exclude",),
    "flipped": ("include", "filter"),
    "random": ("include", "exclude", "filter"),
    "noisy": ("exclude",),
}


@dataclass(frozen=True)
class Counted:
    """Decisions of all runs: kind -> decision -> how often; and the sources that were planted from."""

    decisions: dict[Kind, Counter[str]]
    sources: list[str]

    def wrong(self, kind: Kind) -> int:
        """Wrong ones of a kind; `undecided` is none, where something could have been said."""
        return sum(self.decisions[kind][one] for one in WRONG[kind])


class Planted:
    """Planted sources on one pool.

    Args:
        pool: source -> its pairs.
        asked: the held-out rows.
        trials: size and number of seeds.
        ablation: rule and quantiles.
    """

    def __init__(self, pool: Pool, asked: Sequence[Row], trials: TrialsConfig, ablation: AblationConfig) -> None:
        self.trials, self.ablation, self.asked = trials, ablation, list(asked)
        self.pool = {source: rows for source, rows in pool.items() if len(rows) >= trials.pairs}
        flat = [row for rows in self.pool.values() for row in rows]
        self.numbers = {str(row["row_id"]): number for number, row in enumerate(flat)}
        self.judge = StandIn(flat, asked)

    def run(self, seeds: int) -> Counted:
        """Do the ablation with `seeds` different draws."""
        learned = [source for source in self.pool if self.gain_of(source) > LEARNS]
        decisions: dict[Kind, Counter[str]] = {kind: Counter() for kind in RIGHT}
        for number in range(seeds if learned else 0):
            made = self.one(number, learned, learned[number % len(learned)])
            for kind, decision in made:
                decisions[kind][decision] += 1
        return Counted(decisions, learned)

    def gain_of(self, source: str) -> float:
        """What the stand-in gains from all of a source."""
        rows = [str(row["row_id"]) for row in self.pool[source]]
        found, base = self.tables(rows, {}, self.asked), self.tables([], {}, self.asked)
        return gains([found] * 2, [base], tasks_of(self.asked))[MEAN].measured.value or 0.0

    def one(self, number: int, learned: Sequence[str], origin: str) -> list[tuple[Kind, str]]:
        """One ablation: the sources as they are, and three that are planted from one of them."""
        asked = [row for row in self.asked if unit(number, "held out again", str(row["judgment_id"])) < 0.5]
        seeds = [1000 * (number + 1) + seed for seed in range(len(self.trials.seeds))]
        own = {source: [str(row["row_id"]) for row in self.pool[source]] for source in learned}
        planted: dict[str, list[str]] = {
            kind: [f"{kind} {row}" for row in own[origin]] for kind in ("flipped", "random", "noisy")
        }
        signs = {row: self.sign(number, row) for rows in planted.values() for row in rows}
        count = self.trials.pairs
        alone = {name: alone_of(rows, count, seeds) for name, rows in (own | planted).items()}
        arms = Arms(alone, filters={"noisy": self.filters(number, planted["noisy"], signs, seeds)})

        def outcome(trial: Trial) -> Tables:
            return self.tables(trial.rows, signs, asked)

        rule = self.ablation.rule.model_copy(update={"evidence": "alone"})  # none is left out here
        choice = choose(evidence(arms, outcome, tasks_of(asked)), {}, rule)
        kinds: list[tuple[Kind, str]] = [("clean", source) for source in learned]
        kinds += [("flipped", "flipped"), ("random", "random"), ("noisy", "noisy")]
        return [(kind, decision_of(choice, name)) for kind, name in kinds]

    def sign(self, number: int, row: str) -> int:
        """-1 where a planted row is flipped."""
        kind = row.partition(" ")[0]
        share = {"flipped": 1.0, "random": 0.5, "noisy": NOISE}[kind]
        return -1 if unit(number, "flipped label", row) < share else 1

    def filters(
        self, number: int, rows: Sequence[str], signs: Mapping[str, int], seeds: Sequence[int]
    ) -> list[FilterArm]:
        """Filters of the noisy source by its score."""
        scores = {row: TELLS * (signs[row] > 0) + float(ndtri(unit(number, "score", row) or 0.5)) for row in rows}
        found = []
        for quantile in self.ablation.filter.quantiles:
            how = ScoreFilter(quantile=quantile)  # its score stands for any
            bound = threshold(list(scores.values()), how)
            left = [row for row in rows if scores[row] >= bound]
            size = min(self.trials.pairs, len(left), max(FEWEST, len(left) // len(seeds)))
            found.append(FilterArm(how, bound, size, alone_of(left, size, seeds), alone_of(rows, size, seeds)))
        return found

    def tables(self, rows: Sequence[str], signs: Mapping[str, int], asked: Sequence[Row]) -> Tables:
        """What the stand-in makes of the held-out rows after some pairs."""
        if tuple(rows) == BASE.rows:
            values = self.judge.trial([])
        else:
            numbers = [self.numbers[row.rpartition(" ")[2]] for row in rows]
            values = self.judge.trial(numbers, [signs.get(row, 1) for row in rows])
        wanted = {str(row["judgment_id"]) for row in asked}
        names = [str(row["judgment_id"]) for row in self.asked]
        probs = {name: shares(value) for name, value in zip(names, values, strict=True) if name in wanted}
        return tables(probs, asked)


def decision_of(choice: Choice, source: str) -> str:
    """What the rule makes of a source in the end; `filter` where it is in, filtered."""
    last = choice.repaired.get(source, choice.sources[source])
    return "filter" if source in choice.repaired and last.verdict == "include" else last.verdict


def write_check(run: Run, counted: Counted, seeds: int, settings: Mapping[str, Any], rule: str) -> None:
    """Write the count as an experiment of its own."""
    from statsmodels.stats.proportion import proportion_confint

    figures, table, points = [], [], {"wrong": [], "right": []}  # type: ignore[var-annotated]
    for kind, found in counted.decisions.items():
        n = sum(found.values())
        for name, count in (("wrong", counted.wrong(kind)), ("right", found[RIGHT[kind]])):
            low, high = map(float, proportion_confint(count, n, method="wilson")) if n else (None, None)
            share = count / n if n else None
            figures.append(Figure(name=f"share {name}", of=kind, value=share, ci_low=low, ci_high=high, n=n))
            points[name].append(Point(share, low, high))
        table.append({"planted": kind, "right is": RIGHT[kind], **{name: found[name] for name in NAMES}})
    made = Experiment(
        name=CHECK,
        title="The rule on planted sources",
        question=f"How often does the rule decide wrongly, over {seeds} draws of pairs and held-out rows?",
        rule=rule,
        settings={**settings, "planted from": counted.sources, "noise": NOISE, "score tells": TELLS},
        seeds=list(range(seeds)),
        figures=figures,
        decisions=[],
        cost=Cost(seconds=0, note="a stand-in: seconds"),
        judge="stand-in",
        notes=[] if counted.sources else ["The stand-in learns from none of the sources, so nothing was planted."],
    )
    plot = forest({"share of decisions": points}, list(counted.decisions), CHECK)
    record.write(run, made, table, plot)

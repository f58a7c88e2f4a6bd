"""Transfer: base and trained judge by domain and prompt format, and where training has helped or done harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.core import step, storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.evaluation.report.plots import Point
from pipelines.evaluation.scoring.comparison import more_than_chance
from pipelines.evaluation.scoring.intervals import Measured
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure
from pipelines.experiments.transfer.cells import Cell, ask, cells_of, write_rows
from pipelines.experiments.transfer.config import TransferConfig
from pipelines.experiments.trials.effects import Tables, ends, gains, outcome, values
from pipelines.experiments.trials.running import run_trials
from pipelines.experiments.trials.trial import BASE
from pipelines.experiments.trials.worker import Ground
from pipelines.judging.tasks import TASKS
from pipelines.training import settings
from pipelines.training.config import TrainConfig

NAME = "transfer"
CONFIDENCE = 0.95


def models_of(run: Run, train: TrainConfig, config: TransferConfig) -> dict[str, str]:
    """Name -> model; the first is what the others are compared with.

    Raises:
        UserError: there are fewer than two.
    """
    if config.models:
        found = dict(config.models)
    else:
        found = {"base": train.model}
        if storage.exists(run.model) and step.is_whole(run.training):
            found["trained"] = str(run.model)
    if len(found) < 2:
        raise UserError("nothing to compare", where="transfer.models", fix="train first, or name two models")
    return found


def describe(run: Run, train: TrainConfig, config: TransferConfig) -> list[str]:
    """What the job would do.

    Raises:
        UserError: a benchmark is unknown.
    """
    cells = cells_of(config)
    names = list(config.models) or ["base", "trained"]
    size = "all rows" if config.sample is None else f"at most {config.sample} rows"
    lines = [f"transfer of {', '.join(names)}: {len(cells)} cells, {size} of each benchmark in a domain"]
    return [*lines, *(f"  {cell}" for cell in cells), f"  -> {record.folder_of(run, NAME)}"]


def run(run: Run, train: TrainConfig, config: TransferConfig) -> Experiment:
    """Judge what is not judged, and write the experiment.

    Args:
        run: gets `experiments/transfer`.
        train: which model is the base, and its engine.
        config: domains and formats.

    Raises:
        UserError: a benchmark or model cannot be used.
    """
    from pipelines.engines.models import everywhere, identity
    from pipelines.engines.tokenizer_facts import shared_counter

    models = {
        name: everywhere(model, f"transfer.models.{name}") for name, model in models_of(run, train, config).items()
    }
    cells = cells_of(config)
    rows, fingerprint = write_rows(run, config)
    asked, left_out = ask(rows, config, run.seed, shared_counter(next(iter(models.values()))))
    length = max(train.max_length, config.max_tokens + 64)  # a verdict comes after the prompt
    plain = train.model_copy(update={"holdout": 0.0, "trackers": [], "max_length": length})
    settings.validate(plain)
    judged: dict[str, Tables] = {}
    seconds = 0.0
    for name, model in models.items():
        depends = {
            "rows": fingerprint,
            "asked": digest([row["judgment_id"] for row in asked], [row["prompt"] for row in asked]),
            "model": identity(model),
            "precision": settings.precision(plain),
        }
        ground = Ground(run.experiments, step.fingerprint(depends), plain, model, None, [], asked)
        say(f"transfer: {name}, {len(asked)} judgments")
        places = run_trials(ground, [BASE], 1)
        judged[name] = outcome(places[BASE], asked)
        done = [step.result_of(ground.block(number)) or {} for number in range(ground.blocks)]
        seconds += sum(one["seconds"] for one in done)
    made, table, plot = compared(cells, judged, asked, config, left_out, seconds)
    record.write(run, made, table, plot)
    for decision in made.decisions:
        say(f"  {decision.about}: {decision.verdict} ({decision.why})")
    say(f"transfer: {record.folder_of(run, NAME)}")
    return made


def compared(
    cells: Sequence[Cell],
    judged: Mapping[str, Tables],
    asked: Sequence[Row],
    config: TransferConfig,
    left_out: Mapping[str, int],
    seconds: float,
) -> tuple[Experiment, list[dict[str, Any]], str]:
    """The record, its table and its plot; cells without a row are left out, and said."""
    base, *others = judged
    known = [cell for cell in cells if str(cell) in judged[base]]
    gone = sorted({f"{cell.domain}, {cell.task}" for cell in cells if cell not in known})
    found: dict[tuple[str, Cell], Measured] = {}
    for name in others:
        for cell in known:
            tasks = {cell.task: [str(cell)]}
            found[name, cell] = gains([judged[name]], [judged[base]], tasks)[cell.task].measured
    sure = more_than_chance({f"{name}\n{cell}": gain for (name, cell), gain in found.items()}, config.error)
    table, figures, decisions = [], [], []
    for cell in known:
        n = len(judged[base][str(cell)])
        tasks = {cell.task: [str(cell)]}
        line: dict[str, Any] = {**cell._asdict(), "n": n, "metric": TASKS[cell.task].metric}
        for name, tables in judged.items():
            line[name] = values([tables], tasks)[cell.task]
            figures.append(Figure(name=f"{name}, {TASKS[cell.task].metric}", of=str(cell), value=line[name], n=n))
        for name in others:
            gain = found[name, cell]
            low, high = ends(gain, CONFIDENCE)
            line |= {f"{name} minus {base}": gain.value, f"{name} low": low, f"{name} high": high}
            p = gain.p_value() if gain.bounds else None
            title = f"{name} minus {base}"
            figures.append(Figure(name=title, of=str(cell), value=gain.value, ci_low=low, ci_high=high, n=n, p=p))
            decisions.append(decided(cell, name, gain, sure[f"{name}\n{cell}"], len(others) > 1))
        table.append(line)
    notes = ["Judgments without critiques, by the probabilities of the closed set of verdicts; pairs in one order."]
    notes += [f"{domain}: {count} rows are too long and left out" for domain, count in left_out.items()]
    notes += [f"{cell}: no row is left" for cell in gone]
    made = Experiment(
        name=NAME,
        title="Transfer to domains and prompt formats",
        question=f"Is the {' and the '.join(others)} judge better than the {base} one in each domain and format?",
        rule="better or worse where the difference on the same rows is not 0 by more than chance (two-sided, error "
        f"{config.error:g} over all cells by Holm)",
        settings={"sample": config.sample, "domains": config.domains, "formats": config.formats},
        seeds=[],
        figures=figures,
        decisions=decisions,
        cost=Cost(seconds=round(seconds, 1), trials=len(judged), note="judging"),
        notes=notes,
    )
    return made, table, drawn(known, others, found)


def decided(cell: Cell, name: str, gain: Measured, sure: bool, several: bool) -> Decision:
    """What a difference says."""
    low, high = ends(gain, CONFIDENCE)
    verdict = "no difference shown"
    if sure and gain.value is not None:
        verdict = "better" if gain.value > 0 else "worse"
    why = gain.why or "undefined"
    if gain.value is not None and low is not None and high is not None:
        why = f"{gain.value:+.3f} [{low:+.3f}, {high:+.3f}], p {gain.p_value():.2g}"
    return Decision(about=f"{name}: {cell}" if several else str(cell), verdict=verdict, why=why)


def drawn(cells: Sequence[Cell], others: Sequence[str], found: Mapping[tuple[str, Cell], Measured]) -> str:
    """A panel for each model, a line for each domain and task, a dot for each format."""
    lines = list(dict.fromkeys((cell.domain, cell.task) for cell in cells))
    formats = list(dict.fromkeys(cell.format for cell in cells))

    def point(name: str, line: tuple[str, str], form: str) -> Point:
        gain = found.get((name, Cell(*line, form)))
        return Point(gain.value, *ends(gain, CONFIDENCE)) if gain else Point(None, None, None)

    panels = {
        f"{name}, gain": {form: [point(name, line, form) for line in lines] for form in formats} for name in others
    }
    return forest(panels, [f"{domain}, {'r' if TASKS[task].scored else task}" for domain, task in lines], NAME)

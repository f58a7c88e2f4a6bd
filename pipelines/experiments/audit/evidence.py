"""The audit as a page and as an experiment: question, figures, findings as decisions, and a plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.core import storage
from pipelines.core.determinism import unit
from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.evaluation.report.plots import Point
from pipelines.experiments import pages
from pipelines.experiments.audit import findings
from pipelines.experiments.audit.agreement import agreement, said_of
from pipelines.experiments.audit.answers import Answers
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.audit.findings import gains_of as gains_of
from pipelines.experiments.audit.sample import for_people
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure

NAME = "audit"
TITLE = "What the critiques say beside the verdict"
EXAMPLES = 12
RULE = (
    "Leaks: the style's area under the ROC curve has an interval above 0.5. Lengths differ, or one side is more "
    "specific: the interval of that difference excludes 0. Recoverable: the checker recovers more sides than chance."
)


@dataclass(frozen=True)
class Found:
    """All that is known of a sample.

    Attributes:
        rows: of the sample, with what the checker said.
        lines: measures, a line a critique.
        style: of `style_leak`.
        table: people's answers, all that the file holds.
        gains: source -> what training on it gained.
        tokens: of the checker.
    """

    rows: list[Row]
    lines: list[dict[str, Any]]
    style: dict[str, Any]
    table: list[dict[str, Any]]
    gains: dict[str, float]
    tokens: int

    def summary(self, run: Run, config: AuditConfig) -> dict[str, Any]:
        """What the page and the file show."""
        shown = for_people(self.rows, config.people, run.seed)
        ids = {row["row_id"] for row in shown}
        # The sample may have been larger when people answered: all that is said of people is of one set of pairs.
        table = [line for line in self.table if line["pair"] in ids]
        said = said_of(table, {row["row_id"]: row for row in shown}, run.seed)
        sources = findings.by_source(self.lines)
        return {
            "sides": findings.by_side(self.lines),
            "style": self.style,
            "sources": sources,
            "people": findings.people_by_side(said),
            "agreements": agreement(table, run.seed) if table else [],
            "with_people": findings.with_people(self.lines, said),
            "gains": self.gains,
            "with_gain": findings.with_gain(sources, self.gains),
            "people_n": len({line["annotator"] for line in table}),
            "answered": len({line["pair"] for line in table}),
            "answers": len(table),
            "outside": len(self.table) - len(table),
            "shown_n": len(shown),
        }

    def as_json(self, run: Run, config: AuditConfig) -> dict[str, Any]:
        """The figures as JSON."""
        found = self.summary(run, config)
        agreements = [one.model_dump(mode="json") for one in found["agreements"]]
        return {"pairs": len(self.rows), **found, "agreements": agreements, "settings": config.identity()}


def answers(place: Place, fingerprint: str) -> list[dict[str, Any]]:
    """People's answers; none where there is no database yet.

    Raises:
        UserError: the place is no database of answers, or they are about other pairs.
    """
    if not storage.exists(place):
        return []
    known = Answers(place, fingerprint)
    try:
        return known.table()
    finally:
        known.close()


def page(run: Run, config: AuditConfig, found: Found) -> str:
    """The page as text."""
    order = sorted(found.rows, key=lambda row: unit(run.seed, "audit examples", row["row_id"]))[:EXAMPLES]
    overlap = {line["row_id"]: line["overlap"] for line in found.lines}
    examples = [{"row": row, "overlap": overlap[row["row_id"]]} for row in order]
    reason = gain_reason(found)
    values = {"title": TITLE, "n": len(found.rows), "run": str(run.pairs), "examples": examples, "gain_reason": reason}
    summary = found.summary(run, config)
    values["outside_note"] = outside_note(summary["outside"])
    return pages.render(__package__ or "", "audit.html.j2", **values, **summary)


def gain_reason(found: Found) -> str:
    """Why the measures are not correlated with a gain."""
    both = {row["source"] for row in found.rows} & set(found.gains)
    return f"{len(both)} sources have both, {findings.LEAST_SOURCES} are needed"


def outside_note(count: int) -> str:
    """What became of people's answers about pairs that are not among those shown now."""
    return (
        f"Left out: {count} answer{'s' if count > 1 else ''} about pairs that people are not shown now, "
        "since audit.rows or audit.people was changed."
    )


def write(run: Run, config: AuditConfig, found: Found, seconds: float) -> None:
    """Write experiment.json, table.csv and plot.svg beside the page."""
    summary = found.summary(run, config)
    notes = [f"Checker: {config.engine.model}."] if config.blind else ["No checker has read the critiques."]
    notes += [] if found.table else ["No person has answered yet."]
    notes += [outside_note(summary["outside"])] if summary["outside"] else []
    notes += [] if summary["with_gain"] else [f"Not correlated with a gain: {gain_reason(found)}."]
    experiment = Experiment(
        name=NAME,
        title=TITLE,
        question="Do the critiques of this curated set argue by content, or can a judge learn from their form alone?",
        rule=RULE,
        settings=config.identity(),
        seeds=[run.seed],
        figures=figures(summary),
        decisions=decisions(summary),
        cost=Cost(seconds=seconds, tokens=found.tokens, note="of the last attempt"),
        notes=notes,
        judge="model" if config.blind else "none",
        links={"page": "audit.html", "measures": "measures.csv"},
    )
    record.write(run, experiment, summary["sides"], plot(summary["sides"]))


def figures(summary: dict[str, Any]) -> list[Figure]:
    """All figures of the record."""
    found = [
        Figure(name=f"{one['about']}: {side}", of="all sources", value=one[side], n=one["n"])
        for one in summary["sides"]
        for side in ("chosen", "rejected")
    ]
    style = summary["style"]
    interval = {"ci_low": style["low"], "ci_high": style["high"]}
    found.append(Figure(name="side told by style alone, AUC", value=style["auc"], n=style["n"], **interval))
    for one in summary["agreements"]:
        interval = {"ci_low": one.low, "ci_high": one.high}
        found.append(Figure(name="Krippendorff's alpha", of=one.question, value=one.alpha, n=one.units, **interval))
    for name, of in (("with people's substance", "with_people"), ("with downstream gain", "with_gain")):
        for measure, one in summary[of].items():
            of_what = findings.MEASURES[measure]
            found.append(Figure(name=f"Spearman {name}", of=of_what, value=one["rho"], p=one["p"], n=one["n"]))
    return found


def decisions(summary: dict[str, Any]) -> list[Decision]:
    """What follows, each from its figure."""
    found = []
    if (low := summary["style"]["low"]) is not None:
        value, high = summary["style"]["auc"], summary["style"]["high"]
        why = f"area under the ROC curve {value:.3f} [{low:.3f}, {high:.3f}]"
        found.append(Decision(about="style", verdict="leaks the side" if low > 0.5 else "no leak seen", why=why))
    for one in summary["sides"]:
        if one["measure"] in ("words", "grounded") and one["low"] is not None:
            sure = one["low"] > 0 or one["high"] < 0
            more = "chosen" if one["difference"] > 0 else "rejected"
            why = f"difference {one['difference']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
            found.append(Decision(about=one["about"], verdict=f"{more} has more" if sure else "no difference", why=why))
    for agreed in summary["agreements"]:
        shown = "–" if agreed.alpha is None else f"{agreed.alpha:.2f}"
        why = f"alpha {shown} over {agreed.units} units of {agreed.annotators} annotators"
        found.append(Decision(about=f"agreement: {agreed.question}", verdict=reliability(agreed.alpha), why=why))
    return found


def reliability(alpha: float | None) -> str:
    """Krippendorff's own bounds: 0.8 for conclusions, 0.667 for tentative ones."""
    if alpha is None:
        return "unknown"
    return "reliable" if alpha >= 0.8 else "tentative" if alpha >= 0.667 else "not reliable"


def plot(sides: list[dict[str, Any]]) -> str:
    """Both sides' means of every measure that is a share."""
    shares = [one for one in sides if one["measure"] != "words"]
    series = {side: [Point(one[side], None, None) for one in shares] for side in ("chosen", "rejected")}
    return forest({"mean": series}, [one["about"] for one in shares], NAME)

"""The comparison of recipes as one of the run's experiments."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.core.run import Run
from pipelines.evaluation.report.plots import Point
from pipelines.evaluation.scoring.results import Results
from pipelines.experiments.recipes.config import RecipesConfig
from pipelines.experiments.recipes.table import Trained, comparisons_of
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure

NAME = "recipes"


def write(run: Run, recipes: RecipesConfig, trained: Mapping[str, Trained], results: Results) -> None:
    """Write the record of a comparison whose table is written.

    Args:
        run: whose comparison it is.
        recipes: the config.
        trained: recipe -> what it trained on and cost.
        results: of the benchmark of all models.
    """
    figures, decisions = [], []
    panels: dict[str, dict[str, list[Point]]] = {}
    for model in results.models:
        for one in comparisons_of(model, results):
            for task, gap in one.tasks.items():
                of = f"{model} minus {one.against}"
                figures.append(
                    Figure(
                        name=f"{task}, {gap.metric}",
                        of=of,
                        value=gap.difference,
                        ci_low=gap.ci_low,
                        ci_high=gap.ci_high,
                        n=gap.n,
                    )
                )
                decisions.append(
                    Decision(about=f"{of}, {task}", verdict=gap.shown or "no difference shown", why=gap.sentence)
                )
                point = Point(gap.difference, gap.ci_low, gap.ci_high)
                panels.setdefault(task, {}).setdefault("difference", []).append(point)
    labels = list(dict.fromkeys(figure.of for figure in figures))
    seconds = sum(one.seconds + one.cost.seconds + one.cost.training_seconds for one in trained.values())
    made = Experiment(
        name=NAME,
        title="Recipes on equal tokens",
        question=f"Of {', '.join(trained)}: which makes the better judge from as many tokens?",
        rule="paired differences on rows that both judged; one is shown where it is not 0 by more than chance (Holm)",
        settings=recipes.model_dump(mode="json"),
        seeds=[run.seed],
        figures=figures,
        decisions=decisions,
        cost=Cost(seconds=round(seconds, 1), trials=len(trained), tokens=sum(one.tokens for one in trained.values())),
        notes=["One seed a training: the intervals count the benchmarks' rows alone."],
        links={"report of the benchmark": "../../recipes/benchmark/report.html"},
    )
    lines = record.read_csv(run.recipes / "table.csv")
    table = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]] if lines else []
    plot = forest(panels, labels, NAME) if panels else "<svg></svg>"
    record.write(run, made, table, plot)

"""Recipes compared: each makes its rows, is cut to equally many tokens, trained, and benchmarked with all others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.evaluation import job as evaluation
from pipelines.evaluation.config import EvaluationConfig
from pipelines.experiments.recipes import records
from pipelines.experiments.recipes.budget import cut, sizes_of
from pipelines.experiments.recipes.config import RecipesConfig
from pipelines.experiments.recipes.table import Trained, shown, write_table
from pipelines.training import settings
from pipelines.training.config import TrainConfig
from pipelines.training.own_critiques_config import Recipe
from pipelines.training.rounds import Cost, cost_of
from pipelines.training.train import material, train_on

if TYPE_CHECKING:
    from pipelines.evaluation.scoring.results import Results


def validate(train: TrainConfig, recipes: RecipesConfig) -> None:
    """Refuse recipes that cannot be compared.

    Raises:
        UserError: a name comes twice, or the training's settings do not fit a recipe.
    """
    if len(set(recipes.names)) < len(recipes.names):
        raise UserError(f"a recipe comes twice: {', '.join(recipes.names)}", where="recipes.names")
    for name in recipes.names:
        settings.validate(config_of(name, train, recipes))


def config_of(name: Recipe, train: TrainConfig, recipes: RecipesConfig) -> TrainConfig:
    """The training of one recipe. The reference is its own: its pairs are not those of other runs."""
    rate = recipes.learning_rate.get(name, train.learning_rate)
    return train.model_copy(update={"recipe": name, "reference": None, "learning_rate": rate})


def run_of(run: Run, name: str) -> Run:
    """The recipe as a run of its own, within the folder of the comparison."""
    return replace(run, out=run.recipes / name)


def judged(run: Run, train: TrainConfig, recipes: RecipesConfig) -> dict[str, str]:
    """Name -> model, of all that are benchmarked: the base first, which every other is compared with."""
    return {"base": train.model} | {name: str(run_of(run, name).model) for name in recipes.names}


def describe(run: Run, train: TrainConfig, config: EvaluationConfig, recipes: RecipesConfig) -> list[str]:
    """What the job would do.

    Raises:
        UserError: as `validate`, or a benchmark is not usable.
    """
    validate(train, recipes)
    tokens = f"{recipes.tokens} tokens" if recipes.tokens else "as many tokens as the recipe with the fewest has"
    lines = [f"compare {' and '.join(recipes.names)} on {tokens}"]
    for name in recipes.names:
        own = run_of(run, name)
        *about, _ = settings.describe(config_of(name, train, recipes), own)
        lines += [*about, f"  {run.pairs} -> {own.model}"]
    return lines + evaluation.describe(*benchmark_of(run, train, config, recipes))


def benchmark_of(
    run: Run, train: TrainConfig, config: EvaluationConfig, recipes: RecipesConfig
) -> tuple[Run, EvaluationConfig, str]:
    """The benchmark of all models together, as a run of its own."""
    models = {"models": judged(run, train, recipes)}
    return replace(run, out=run.recipes), config.model_copy(update=models), train.model


def run(run: Run, train: TrainConfig, config: EvaluationConfig, recipes: RecipesConfig) -> Place:
    """Do what is left of the comparison, and write `table.csv`.

    Returns:
        OUT/recipes.

    Raises:
        UserError: as `validate`; a recipe has fewer tokens than asked for; or the run holds the comparison of another
            config.
    """
    from pipelines.engines.models import everywhere

    validate(train, recipes)
    evaluation.prepare(*benchmark_of(run, train, config, recipes)[:2])  # before hours of training
    model = everywhere(train.model, "train.model")
    configs = {name: config_of(name, train, recipes) for name in recipes.names}
    given = {name: material(one, run.pairs, run_of(run, name)) for name, one in configs.items()}
    sizes = {name: sizes_of(one, given[name], model, run_of(run, name)) for name, one in configs.items()}
    budget = budget_of({name: one.total for name, one in sizes.items()}, recipes)
    done: dict[str, Trained] = {}
    for name, one in configs.items():
        own = run_of(run, name)
        rows = cut(given[name], sizes[name], budget, own)
        left = step.result_of(rows.pairs.parent) or {}
        say(f"recipe {name}: {left['rows']} of {len(sizes[name].tokens)} rows, {left['tokens']} tokens an epoch")
        result = train_on(one, rows, own)
        cost = cost_of(own, one.own_critiques.rounds) if name == "rs_sft" else Cost()
        done[name] = Trained(left["rows"], left["tokens"], one.epochs, result["steps"], result["seconds"], cost)
    results: Results = evaluation.evaluate(*benchmark_of(run, train, config, recipes))
    write_table(run.recipes / "table.csv", done, results)
    records.write(run, recipes, done, results)
    say(shown(done, results))
    say(f"recipes: {run.recipes / 'table.csv'}")
    return run.recipes


def budget_of(totals: dict[str, int], recipes: RecipesConfig) -> int:
    """The tokens that each recipe gets.

    Raises:
        UserError: a recipe has fewer than asked for.
    """
    for name, total in totals.items():
        say(f"recipe {name}: {total} tokens to train on")
    short = {name: total for name, total in totals.items() if total < (recipes.tokens or 0)}
    if short:
        has = ", ".join(f"{name} has {total}" for name, total in short.items())
        raise UserError(f"{recipes.tokens} tokens are more than there are: {has}", where="recipes.tokens", fix="null")
    return recipes.tokens or min(totals.values())

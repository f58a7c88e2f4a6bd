"""The program `openselene`: one command per job."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import pipelines

# Command -> the module of ray_jobs that holds it as `app`. A new job is that module and one line here.
JOBS = {
    "run": "pipeline",
    "curate": "curate",
    "train": "train",
    "benchmark": "benchmark",
    "judge": "judge",
    "sweep": "sweep",
    "recipes": "recipes",
    "leaks": "leaks",
    "calibrate": "calibrate",
    "audit": "audit",
    "annotate": "annotate",
    "ablate": "ablate",
    "axes": "axes",
    "transfer": "transfer",
    "map": "data_map",
    "plan": "plan",
    "fetch": "fetch",
    "serve": "judge_server",
    "arena": "arena",
    "keys": "keys",
    "flips": "flips",
    "release": "release",
    "certify": "certify",
}


class Jobs(TyperGroup):
    """The commands, of which only the chosen one is imported: help and completion stay quick."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the listed command by the job's own, with its options."""
        name, listed, rest = super().resolve_command(ctx, args)
        if name is None:  # a shell completes a name that is unknown so far
            return name, listed, rest
        return name, typer.main.get_command(import_module(f"ray_jobs.{JOBS[name]}").app), rest


def about(module: str) -> str:
    """The docstring of a job's module, read without importing it."""
    source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


app = typer.Typer(
    cls=Jobs,
    help="Curate judge-training data, train a judge, benchmark it: `openselene COMMAND --help` says more.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, _module in JOBS.items():
    app.command(_name, help=about(_module))(lambda: None)


def show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        print(f"openselene {pipelines.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


if __name__ == "__main__":
    app()

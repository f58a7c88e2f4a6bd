"""The command line that every job shares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pipelines.core.config import Config, choose_sources, load_config
from pipelines.core.errors import LedgerError, TooManyErrors, UserError
from pipelines.core.progress import say
from pipelines.core.quiet import quiet_output

Job = Callable[[Config], None]
Plan = Callable[[Config], list[str]]


def command(job: Job, plan: Plan, about: str) -> None:
    """Run a job from the command line; exit 0 done, 1 failed, 2 bad input or config, 130 stopped.

    Args:
        job: does the work.
        plan: says, line by line, what the work would be; must not start Ray or load a model.
        about: the help text.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command(help=about)
    def main(
        config: Annotated[Path, typer.Option(help="YAML config, such as ray_jobs/configs/local.yaml.")],
        overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value, in place of the config's.")] = None,
        only: Annotated[list[str] | None, typer.Option(help="Take this source alone; may be repeated.")] = None,
        skip: Annotated[list[str] | None, typer.Option(help="Leave this source out; may be repeated.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and the plan.")] = False,
    ) -> None:
        sys.exit(_run(job, plan, config, overrides or [], dry_run, only or [], skip or []))

    app()


def _run(
    job: Job,
    plan: Plan,
    path: Path,
    overrides: list[str],
    dry_run: bool,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> int:
    try:
        config = choose_sources(load_config(path, overrides), only, skip)
        if dry_run:
            print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
            print("\n".join(plan(config)))
        else:
            with quiet_output():
                job(config)
    except KeyboardInterrupt:
        say("stopped; run the same command again to go on from here")
        return 130
    except Exception as exc:
        known = _known(exc)
        if known is None:
            raise
        say(f"error: {known}")
        return 2 if isinstance(known, UserError) else 1
    return 0


def _known(exc: BaseException | None) -> BaseException | None:
    """The error of ours behind an exception, if there is one: Ray wraps what its workers raise."""
    while exc is not None:
        if isinstance(exc, UserError | LedgerError | TooManyErrors):
            return exc
        exc = getattr(exc, "cause", None) or exc.__cause__
    return None

"""Serve the Judge Arena: visitors vote on hidden judges. See docs/arena.md.

Without --config it is the packaged one: the embedded model in two wordings. The options look after the votes instead.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import Overrides, application, exit_code
from pipelines.core.errors import UserError
from serve.arena.settings import PACKAGED, load_arena


def main(
    overrides: Overrides = None,
    config: Annotated[Path, typer.Option("--config", help="A YAML file.")] = PACKAGED,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the config and what each judge is.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Replay all votes and compare the stored ratings.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="Print how far a few votes move the ranking.")] = False,
    to: Annotated[str | None, typer.Option("--export", metavar="PLACE", help="Write all as parquet files.")] = None,
    source: Annotated[str | None, typer.Option("--import", metavar="PLACE", help="Fill an empty database.")] = None,
) -> None:
    def work() -> None:
        from serve.arena import commands

        chosen = [one for one in (dry_run, check, audit, to, source) if one]
        if len(chosen) > 1:
            raise UserError("one thing at a time", where="--dry-run, --check, --audit, --export, --import")
        arena = load_arena(config, overrides or [])
        if to:
            commands.export(arena, to)
        elif source:
            commands.bring(arena, source)
        else:
            work = {dry_run: commands.plan, check: commands.check_votes, audit: commands.audit_votes}
            work.get(True, commands.serve)(arena)

    sys.exit(exit_code(work))


app = application(main, __doc__)

if __name__ == "__main__":
    app()

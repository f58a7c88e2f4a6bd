"""Put the public data of a config into its data_root. Each file once, and checked against the lock file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import ConfigOption, Overrides, application, exit_code
from pipelines.config import PACKAGED, choose_sources, load_config
from pipelines.core.environment import check_filled
from pipelines.core.errors import UserError
from pipelines.curation.registry import load_sources
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.fetch.listing import listing
from pipelines.fetch.pins import read_pins, write_pins
from pipelines.fetch.store import fetch
from pipelines.fetch.update import update
from pipelines.fetch.wanted import wanted


def main(
    config: ConfigOption,
    overrides: Overrides = None,
    lock: Annotated[Path, typer.Option(help="The lock file.")] = PACKAGED / "data.lock.yaml",
    only: Annotated[list[str] | None, typer.Option(metavar="SOURCE", help="Fetch for this source; repeatable.")] = None,
    skip: Annotated[list[str] | None, typer.Option(metavar="SOURCE", help="Omit this source; repeatable.")] = None,
    pin: Annotated[bool, typer.Option("--update", help="First write the lock file anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List every file; fetch nothing.")] = False,
) -> None:
    """Read the options and fetch."""

    def work() -> None:
        settings = choose_sources(load_config(config, overrides), only or [], skip or [])
        benchmarks = [] if only else BENCHMARKS.load_all(settings.evaluation.benchmarks, "evaluation.benchmarks")
        needed = wanted([*load_sources(settings.curation.sources), *benchmarks])
        pins = read_pins(lock)
        if pin:
            write_pins(lock, pins := update(needed, pins))
        if dry_run:
            print("\n".join(listing(needed, pins)))
            return
        check_filled(settings.data_root, "data_root")
        if settings.data_root is None:
            raise UserError("there is no place to fetch to", where="data_root", fix="set it to a folder or URL")
        fetch(needed, pins, settings.data_root)

    sys.exit(exit_code(work))


app = application(main, __doc__)

if __name__ == "__main__":
    app()

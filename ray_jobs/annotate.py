"""Serve the page on which people judge critiques. They need no account; their answers are in one database file.

It listens on this machine alone unless `audit.host` says otherwise; then OPENSELENE_AUDIT_KEY must hold a key, which
the address has to end with: http://HOST:PORT/#key=KEY
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipelines.cli import ConfigOption, Overrides, application, exit_code
from pipelines.config import load_config


def main(
    config: ConfigOption,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be served, and stop.")] = False,
) -> None:
    """Read the options and serve."""

    def work() -> None:
        from serve.audit.launch import describe, run

        settings = load_config(config, overrides)
        if dry_run:
            print("\n".join(describe(settings.run, settings.audit)))
            return
        run(settings.run, settings.audit)

    sys.exit(exit_code(work))


app = application(main, __doc__)

if __name__ == "__main__":
    app()

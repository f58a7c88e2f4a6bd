"""Serve a judge on this machine, without Ray. One port has its API, a page and OpenAI's routes; docs/serving.md.

The config has the keys of `args` in serve/config.yaml; without one it is that file. On a cluster the same is
`serve deploy serve/config.yaml`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import Overrides, application, exit_code
from serve.launch import run
from serve.settings import PACKAGED, load_server


def main(
    overrides: Overrides = None,
    config: Annotated[Path, typer.Option("--config", help="A YAML file.")] = PACKAGED,
) -> None:
    sys.exit(exit_code(lambda: run(load_server(config, overrides or []))))


app = application(main, __doc__)

if __name__ == "__main__":
    app()

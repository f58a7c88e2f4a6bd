"""The command line that every job shares."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pipelines.config import Config, choose_sources, load_config
from pipelines.core import storage
from pipelines.core.environment import check_filled
from pipelines.core.errors import LedgerError, TooManyErrors, UserError, WorkersFailed
from pipelines.core.lock import held
from pipelines.core.progress import say
from pipelines.core.quiet import quiet_output
from pipelines.core.retry import retry_errors
from pipelines.run_log.log import logged

# What a user can mend: rights, a read-only or full disk, a quota, a file in the place of a folder.
DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG}
ConfigOption = Annotated[
    Path, typer.Option("--config", help="A YAML file, or the name of a packaged config such as local.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY.PATH=VALUE", help="Values that replace the config's.")
]


def command(job: Callable[[Config], None], plan: Callable[[Config], list[str]], about: str | None) -> typer.Typer:
    """Make the command line of a job; calling it runs the job and exits.

    Args:
        job: does the work.
        plan: says line by line what the work would be, without starting Ray or loading a model.
        about: the help text; its first line is also shown in the list of commands.
    """

    def main(
        config: ConfigOption,
        overrides: Overrides = None,
        only: Annotated[
            list[str] | None, typer.Option(metavar="SOURCE", help="Use only this source; repeatable.")
        ] = None,
        skip: Annotated[list[str] | None, typer.Option(metavar="SOURCE", help="Omit this source; repeatable.")] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print the config, the first rows of each source and what would run.")
        ] = False,
        cluster: Annotated[
            Path | None,
            typer.Option(help="With --dry-run: list all that the run needs on the cluster of this file, and no rows."),
        ] = None,
        again: Annotated[
            bool, typer.Option("--retry-errors", help="First take back error rows and all that was made from them.")
        ] = False,
    ) -> None:
        def work() -> None:
            settings = choose_sources(load_config(config, overrides), only or [], skip or [])
            if cluster:
                if not dry_run:
                    raise UserError(
                        "is for --dry-run: `ray up` starts the cluster", where="--cluster", fix="add --dry-run"
                    )
                print("\n".join(needs(settings, cluster)))
                return
            for key, place in (("out_dir", settings.out_dir), ("data_root", settings.data_root)):
                check_filled(place, key)
            storage.check_writable(settings.out_dir)
            if settings.data_root and not storage.exists(settings.data_root):
                raise UserError(
                    "no such folder", where=f"data_root {settings.data_root}", fix="correct it, or set null"
                )
            if dry_run:
                print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
                print("\n".join(plan(settings)))
            else:
                with quiet_output(), held(settings.run.lock), logged(settings, job.__name__, outcome):
                    if again:
                        retry_errors(settings.run)
                    job(settings)

        sys.exit(exit_code(work))

    return application(main, about)


def needs(config: Config, cluster: Path) -> list[str]:
    """All that a run needs on a cluster, line by line."""
    from pipelines.experiments.needs.needs import needs_of
    from pipelines.experiments.needs.shown import shown

    return shown(needs_of(config.ray, config.curation, config.train, config.evaluation, config.run, cluster))


def application(main: Callable[..., None], about: str | None) -> typer.Typer:
    """Make the command line of one function, from its parameters."""
    # Plain help and tracebacks: both also end up in logs.
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=about)(main)
    return app


def exit_code(work: Callable[[], None]) -> int:
    """Do the work and return the exit code: 0 done, 1 failed, 2 bad input or config, 130 stopped.

    Known errors are printed as one line; any other keeps its traceback, with which Python exits 1.
    """
    try:
        work()
    except KeyboardInterrupt:
        say("stopped; run the same command again to resume")
        return 130
    except Exception as exc:
        known = _known(exc)
        if known is None:
            raise
        say(f"error: {known}")
        return outcome(exc)[0]
    return 0


def outcome(exc: BaseException) -> tuple[int, str]:
    """The exit code of a job that an exception ends, and what to say of it in one line."""
    if isinstance(exc, KeyboardInterrupt):
        return 130, "stopped"
    if isinstance(exc, SystemExit):  # Ray's own answer to SIGTERM is to exit with the signal's number
        return exc.code if isinstance(exc.code, int) else 1, f"ended with {exc.code}"
    if known := _known(exc):
        return 2 if isinstance(known, UserError) else 1, " ".join(str(known).split())
    return 1, f"{type(exc).__name__}: {exc}".partition("\n")[0]


def _known(exc: BaseException | None) -> BaseException | None:
    """The project's own error behind an exception, if there is one: Ray wraps what its workers raise."""
    while exc is not None:
        if isinstance(exc, UserError | LedgerError | TooManyErrors | WorkersFailed):
            return exc
        if isinstance(exc, OSError) and exc.errno in DISK:
            return UserError(exc.strerror or "cannot be written", where=str(exc.filename or "disk"))
        exc = getattr(exc, "cause", None) or exc.__cause__
    return None

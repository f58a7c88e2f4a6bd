"""The command line that every job shares."""

from __future__ import annotations

import errno
import inspect
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pipelines.config import Config, choose_sources, load_config
from pipelines.core import storage
from pipelines.core.environment import check_filled
from pipelines.core.errors import Drifted, LedgerError, TooManyErrors, UserError, WorkersFailed
from pipelines.core.lock import held
from pipelines.core.progress import say
from pipelines.core.quiet import quiet_output
from pipelines.core.retry import retry_errors
from pipelines.run_log.log import logged

# What a user can mend: rights, a read-only or full disk, a quota, a file in the place of a folder.
DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG}
KNOWN = (UserError, LedgerError, TooManyErrors, WorkersFailed, Drifted)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Ray's texts have it
LONGEST = 400  # characters of what a library says
ConfigOption = Annotated[
    Path, typer.Option("--config", help="A YAML file, or the name of a packaged config such as local.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY.PATH=VALUE", help="Values that replace the config's.")
]


def command(
    job: Callable[[Config], None], plan: Callable[[Config], list[str]], about: str | None, files: str | None = None
) -> typer.Typer:
    """Make the command line of a job; calling it runs the job and exits.

    Args:
        job: does the work.
        plan: says line by line what the work would be, without starting Ray or loading a model.
        about: the help text; its first line is also shown in the list of commands.
        files: key of the config that lists files: `leaks.sets` gives the option `--sets FILES...`.
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
        named: list[str] | None = None,
    ) -> None:
        def work() -> None:
            values = with_files(overrides or [], files, named) if files and named else overrides
            settings = choose_sources(load_config(config, values), only or [], skip or [])
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

    signature = inspect.signature(main, eval_str=True)
    parameters = dict(signature.parameters)
    last = parameters.pop("named")
    if files:
        name = f"--{files.rpartition('.')[2]}"
        option = typer.Option(name, metavar="FILES...", help=f"Files, folders or URLs, in place of {files}.")
        parameters["named"] = last.replace(annotation=Annotated[list[str] | None, option])
    main.__signature__ = signature.replace(parameters=[*parameters.values()])  # type: ignore[attr-defined]
    return application(main, about)


def with_files(overrides: Sequence[str], key: str, named: Sequence[str]) -> list[str]:
    """The overrides with files that an option names; a shell that expands `--sets *.jsonl` leaves all but one of them
    among the overrides."""
    more = [one for one in overrides if "=" not in one]
    return [*(one for one in overrides if "=" in one), f"{key}={json.dumps([*named, *more])}"]


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

    The last line says what is wrong, whatever it is. Above it stands, where it is no known error, its traceback; and
    what the workers of a segment died of.
    """
    try:
        work()
    except KeyboardInterrupt:
        say("stopped; run the same command again to resume")
        return 130
    except Exception as exc:
        if (known := _known(exc)) is None:
            traceback.print_exc()
        elif details := str(known).partition("\n")[2].strip():
            say(details)
        code, line = outcome(exc)
        say(f"error: {line}")
        return code
    return 0


def outcome(exc: BaseException) -> tuple[int, str]:
    """The exit code of a job that an exception ends, and what to say of it in one line."""
    if isinstance(exc, KeyboardInterrupt):
        return 130, "stopped"
    if isinstance(exc, SystemExit):  # Ray's own answer to SIGTERM is to exit with the signal's number
        return exc.code if isinstance(exc.code, int) else 1, f"ended with {exc.code}"
    known = _known(exc)
    if isinstance(known, WorkersFailed):
        return 1, str(known).partition("\n")[0]
    if known:
        return 2 if isinstance(known, UserError) else 1, " ".join(str(known).split())
    return 1, _last_words(exc)


def _known(exc: BaseException) -> BaseException | None:
    """The project's own error behind an exception, if there is one: Ray wraps what its workers raise."""
    for cause in _causes(exc):
        # Of a task, Ray raises the exception's own class too, but its words are then Ray's: those of its cause count.
        if isinstance(cause, KNOWN) and not isinstance(getattr(cause, "cause", None), KNOWN):
            return cause
        if isinstance(cause, OSError) and cause.errno in DISK:
            return UserError(cause.strerror or "cannot be written", where=str(cause.filename or "disk"))
    return None


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """An exception and what is behind it, the first cause last; of Ray Train's, what befell each worker."""
    seen: set[int] = set()
    waiting = [exc]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        behind = getattr(one, "cause", None) or one.__cause__ or getattr(one, "controller_failure", None)
        found = [behind, *getattr(one, "worker_failures", {}).values()]
        waiting += [each for each in found if isinstance(each, BaseException)]


def _last_words(exc: BaseException) -> str:
    """An unknown exception in one line: that of its first cause; of a text with a traceback, what stands below it."""
    *_, first = _causes(exc)
    said = COLOUR.sub("", str(first)).strip()
    if getattr(first, "actor_init_failed", False) or "Traceback (most recent call last)" in said:
        # Of an actor that did not start, Ray has the text only.
        return said.rpartition("\n")[2].strip()
    name = type(first).__name__
    return f"{name}: {' '.join(said.split())[:LONGEST]}" if said else name

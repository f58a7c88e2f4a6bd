"""Add, list, revoke and rotate API keys of the judge service."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, get_args

import typer

from pipelines.cli import exit_code
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from serve.access.keys import Entry, OwnLimits, Scope, changing, load, make, until

File = Annotated[Path, typer.Argument(metavar="FILE", help="File of hashed keys: `keys` of the service's settings.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The part between the underscores of sel_ID_...")]
app = typer.Typer(
    help=__doc__,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def end(work: Callable[[], None]) -> None:
    """Do the work and exit; a mistake is one line and exit code 2."""
    sys.exit(exit_code(work))


@app.command()
def add(
    file: File,
    name: Annotated[str, typer.Option(help="Whose key it is.")],
    scopes: Annotated[str, typer.Option(help=f"Of {', '.join(get_args(Scope))}; joined by commas.")] = "judge,chat",
    expires: Annotated[str | None, typer.Option(help="90d, 12h, 2w or a date; default: never.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Default: the service's limit.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Default: the service's limit.")] = None,
) -> None:
    """Make a key and print it, once: only its hash is kept."""

    def work() -> None:
        limits = OwnLimits(requests_per_minute=requests_per_minute, concurrent=concurrent)
        if not 1 <= len(name) <= 100:
            raise UserError("a name has 1 to 100 characters", where="--name")
        key, entry = make(
            name,
            _scopes(scopes),
            expires=until(expires) if expires else None,
            limits=limits if limits != OwnLimits() else None,
        )
        with changing(file) as entries:
            entries.append(entry)
        say(f"key {entry.id} for {name}; it is shown only now:")
        print(key)

    end(work)


@app.command("list")
def show(file: File) -> None:
    """Print id, scopes, expiry and name of every key."""

    def work() -> None:
        now = datetime.now(UTC)
        for entry in load(file).keys:
            state = "expired" if entry.expired(now) else "valid"
            ends = entry.expires.isoformat(timespec="minutes") if entry.expires else "never"
            print(f"{entry.id}  {state:7}  {','.join(entry.scopes):20}  expires {ends:22}  {entry.name}")

    end(work)


@app.command()
def revoke(file: File, id: Id) -> None:
    """Take a key away; a running service refuses it within a second or two."""

    def work() -> None:
        with changing(file) as entries:
            entries.remove(_entry(entries, id, file))
        say(f"key {id} revoked")

    end(work)


@app.command()
def rotate(
    file: File,
    id: Id,
    overlap: Annotated[str, typer.Option(help="How long the old key still works: 1h, 2d; 0m: not at all.")] = "1h",
) -> None:
    """Print a new key with the rights of an old one, which ends after the overlap."""

    def work() -> None:
        with changing(file) as entries:
            old = _entry(entries, id, file)
            lasts = old.expires - old.created if old.expires else None
            last = until(overlap)
            key, new = make(
                old.name,
                old.scopes,
                expires=datetime.now(UTC).replace(microsecond=0) + lasts if lasts else None,
                limits=old.limits,
            )
            ends = min(last, old.expires) if old.expires else last
            entries[entries.index(old)] = old.model_copy(update={"expires": ends})
            entries.append(new)
        say(f"key {new.id} for {new.name}; {old.id} ends {ends.isoformat(timespec='minutes')}; shown only now:")
        print(key)

    end(work)


def _entry(entries: list[Entry], id: str, file: Path) -> Entry:
    for entry in entries:
        if entry.id == id:
            return entry
    raise UserError(f"no key {id[:40]!r}", where=str(file), fix="see: openselene keys list")


def _scopes(text: str) -> tuple[Scope, ...]:
    wanted = tuple(dict.fromkeys(text.split(",")))
    for one in wanted:
        if one not in get_args(Scope):
            raise UserError(f"no scope {one[:40]!r}", where="--scopes", fix=f"known: {', '.join(get_args(Scope))}")
    return wanted  # type: ignore[return-value]


if __name__ == "__main__":
    app()

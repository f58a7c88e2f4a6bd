"""Errors a person can act on."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input or the config: one line saying what, where and what to do (exit code 2)."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by position; Ray carries this one from a worker to the driver.
        return _rebuild, (self.what, self.where, self.fix)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line} ({self.fix})" if self.fix else line


def _rebuild(what: str, where: str, fix: str) -> UserError:
    return UserError(what, where=where, fix=fix)


class RowFailure(Exception):
    """A row that cannot be processed, through a fault of its own: it ends as `error:<stage>:<reason>[:<detail>]`.

    Any other exception is a fault of the program, the actor or the machine. It is let through: nothing is recorded
    against the row, which is tried again.

    Args:
        reason: a few words joined by `_`, the same for every row of this kind: the ledger counts them.
        detail: what happened to this row, for a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}:{self.detail}" if self.detail else self.reason


def unreadable(path: object, what: str, exc: Exception) -> UserError:
    """The error for a file that is not what its format says."""
    return UserError(f"not a readable {what} file: {one_line(exc)}", where=str(path))


def unshared(node: str, where: str) -> UserError:
    """The error for a node on which a folder of the run is another one: rows would be scattered and lost."""
    fix = "name a folder that all nodes mount, or a URL such as s3://bucket/run"
    return UserError(f"node {node} does not see this folder", where=where, fix=fix)


def one_line(exc: BaseException) -> str:
    """What an exception of a library says, on one line of bounded length."""
    return " ".join(str(exc).split())[:200]


class LedgerError(Exception):
    """Rows went missing or appeared twice: in != ok + filtered + error for a source of a stage."""


class TooManyErrors(Exception):
    """More rows ended as errors than `max_error_share` allows: the run is not to be trusted."""


class SegmentStopped(Exception):
    """The driver has told the workers of a segment to stop, and why."""


class WorkersFailed(Exception):
    """No process of a segment finishes anything any more: its program, model or machine is at fault, and no row."""


class Drifted(Exception):
    """A judge turns more verdicts than a bound allows: it is not the one that was pinned."""

"""Errors a person can act on."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input or the config: one line saying what, where and what to do (exit code 2)."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)  # all three as args, so that the error survives pickling

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line} ({self.fix})" if self.fix else line


class LedgerError(Exception):
    """Rows went missing or appeared twice: in != ok + filtered + error for a source of a stage."""


class TooManyErrors(Exception):
    """More rows ended as errors than `max_error_share` allows: the run is not to be trusted."""

"""API keys: a file of their hashes, and the look at a presented key.

A key is `sel_<id>_<secret>`. The id is public: it stands in logs and in the file. The secret is shown once.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import yaml
from pydantic import AwareDatetime, Field, model_validator

from pipelines.core.errors import UserError
from pipelines.core.yaml_model import Strict, parse_model, read_yaml

Scope = Literal["judge", "chat", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = ("judge", "chat", "metrics", "admin")
LOOK = 1.0  # seconds between two looks at the file
LONGEST = 200  # bytes of a presented key
_KEY = re.compile(rb"sel_([a-z2-7]{10})_[a-z2-7]{52}")
# Compared with where there is no such key, so that a wrong id costs the same work as a wrong secret.
_NOBODY = "0" * 64
_log = logging.getLogger("openselene.keys")


class OwnLimits(Strict):
    """Limits of one key; what it does not name is as in the service's settings."""

    requests_per_minute: int | None = Field(None, ge=1)
    concurrent: int | None = Field(None, ge=1)


class Entry(Strict):
    """One key as the file has it."""

    id: str = Field(pattern=r"^[a-z2-7]{10}$")
    name: str = Field(min_length=1, max_length=100)
    # One round of SHA-256 is enough here: a slow, salted hash protects secrets that people choose and that could be
    # guessed one after another. This secret is 256 random bits; nobody tries them out at any speed.
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: AwareDatetime
    expires: AwareDatetime | None = None
    limits: OwnLimits | None = None

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= now


class KeyFile(Strict):
    """The file: `keys:` and a list of entries."""

    keys: tuple[Entry, ...] = ()

    @model_validator(mode="after")
    def _ids_differ(self) -> KeyFile:
        if len({entry.id for entry in self.keys}) < len(self.keys):
            raise ValueError("two keys of one id")
        return self


def make(
    name: str,
    scopes: tuple[Scope, ...],
    *,
    expires: datetime | None = None,
    limits: OwnLimits | None = None,
) -> tuple[str, Entry]:
    """A new key, and its entry for the file."""
    number, secret = _letters(secrets.token_bytes(6))[:10], _letters(secrets.token_bytes(32))
    key = f"sel_{number}_{secret}"
    now = datetime.now(UTC).replace(microsecond=0)
    return key, Entry(
        id=number, name=name, hash=_digest(key.encode()), scopes=scopes, created=now, expires=expires, limits=limits
    )


def _letters(raw: bytes) -> str:
    # Base32: letters and digits alone, so that a double click takes the whole key.
    return base64.b32encode(raw).decode().rstrip("=").lower()


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def load(path: Path) -> KeyFile:
    """Read the file.

    Raises:
        UserError: it is missing, broken, or others than its owner can write it: they could add keys of their own.
    """
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise UserError(exc.strerror or "cannot be read", where=str(path), fix="make it: openselene keys add") from None
    if mode & 0o022:
        raise UserError("others can write this file of keys", where=str(path), fix=f"chmod 600 {path}")
    try:
        raw = read_yaml(path)
    except OSError as exc:
        raise UserError(exc.strerror or "cannot be read", where=str(path)) from None
    if not isinstance(raw, dict):
        raise UserError("not a mapping with `keys`", where=str(path))
    return parse_model(KeyFile, raw, where=str(path))


@contextmanager
def changing(path: Path) -> Iterator[list[Entry]]:
    """The entries of the file, to be changed in the block; written as a whole at its end, readable by the owner alone.

    One process at a time: two that add a key at once both keep theirs. A missing file is an empty one.

    Raises:
        UserError: as for `load`, or its folder cannot be written.
    """
    path = path.resolve()  # a link stays a link
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise UserError(exc.strerror or "no such folder", where=str(path.parent)) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        entries = list(load(path).keys) if path.exists() else []
        yield entries
        _write(path, KeyFile(keys=tuple(entries)))
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, keys: KeyFile) -> None:
    values = keys.model_dump(mode="json", exclude_none=True)
    try:
        # mkstemp makes it 0600 from the start.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as exc:
        raise UserError(exc.strerror or "cannot be written", where=str(path.parent)) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yaml.safe_dump(values, file, sort_keys=False, allow_unicode=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def until(text: str, *, now: datetime | None = None) -> datetime:
    """The moment that `90d`, `12h`, `30m` or `2w` from now means, or a date such as `2027-01-31`.

    Raises:
        UserError: it is neither, or is in the past.
    """
    now = now or datetime.now(UTC).replace(microsecond=0)
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    try:
        if span := re.fullmatch(r"(\d{1,5})([mhdw])", text):
            moment = now + timedelta(**{units[span[2]]: int(span[1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UserError(f"no time: {text[:40]!r}", fix="write 90d, 12h, 30m, 2w or 2027-01-31") from None
    if moment < now:
        raise UserError(f"in the past: {text[:40]}")
    return moment


class Keys:
    """The keys of a file that may change at any time.

    Raises:
        UserError: the file cannot be read at the start. Later, a broken file leaves the keys as they were.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._look()
        self._looked = time.monotonic()
        self._entries = {entry.id.encode(): entry for entry in load(path).keys}

    def find(self, presented: bytes) -> Entry | None:
        """The entry of a presented key; None if there is none or its time is over."""
        parts = _KEY.fullmatch(presented) if len(presented) <= LONGEST else None
        entry = self._entries.get(parts[1]) if parts else None
        same = hmac.compare_digest(_digest(presented[:LONGEST]), entry.hash if entry else _NOBODY)
        return entry if entry and same and not entry.expired(datetime.now(UTC)) else None

    async def refresh(self) -> None:
        """Read the file again if it has changed; looks at most once a second.

        Requests that come while it is read are judged by the keys of before.
        """
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen  # also of a broken file: it is complained of once, not once a second
        try:
            # In a thread: parsing a file of a thousand keys would hold up every request.
            loaded = await asyncio.to_thread(load, self.path)
        except UserError as exc:
            _log.error("the keys stay as they were: %s", exc)
            return
        self._entries = {entry.id.encode(): entry for entry in loaded.keys}
        _log.info("%s: %d keys read", self.path, len(loaded.keys))

    def _look(self) -> tuple[int, ...]:
        try:
            stat = self.path.stat()
        except OSError:
            return ()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_mode

"""The arena's key, and what is made with it: battle tokens, hidden draws, visitors without their addresses.

The key comes from the variable OPENSELENE_ARENA_KEY, or from a file beside the SQLite database that is made at the
first start. Who has it can foretell which judges fight, and can tell an address from its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from itsdangerous import BadData, URLSafeTimedSerializer

from pipelines.core.errors import UserError
from serve.refused import Refused

VARIABLE = "OPENSELENE_ARENA_KEY"
FILE = "arena.key"
LEAST = 32  # characters
PORT = re.compile(r"^(?:([\d.]+)|\[([^\]]+)\])(?::\d+)?$")  # some proxies add it to an address


@dataclass(frozen=True)
class Secret:
    """The key's uses, each with a purpose of its own, so that none tells anything of another."""

    key: str = field(repr=False)

    def draw(self, purpose: str, name: str, below: int) -> int:
        """A number in [0, below), as random to others as the key is secret."""
        return int.from_bytes(self._mac(purpose, name)) % below

    def visitor(self, address: str) -> str:
        """Who has an address, as 32 hex digits; of IPv6 its /64 counts, since one household has all of that."""
        try:
            found = ip_address(PORT.sub(r"\1\2", address))
        except ValueError:
            return self._mac("visitor", address).hex()[:32]
        if isinstance(found, IPv6Address):
            if found.ipv4_mapped:
                return self.visitor(str(found.ipv4_mapped))
            return self._mac("visitor", str(int(found) >> 64)).hex()[:32]
        return self._mac("visitor", str(found)).hex()[:32]

    def token(self, battle: str) -> str:
        """A battle's id, signed, with the time."""
        return self._signer().dumps(battle)

    def battle(self, token: str, seconds: float) -> str:
        """The battle of a token.

        Raises:
            Refused: it was not made here, or is too old.
        """
        try:
            found = self._signer().loads(token, max_age=int(seconds))
        except BadData:
            raise Refused(403, "bad_token", "this battle is not known here, or is over", param="battle") from None
        return str(found)

    def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            self.key, salt="openselene-arena-battle", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def _mac(self, purpose: str, name: str) -> bytes:
        return hmac.digest(self.key.encode(), f"{purpose}\0{name}".encode("utf-8", "surrogatepass"), "sha256")


def load_secret(folder: Path | None) -> Secret:
    """The key from the environment or the file.

    Args:
        folder: of the SQLite database; None if the database is a server's.

    Raises:
        UserError: there is none and no place to make one, it is too short, or others can read its file.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        if len(given) < LEAST:
            raise UserError(
                f"a key of at least {LEAST} characters is needed", where=VARIABLE, fix="openssl rand -hex 32"
            )
        return Secret(given)
    if folder is None:
        raise UserError("is not set", where=VARIABLE, fix=f"export {VARIABLE}=$(openssl rand -hex 32), and keep it")
    path = folder / FILE
    try:
        # Only one of two servers that start at once makes it; the other reads it.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    except OSError as exc:
        raise UserError(f"the key cannot be written: {exc.strerror}", where=str(path)) from None
    if path.stat().st_mode & 0o077:
        raise UserError("others can read the arena's key", where=str(path), fix=f"chmod 600 {path}")
    found = path.read_text().strip()
    if len(found) < LEAST:
        raise UserError("the key is not whole", where=str(path), fix=f"remove the file, or set {VARIABLE}")
    return Secret(found)

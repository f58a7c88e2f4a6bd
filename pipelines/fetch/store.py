"""Files into the store: each whole or not at all, checked against its pin, once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.storage import Place
from pipelines.fetch.download import WAITS, patiently, read
from pipelines.fetch.pins import Pin, Pins
from pipelines.fetch.wanted import Wanted


def fetch(needed: Sequence[Wanted], pins: Pins, root: Place) -> None:
    """Fetch what is not there yet; run again after a stop, it goes on with the file it was at.

    Raises:
        UserError: something is not pinned; a file cannot be read, or is not what was pinned.
    """
    loose = [one.place for one in needed if not one.by_hand and not pins.of(one.place)]
    if loose:
        fix = "pin it with --update and look at the difference, or leave its source out with --skip"
        raise UserError(f"{len(loose)} of {len(needed)} not pinned, such as {loose[0]}", where="lock file", fix=fix)
    files = {name: pin for one in needed for name, pin in pins.of(one.place).items()}
    for number, (name, pin) in enumerate(files.items(), start=1):
        done = "there" if there(root / name, pin) else _fetch(root / name, pin)
        say(f"fetch {number}/{len(files)}: {name}, {pin.bytes / 1e6:,.1f} MB: {done}")
    for one in needed:
        if one.by_hand:
            say(f"fetch: by hand: {one.place} for {one.source}: {one.by_hand}")


def there(place: Place, pin: Pin) -> bool:
    """Whether the store has the file.

    Raises:
        UserError: it has another version of it.
    """
    receipt = _receipt(place)
    if not storage.exists(place) or not storage.exists(receipt):
        return False
    held = storage.read_text(receipt).strip()
    if held != pin.sha256:
        fix = "choose another data_root, or remove the file there"
        raise UserError(
            f"another version than the pinned one is there: {held[:12]}, not {pin.sha256[:12]}",
            where=str(place),
            fix=fix,
        )
    return True


def _fetch(place: Place, pin: Pin) -> str:
    for attempt in range(len(WAITS) + 1):
        try:
            _attempt(place, pin)
            break
        except UserError as exc:
            if not patiently(attempt, exc):
                raise
    storage.write_text(_receipt(place), pin.sha256 + "\n")
    return "fetched"


def _attempt(place: Place, pin: Pin) -> None:
    state = hashlib.sha256()
    with storage.draft(place) as local, local.open("wb") as file:  # storage.draft: a local file
        for piece in read(pin.url):
            state.update(piece)
            file.write(piece)
        file.flush()
        if state.hexdigest() != pin.sha256:
            fix = "see what has changed there; --update pins it as it is now"
            raise UserError(
                f"changed: sha256 {state.hexdigest()[:12]}, pinned {pin.sha256[:12]}", where=pin.url, fix=fix
            )


def _receipt(place: Place) -> Place:
    return place.with_name(f".{place.name}.sha256")  # readers pass over names that begin with a dot

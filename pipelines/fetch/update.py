"""Pin what is not pinned, and see what has changed: needs a network."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core.errors import UserError, one_line
from pipelines.core.progress import say
from pipelines.datasets.readers import hub_folder
from pipelines.datasets.spec import Hub
from pipelines.fetch.download import digest
from pipelines.fetch.pins import Pin, Pins
from pipelines.fetch.wanted import Wanted

PARQUET = "refs/convert/parquet"  # the hub's own copy of a dataset as parquet: CONFIG/SPLIT/0000.parquet


def update(needed: Sequence[Wanted], pins: Pins) -> Pins:
    """The lock file as the files are now; what cannot be reached keeps its pin, or is listed with the reason."""
    files, unpinned = dict(pins.files), dict(pins.unpinned)
    for one in needed:
        if one.by_hand:
            continue
        try:
            found = hub_files(one.hub) if one.hub else {one.place: _pin(one.url)}
        except UserError as exc:
            say(f"fetch: not pinned: {one.place}: {exc}")
            if not pins.of(one.place):
                unpinned[one.place] = str(exc)
            continue
        _tell(pins.of(one.place), found)
        files = {name: pin for name, pin in files.items() if name not in pins.of(one.place)} | found
        unpinned.pop(one.place, None)
    return Pins(files=files, unpinned=unpinned)


def hub_files(hub: Hub) -> dict[str, Pin]:
    """The parquet files of a hub dataset at the commit they are at now, under their places in the store.

    Raises:
        UserError: the hub cannot be reached, or has no such copy.
    """
    from huggingface_hub import HfApi, hf_hub_url

    try:
        api, where = HfApi(), f"{hub.config or 'default'}/{hub.split}"
        copies = {ref.ref: ref.target_commit for ref in api.list_repo_refs(hub.id, repo_type="dataset").converts}
        if PARQUET not in copies:
            raise UserError("the hub has no parquet copy of it", where=f"hub dataset {hub.id}")
        commit = copies[PARQUET]
        tree = api.list_repo_tree(hub.id, path_in_repo=where, revision=commit, repo_type="dataset")
        listed = [file for file in tree if str(file.path).endswith(".parquet")]
    except UserError:
        raise
    except Exception as exc:  # offline, no access, no such set or split: the hub's client raises a dozen types
        why = f"cannot be listed ({type(exc).__name__}: {one_line(exc)})"
        raise UserError(why, where=f"hub dataset {hub.id}", fix="check the id, the network and HF_TOKEN") from None
    found = {}
    for file in listed:
        url = hf_hub_url(hub.id, file.path, repo_type="dataset", revision=commit)
        known = Pin(url=url, sha256=file.lfs.sha256, bytes=file.size) if file.lfs else _pin(url)
        found[f"{hub_folder(hub)}/{file.path.rpartition('/')[2]}"] = known
    if not found:
        raise UserError(f"no parquet files in {where}", where=f"hub dataset {hub.id}")
    return found


def _pin(url: str) -> Pin:
    sha256, size = digest(url)
    return Pin(url=url, sha256=sha256, bytes=size)


def _tell(before: dict[str, Pin], now: dict[str, Pin]) -> None:
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old is None and new:
            say(f"fetch: pinned: {name}, {new.bytes:,} bytes, sha256 {new.sha256[:12]}")
        elif old and new and old.sha256 != new.sha256:
            say(f"fetch: changed: {name}: sha256 {old.sha256[:12]} is now {new.sha256[:12]}")
        elif old and new is None:
            say(f"fetch: gone: {name}")

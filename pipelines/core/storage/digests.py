"""Digests of files and folders, by their content wherever they are: a copy has that of its original."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from pipelines.core.errors import UserError
from pipelines.core.storage import stores
from pipelines.core.storage.files import AT_ONCE, Version, all_files, exists, is_folder, opened, version
from pipelines.core.storage.places import Place, Url, path_in


def content_digest(place: Place) -> str:
    """Hash of every byte of a file, or of the names and bytes of a folder's files; not of times, which a copy changes.

    Raises:
        UserError: there is neither.
    """
    if not exists(place):
        raise UserError("no such file or folder", where=str(place))
    if not is_folder(place):
        return _file_digest(version(place))
    state = hashlib.blake2b(digest_size=16)
    for path in all_files(place):
        state.update(f"{path_in(path, place)}\x1f{_file_digest(version(path))}\x1f".encode())
    return state.hexdigest()


def state_of(folder: Url) -> str:
    """Hash of what a store says of a folder's files, without reading one: it changes whenever a content does.

    Raises:
        UserError: there are none.
    """
    found = sorted(url for url, info in stores.listing(folder, deep=True) if info.is_file)
    if not found:
        raise UserError("no such folder", where=str(folder))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        states = list(pool.map(version, found))
    said = "\x1e".join(f"{one.place}\x1f{one.changed}\x1f{one.size}" for one in states)
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=4096)  # once a process: models are asked for by several segments
def _file_digest(file: Version) -> str:
    with opened(file.place) as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

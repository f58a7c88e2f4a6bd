"""SHA-256 of every file of a release, in the form that `sha256sum --check` reads."""

from __future__ import annotations

import hashlib

from pipelines.core import storage
from pipelines.core.storage import Place, path_in

SUMS = "SHA256SUMS"


def sha256(file: Place) -> str:
    """SHA-256 of a file's content, in hex."""
    with storage.opened(file) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def digests_of(folder: Place) -> dict[str, str]:
    """Path in the folder -> SHA-256, of all files but the list of checksums itself."""
    found = {path_in(path, folder): sha256(path) for path in storage.all_files(folder)}
    return {name: digest for name, digest in sorted(found.items()) if name != SUMS}


def write_sums(folder: Place) -> dict[str, str]:
    """Write `SHA256SUMS` beside the files it is about, and return what it says."""
    found = digests_of(folder)
    storage.write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in found.items()))
    return found

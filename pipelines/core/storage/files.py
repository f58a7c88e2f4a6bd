"""Files and folders at any place: listed, read, written, removed. A reader sees a file whole or not at all."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow.fs as pafs

from pipelines.core.errors import UserError
from pipelines.core.storage import stores
from pipelines.core.storage.places import Place, Url

AT_ONCE = 16  # requests to a store
DRAFTS = "._"  # names that begin so are drafts and notes
P = TypeVar("P", Path, Url, Place)


class Version(NamedTuple):
    """A file as it is now: the key of what is read from it once a process."""

    place: Place
    changed: int | str
    size: int


def exists(place: Place) -> bool:
    """Whether there is a file or a folder; in a store, a folder is there as long as a file is in it."""
    if not isinstance(place, Url):
        return place.exists()
    kind = stores.info(place).type
    # Some stores keep the name of a folder for a while after its last file is gone.
    return kind == pafs.FileType.File or (kind == pafs.FileType.Directory and holds_files(place))


def is_folder(place: Place) -> bool:
    """Whether there is a folder; in a store, whether something is in it."""
    return stores.info(place).type == pafs.FileType.Directory if isinstance(place, Url) else place.is_dir()


def files(folder: Place, suffix: str = "") -> list[Place]:
    """The files of a folder, sorted by name; none where there is no folder.

    Names that begin with a dot or an underscore are drafts and notes, and are left out.
    """
    if isinstance(folder, Url):
        return [*sorted(one for one, info in stores.listing(folder) if _counts(one.name, suffix) and info.is_file)]
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _counts(path.name, suffix) and path.is_file())


def _counts(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and name[0] not in DRAFTS


def find(folder: Place, name: str) -> list[Place]:
    """The files of a name in a folder and all below it, sorted."""
    if isinstance(folder, Url):
        return [*sorted(one for one, info in stores.listing(folder, deep=True) if info.is_file and one.name == name)]
    return sorted(path for path in folder.rglob(name) if path.is_file())


def all_files(folder: Place) -> list[Place]:
    """The files of a folder and of all below it, sorted; those whose name begins with a dot are left out."""
    if isinstance(folder, Url):
        found = (one for one, info in stores.listing(folder, deep=True) if info.is_file)
        return [*sorted(one for one in found if not one.name.startswith("."))]
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def matching(pattern: Url) -> list[Url]:
    """The files that a URL with wildcards names, sorted; a URL without any names one."""
    from fsspec.utils import glob_translate  # type: ignore[import-untyped]

    fixed = next((i for i, part in enumerate(pattern.parts) if any(sign in part for sign in "*?[")), None)
    if fixed is None:
        return [pattern] if stores.info(pattern).is_file else []
    wanted = re.compile(glob_translate("/".join(pattern.parts[fixed:])))
    base = Url("/".join(pattern.parts[:fixed]))
    found = stores.listing(base, deep=True)
    return sorted(one for one, info in found if info.is_file and wanted.match(one.relative_to(base).as_posix()))


def holds_files(folder: Place, but: Sequence[str] = ()) -> bool:
    """Whether there is a file in a folder or below it, but for what some names in it hold."""
    if isinstance(folder, Url):
        found = (one.relative_to(folder).parts[0] for one, info in stores.listing(folder, deep=True) if info.is_file)
        return any(name not in but for name in found)
    own = (path for path in folder.iterdir() if path.name not in but) if folder.is_dir() else ()
    return any(path.is_file() or holds_files(path) for path in own)


def check_writable(folder: Place) -> None:
    """Check that a folder is there or can be made, without making it; in a store, that the store answers.

    Raises:
        UserError: a file is in its way, it may not be written to, or the store refuses.
    """
    if isinstance(folder, Url):
        if stores.info(Url(folder.root)).type == pafs.FileType.NotFound and not folder.root.startswith("memory:"):
            raise UserError("there is no such bucket", where=str(folder), fix="make it, or correct the name")
        if stores.info(folder).type == pafs.FileType.File:
            raise UserError("cannot be made, because it is a file", where=str(folder))
        return
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        raise UserError(f"cannot be made, because {nearest} is a file", where=str(folder))
    if not os.access(nearest, os.W_OK):
        raise UserError(f"cannot be written, because {nearest} may not be", where=str(folder))


def make_folder(folder: P) -> P:
    """The folder, made where it is not there; a store has no folders, and needs none."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def fresh(folder: P) -> P:
    """The folder, empty: what a job left there that was stopped before its end is removed."""
    remove(folder)
    return make_folder(folder)


def remove(place: Place) -> None:
    """Remove a file, or a folder with all it holds; nothing happens where there is none."""
    if isinstance(place, Url):
        stores.delete(place)
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def remove_file(place: Place) -> None:
    """Remove what is known to be a file, without asking the store what it is; nothing happens where there is none."""
    if isinstance(place, Url):
        stores.delete_file(place)
    else:
        place.unlink(missing_ok=True)


def version(place: Place) -> Version:
    """The place, what changes with its content, and its size: the ETag in a store, whose times are whole seconds.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if isinstance(place, Url):
        changed, size = stores.tag(place)
        return Version(place, changed or _hash(place), size)
    stat = place.stat()
    return Version(place, stat.st_mtime_ns, stat.st_size)


def size(place: Place) -> int:
    """Bytes of a file; 0 where its store does not say, or there is none."""
    if isinstance(place, Url):
        return stores.info(place).size or 0
    return place.stat().st_size if place.is_file() else 0


def _hash(url: Url) -> str:
    import hashlib

    return hashlib.blake2b(stores.read(url), digest_size=16).hexdigest()


def opened(place: Place) -> io.BufferedReader:
    """A file to read piece by piece; close it."""
    return stores.opened(place) if isinstance(place, Url) else place.open("rb")


def read_bytes(place: Place) -> bytes:
    """A whole file."""
    return stores.read(place) if isinstance(place, Url) else place.read_bytes()


def read_text(place: Place) -> str:
    """A whole text file; bytes that are not UTF-8 are replaced."""
    if isinstance(place, Url):
        text = stores.read(place).decode("utf-8", "replace")
        return io.StringIO(text, newline=None).read()  # line ends as a text file has them
    return place.read_text(encoding="utf-8", errors="replace")


def read_json(place: Place) -> Any:
    """A JSON file."""
    return json.loads(read_text(place))


def write_bytes(place: Place, content: bytes) -> None:
    """Write a file."""
    if isinstance(place, Url):
        stores.write(place, content)
        return
    with draft(place) as local:
        local.write_bytes(content)


def write_text(place: Place, text: str) -> None:
    """Write a text file, making its folder."""
    write_bytes(place, text.encode("utf-8"))


def write_json(place: Place, value: Any) -> None:
    """Write a JSON file, keys in the order given."""
    write_text(place, to_json(value))


def to_json(value: Any) -> str:
    """The text of a JSON file."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def create(place: Place, text: str) -> bool:
    """Write a text file where there is none; of several that try, one succeeds. Whether this one did.

    No two of them may write the same: in a store, whose answer may be lost, the text tells who was first.
    """
    if isinstance(place, Url):
        return stores.create(place, text.encode("utf-8"))
    make_folder(place.parent)
    local = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
    try:
        local.write_text(text, encoding="utf-8")
        os.link(local, place)  # whole from its first moment on
    except FileExistsError:
        return False
    finally:
        local.unlink(missing_ok=True)
    return True


@contextmanager
def draft(place: Place) -> Iterator[Path]:
    """A local file to fill, which becomes `place` when the block ends well and vanishes when it does not."""
    if isinstance(place, Url):
        with scratch() as folder:
            yield folder / place.name
            stores.upload(folder / place.name, place)
        return
    make_folder(place.parent)
    local = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield local
        os.replace(local, place)
    finally:
        local.unlink(missing_ok=True)


@contextmanager
def local_folder(folder: Place, last: str = "") -> Iterator[Path]:
    """An empty local folder for a library to fill; its files are those of `folder` once the block ends.

    They do not appear together, so a marker elsewhere must say that they are complete.

    Args:
        folder: the place.
        last: name of the file without which the others are nothing; a store gets it after them.
    """
    if isinstance(folder, Url):
        with scratch() as local:
            yield local
            remove(folder)
            upload(local, folder, last)
        return
    yield fresh(folder)
    share(folder)


def upload(local: Path, folder: Place, last: str = "") -> None:
    """Copy the files of a local folder into a place; others that are there stay.

    Args:
        local: the folder.
        folder: the place.
        last: name of the file that is copied after all others.
    """
    paths = [path for path in local.rglob("*") if path.is_file()]
    ends = [path for path in paths if path.name == last]

    def copy(path: Path) -> None:
        target = folder / path.relative_to(local).as_posix()
        if isinstance(target, Url):
            stores.upload(path, target)
        else:
            with draft(target) as own:
                shutil.copyfile(path, own)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(copy, [path for path in paths if path not in ends]))
    for path in ends:
        copy(path)


def download(folder: Place, local: Path) -> Path:
    """Copy the files of a place, a folder or one file, into a local folder.

    Returns:
        The local folder, or the file in it.
    """
    if not isinstance(folder, Url):
        copied = shutil.copytree(folder, local, dirs_exist_ok=True) if folder.is_dir() else shutil.copy(folder, local)
        return Path(copied)
    if stores.info(folder).is_file:
        stores.download(folder, local / folder.name)
        return local / folder.name

    def copy(url: Url) -> None:
        target = make_folder((local / url.relative_to(folder)).parent) / url.name
        stores.download(url, target)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(copy, (url for url, info in stores.listing(folder, deep=True) if info.is_file)))
    return local


def share(folder: Path) -> None:
    """Let others read the files of a local folder as the umask says: some libraries write for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | 0o666 & ~mask)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this machine for the time of the block: OPENSELENE_SCRATCH, else the system's temporary folder."""
    with tempfile.TemporaryDirectory(prefix="openselene-", dir=os.environ.get("OPENSELENE_SCRATCH")) as folder:
        yield Path(folder)

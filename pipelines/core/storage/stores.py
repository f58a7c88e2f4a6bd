"""What stands behind URLs: one Arrow file system for each store, and patience where one does not answer."""

from __future__ import annotations

import contextlib
import io
import random
import re
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.core.errors import UserError, one_line
from pipelines.core.storage.places import Url

PATIENCE = 300.0  # seconds of an outage that a job waits for; the clients themselves give up after six
LONGEST = 20.0  # seconds between two tries
PIECE = 8 * 2**20  # bytes read at once
EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure"}
ARROW = frozenset(EXTRAS)  # the schemes that Arrow's own file systems know
# What passes by itself; Ray's list lacks 429 and a bare 500. Each is also a pattern of Ray Data's retries.
PASSING = (
    r"HTTP status (408|429|5\d\d)",
    r"AWS Error (INTERNAL_FAILURE|NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|THROTTLING|REQUEST_TIMEOUT)",
    r"SlowDown|TooManyRequests|ServiceUnavailable|InternalError|ServerBusy|RequestTimeout|reached max retries",
    r"curlCode: (7|28|52|55|56)\b|(?i:timed? ?out|timeout|connection (was )?(reset|refused|closed|aborted))",
    r"(?i:couldn't connect|could not connect|server disconnected|connector ?error|endpointconnectionerror)",
)
# What a person has to mend.
REFUSED = re.compile(
    r"ACCESS_DENIED|AccessDenied|HTTP status (401|403)|NO_SUCH_BUCKET|NoSuchBucket|INVALID_ACCESS_KEY|SIGNATURE"
    r"|InvalidAccessKeyId|NoCredentials|Unable to locate credentials|Forbidden|bucket .* does not exist|EXPIRED_TOKEN"
)
T = TypeVar("T")


def patiently(call: Callable[[], T], where: object) -> T:
    """What a call returns, made again while the store is out, for at most `PATIENCE` seconds.

    Raises:
        UserError: the store refuses: bucket, credentials or rights.
        OSError: the outage lasts, or it is another fault.
    """
    began, pause = time.monotonic(), 0.5
    while True:
        try:
            return call()
        except (FileNotFoundError, FileExistsError, UserError):
            raise
        except (OSError, pa.ArrowException) as exc:
            said = f"{type(exc).__name__}: {exc}"
            if REFUSED.search(said):
                fix = "check the name, the region, and the keys in the environment or the node's role"
                raise UserError(one_line(exc), where=str(where), fix=fix) from None
            if time.monotonic() - began > PATIENCE or not passing(exc):
                raise
        time.sleep(pause * (0.5 + random.random()))
        pause = min(2 * pause, LONGEST)


def passing(exc: BaseException) -> bool:
    """Whether an error says that another try may succeed."""
    said = f"{type(exc).__name__}: {exc}"
    return isinstance(exc, ConnectionError | TimeoutError) or any(re.search(one, said) for one in PASSING)


def arrow(url: Url) -> tuple[pafs.FileSystem, str]:
    """The Arrow file system of a URL, and the path in it: what Arrow, Ray Data and Ray Train take.

    Raises:
        UserError: the store is unknown here, or its client is not installed.
    """
    if url.root.partition("://")[0] in ARROW:
        system, base = _arrow_store(url.root)
        return system, f"{base}/{url.key}".rstrip("/")
    system, path = _fsspec(url)
    handler = _InMemory if url.root.startswith("memory:") else pafs.FSSpecHandler
    return pafs.PyFileSystem(handler(system)), path


class _InMemory(pafs.FSSpecHandler):
    # fsspec's memory hands every reader of a file the same object, so threads move each other's place in it.

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self.fs.cat_file(path))

    open_input_stream = open_input_file


@lru_cache
def _arrow_store(root: str) -> tuple[pafs.FileSystem, str]:
    # `from_uri`, which takes endpoint and region from the environment: the constructor ignores the endpoint.
    # Opened late, a small file is one request and not three.
    options = "?allow_delayed_open=true" if root.startswith("s3:") else ""
    try:
        system, base = patiently(lambda: pafs.FileSystem.from_uri(f"{root}{options}"), root)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise UserError(one_line(exc), where=root) from None
    return system, base


def _fsspec(url: Url) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it; its listings are asked for each time.

    Raises:
        UserError: its client is not installed.
    """
    import fsspec  # type: ignore[import-untyped]

    scheme = url.root.partition("://")[0]
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 20}
    try:
        system, path = fsspec.core.url_to_fs(str(url), **options)
    except ImportError as exc:
        extra = EXTRAS.get(scheme)
        fix = f"pip install 'openselene[{extra}]'" if extra else ""
        raise UserError(f"this kind of store needs a package: {one_line(exc)}", where=str(url), fix=fix) from None
    return system, str(path)


def info(url: Url) -> pafs.FileInfo:
    """What is there: file, folder or nothing, with the size of a file."""
    system, path = arrow(url)
    return patiently(lambda: system.get_file_info(path), url)


def listing(folder: Url, deep: bool = False) -> list[tuple[Url, pafs.FileInfo]]:
    """What is in a folder, or in it and all below it, in no order; nothing where there is none."""
    system, path = arrow(folder)
    selector = pafs.FileSelector(path, recursive=deep, allow_not_found=True)
    found = patiently(lambda: system.get_file_info(selector), folder)
    start = len(path.rstrip("/")) + 1
    return [(folder / one.path[start:], one) for one in found if len(one.path) > start]


def read(url: Url) -> bytes:
    """A whole file."""
    system, path = arrow(url)

    def attempt() -> bytes:
        with system.open_input_file(path) as file:
            return bytes(file.read())

    return patiently(attempt, url)


def write(url: Url, content: bytes) -> None:
    """Write a file in one piece: it is seen whole or not at all."""
    system, path = arrow(url)

    def attempt() -> None:
        stream = system.open_output_stream(path)
        stream.write(content)
        stream.close()  # not by `with`, which closes after a failed write too, and so would show half a file

    patiently(attempt, url)


def upload(local: Path, url: Url) -> None:
    """Copy a local file."""
    system, path = arrow(url)
    own = pafs.LocalFileSystem()

    def attempt() -> None:
        pafs.copy_files(str(local), path, source_filesystem=own, destination_filesystem=system)

    patiently(attempt, url)


def download(url: Url, local: Path) -> None:
    """Copy a file to a local one."""
    system, path = arrow(url)
    own = pafs.LocalFileSystem()

    def attempt() -> None:
        pafs.copy_files(path, str(local), source_filesystem=system, destination_filesystem=own)

    patiently(attempt, url)


def delete(url: Url) -> None:
    """Remove a file, or a folder with all it holds; nothing happens where there is none."""
    system, path = arrow(url)

    def attempt() -> None:
        kind = system.get_file_info(path).type
        try:
            if kind == pafs.FileType.File:
                system.delete_file(path)
            elif kind == pafs.FileType.Directory:
                system.delete_dir(path)
        except FileNotFoundError:
            pass  # an earlier try, or another process, was first

    patiently(attempt, url)


def delete_file(url: Url) -> None:
    """Remove what is known to be a file, without asking what it is; nothing happens where there is none."""
    system, path = arrow(url)

    def attempt() -> None:
        with contextlib.suppress(FileNotFoundError):  # an earlier try, or another process, was first
            system.delete_file(path)

    patiently(attempt, url)


def create(url: Url, content: bytes) -> bool:
    """Write a file where there is none; of several that try with different contents, one succeeds. Whether this did.

    By fsspec's portable call, since Arrow has no conditional write. That a try was answered too late is no defeat: the
    content tells whose it is.
    """
    system, path = _fsspec(url)

    def attempt() -> bool:
        try:
            system.pipe_file(path, content, mode="create")
        except Exception as exc:  # FileExistsError, or EINVAL where the store does not say which condition failed
            if info(url).type == pafs.FileType.NotFound:
                raise exc if isinstance(exc, OSError) else OSError(f"{type(exc).__name__}: {one_line(exc)}") from None
            return read(url) == content
        return True

    return patiently(attempt, url)


def tag(url: Url) -> tuple[str | None, int]:
    """What changes whenever the content of a file does, its ETag, and its size. None where the store has no ETags.

    Raises:
        FileNotFoundError: there is no such file.
    """
    system, path = arrow(url)

    def attempt() -> tuple[str | None, int]:
        with system.open_input_file(path) as file:
            try:
                said = file.metadata() or {}
            except (NotImplementedError, pa.ArrowNotImplementedError):
                said = {}
            return {_text(name).lower(): _text(value) for name, value in said.items()}.get("etag"), file.size()

    return patiently(attempt, url)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class Reading(io.RawIOBase):
    """A file that is read piece by piece, through outages.

    Args:
        url: of the file.
    """

    def __init__(self, url: Url) -> None:
        super().__init__()
        self._url, self._at = url, 0
        self._file: Any = None
        self._size = patiently(lambda: self._opened().size(), url)

    def _opened(self) -> Any:
        if self._file is None:
            system, path = arrow(self._url)
            self._file = system.open_input_file(path)
        return self._file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size - self._at))

        def attempt() -> bytes:
            try:
                file = self._opened()
                file.seek(self._at)
                return bytes(file.read(wanted))
            except OSError:
                self._file = None
                raise

        content = patiently(attempt, self._url) if wanted else b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def readall(self) -> bytes:
        # In pieces of our size: the base class asks for 8 KB at a time, each of them a request.
        return b"".join(iter(lambda: self.read(PIECE) or b"", b""))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()


def opened(url: Url) -> io.BufferedReader:
    """A file to read piece by piece.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return io.BufferedReader(Reading(url), PIECE)

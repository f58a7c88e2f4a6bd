"""Names of places: local paths, and URLs of stores. Nothing here opens anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines.core.errors import UserError

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "memory")  # of stores that a run may be in
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
ACCOUNT = re.compile(r"[\w-]+@[\w.-]+")  # a container and its account, as Azure's URLs have them: no key


@dataclass(frozen=True, order=True)
class Url:
    """A place in a store, with the pure part of what a `Path` can do.

    Not a `Path`, which makes one slash of two, nor a text or anything else that `open` takes: code that forgets to ask
    `storage` fails at once, where it would otherwise write into a local folder of the URL's name.

    Attributes:
        text: scheme, store and key, without a slash at the end.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str | PurePosixPath) -> Url:
        return Url(f"{self.text}/{name}")

    @property
    def root(self) -> str:
        """Scheme and bucket, or container."""
        scheme, _, rest = self.text.partition("://")
        return f"{scheme}://{rest.split('/', 1)[0]}"

    @property
    def key(self) -> str:
        """What comes after the root; empty for the root itself."""
        return self.text[len(self.root) + 1 :]

    @property
    def parts(self) -> tuple[str, ...]:
        """The root and every name below it."""
        return (self.root, *filter(None, self.key.split("/")))

    @property
    def name(self) -> str:
        """The last part; empty for the root."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Url:
        """The folder that it is in; the root is in itself."""
        return Url(self.text.rpartition("/")[0]) if self.key else self

    @property
    def parents(self) -> tuple[Url, ...]:
        """The folders that it is in, the nearest first."""
        return (self.parent, *self.parent.parents) if self.key else ()

    def with_name(self, name: str) -> Url:
        """Another file of the same folder."""
        return self.parent / name

    def is_relative_to(self, other: Url | Path) -> bool:
        """Whether it is that place, or in it."""
        return self == other or other in self.parents

    def relative_to(self, other: Url | Path) -> PurePosixPath:
        """The names that lead here from there.

        Raises:
            ValueError: it is not in that place.
        """
        if not self.is_relative_to(other):
            raise ValueError(f"{self} is not in {other}")
        return PurePosixPath(self.text[len(str(other)) + 1 :])


Place = Path | Url


def place(text: str | Path | Url) -> Place:
    """The place that a user named: a URL, or a local path, which is made absolute.

    Workers run in other folders than the driver, and Ray's checkpoint takes absolute paths only.

    Raises:
        UserError: it is a URL of another kind, or one that holds a key or an option.
    """
    if isinstance(text, Url):
        return text
    found = SCHEME.match(str(text))
    if found is None:
        return Path(text).expanduser().absolute()
    scheme, rest = found[1].lower(), str(text)[found.end() :]
    shown = f"{scheme}://{rest.split('@')[-1].split('?')[0].lstrip('/')}"  # without what may be a key
    if not rest.startswith("/"):
        raise UserError("a URL has two slashes after its scheme", where=shown)
    if scheme == "file":
        if not rest.startswith("//"):
            raise UserError("names another machine", where=shown, fix="file:///folder")
        return Path(rest[1:])
    if scheme not in SCHEMES:
        fix = f"a local folder, or a URL that begins with one of: {', '.join(f'{one}://' for one in SCHEMES[:-1])}"
        raise UserError(f"'{scheme}' is no store that a run can be in", where=shown, fix=fix)
    root = rest[1:].split("/")[0]
    if "?" in rest or ("@" in root and not (scheme.startswith("abfs") and ACCOUNT.fullmatch(root))):
        fix = "keys, endpoint and region come from the environment or the node's role"
        raise UserError("a URL must not hold keys or options", where=shown, fix=fix)
    if not root or re.search(r"\s|%|/\.{0,2}(/|$)|//", rest[1:].rstrip("/")):
        raise UserError("not the URL of a folder: a bucket, then names without spaces", where=shown)
    return Url(f"{scheme}://{rest[1:].rstrip('/')}")


def path_in(one: Place, folder: Place) -> str:
    """The names that lead from a folder to a place in it, with slashes between them."""
    if isinstance(one, Url):
        return one.relative_to(folder).as_posix()
    return one.relative_to(str(folder)).as_posix()


def is_url(text: str) -> bool:
    """Whether a text is meant as a URL."""
    return SCHEME.match(text) is not None


def is_local(where: Place) -> bool:
    """Whether a place is on a file system of this machine."""
    return not isinstance(where, Url)

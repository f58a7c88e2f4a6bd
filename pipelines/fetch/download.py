"""One public file: its bytes by HTTP, and their sha256."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

from pipelines.core.errors import UserError, one_line

CHUNK = 2**20
WAITS = (1.0, 5.0, 20.0)  # seconds before a further attempt
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}


def read(url: str) -> Iterator[bytes]:
    """The bytes of a file, piece by piece; of the hub with the user's token, which goes nowhere else.

    Raises:
        UserError: it cannot be read.
    """
    import httpx2

    try:
        with httpx2.stream("GET", url, headers=_headers(url), follow_redirects=True, timeout=60) as answer:
            answer.raise_for_status()
            yield from answer.iter_bytes(CHUNK)
    except httpx2.HTTPStatusError as exc:
        code = exc.response.status_code
        fix = "ask for access on its page, and set HF_TOKEN" if code in (401, 403) else "check the address"
        raise _Failed(f"the server answers {code}", url, fix, code in TEMPORARY) from None
    except httpx2.HTTPError as exc:
        raise _Failed(
            f"cannot be read ({type(exc).__name__}: {one_line(exc)})", url, "check the network", True
        ) from None


def patiently(attempt: int, exc: UserError) -> bool:
    """Whether to try again after a failure, once the wait is over."""
    if attempt >= len(WAITS) or not getattr(exc, "temporary", False):
        return False
    time.sleep(WAITS[attempt])
    return True


def digest(url: str) -> tuple[str, int]:
    """sha256 and size of a file.

    Raises:
        UserError: it cannot be read.
    """
    for attempt in range(len(WAITS) + 1):
        state, size = hashlib.sha256(), 0
        try:
            for piece in read(url):
                state.update(piece)
                size += len(piece)
            return state.hexdigest(), size
        except UserError as exc:
            if not patiently(attempt, exc):
                raise
    raise AssertionError("the last attempt returns or raises")


def _headers(url: str) -> dict[str, str]:
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.utils import build_hf_headers

    return dict(build_hf_headers()) if url.startswith(f"{ENDPOINT}/") else {}


class _Failed(UserError):
    """A download that failed; `temporary` where another attempt may succeed."""

    def __init__(self, what: str, url: str, fix: str, temporary: bool) -> None:
        super().__init__(what, where=url, fix=fix)
        self.temporary = temporary

"""The page at `/`: paste texts, press Judge, read the verdict. Plain files; what they show comes from the API."""

from pathlib import Path

from fastapi import APIRouter, HTTPException, Response

FOLDER = Path(__file__).parent
TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(
        ("page.js", "question.js", "stream.js", "result.js", "examples.js"), "text/javascript; charset=utf-8"
    ),
}
HEADERS = {
    # Nothing from other hosts, no inline script or style, and no form that is sent by the browser itself.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a new version of the service shows its own page
}
router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    """The page itself."""
    return _file("index.html")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """A file of the page; only names of the list are looked up."""
    return _file(name)


def _file(name: str) -> Response:
    if name not in TYPES:
        raise HTTPException(status_code=404, detail="no such file")
    return Response((FOLDER / name).read_bytes(), media_type=TYPES[name], headers=HEADERS)

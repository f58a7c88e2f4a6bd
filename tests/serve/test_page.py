"""The page's files as they are served: the right types, nothing inline, nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve import page

app = FastAPI()
app.include_router(page.router)
client = TestClient(app)


class Elements(HTMLParser):
    """Every start tag with its attributes; what stands between `script` or `style` tags is kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in {"script", "style"}:
            self.inline += data


def test_every_file_of_the_folder_is_served_with_its_type_and_the_policy() -> None:
    assert set(page.TYPES) == {path.name for path in page.FOLDER.iterdir() if path.suffix not in {".py", ".pyc", ""}}
    for name, kind in page.TYPES.items():
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 200 and answer.headers["content-type"] == kind
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/").text == (page.FOLDER / "index.html").read_text()


@pytest.mark.parametrize("name", ["__init__.py", "..%2Fsettings.py", "%2e%2e/app.py", "x.js", "page.js/"])
def test_no_other_file_is_served(name: str) -> None:
    assert client.get(f"/page/{name}", follow_redirects=False).status_code in {307, 404}
    assert "import" not in client.get(f"/page/{name}", follow_redirects=False).text


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    elements = Elements((page.FOLDER / "index.html").read_text())
    assert not elements.inline.strip()
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            assert not re.match(r"[a-z]*:?//|/", attributes.get(name) or ""), (tag, attributes)
    for path in page.FOLDER.glob("*.*s*"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|@import|\burl\(", path.read_text()
        )


def test_the_api_and_the_page_stand_side_by_side() -> None:
    assert client.get("/openapi.json").json()["paths"] == {}

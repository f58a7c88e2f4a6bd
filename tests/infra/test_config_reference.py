"""docs/configuration.md: says what the config models say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from pipelines.config import Config
from pipelines.core.yaml_model import OPERATIONAL, Strict
from scripts.config_reference import OUTPUT, docstrings, groups, main, models_in, reference


class Inner(Strict):
    """Things
    inside."""

    share: float | None = Field(None, gt=0, le=1)
    """A share | a part,
    over two lines."""


class Base(Strict):
    old: bool = True
    """From the base class."""


class Outer(Base):
    """Everything."""

    name: str
    """Its name."""
    speed: Annotated[int, OPERATIONAL] = Field(3, ge=1)
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    by_name: dict[str, str | Inner] = Field(default_factory=dict)
    optional: Inner | None = None


def test_the_file_is_up_to_date() -> None:
    assert OUTPUT.read_text(encoding="utf-8") == reference(Config), "run `make docs`"


def test_every_key_is_a_line_with_type_default_and_meaning() -> None:
    lines = reference(Outer).splitlines()
    assert "| `old` | true or false | `true` | From the base class. |" in lines
    assert "| `name` | text | required | Its name. |" in lines
    assert '| `kind` | `a` or `b` | `"a"` |  |' in lines
    assert "| `by_name` | mapping of text to text or group | `{}` |  |" in lines
    assert "| `share` | number or null > 0, ≤ 1 | `null` | A share \\| a part, over two lines. |" in lines
    assert "Things inside." in lines


def test_only_keys_that_may_change_on_resume_are_marked() -> None:
    marked = [line for line in reference(Outer).splitlines() if line.startswith("|") and "↻" in line]
    assert marked == ["| `speed` ↻ | integer ≥ 1 | `3` |  |"]


def test_a_group_is_described_once_under_every_path_to_it() -> None:
    assert [path for path, _ in groups(Outer)] == ["", "inner", "by_name.NAME", "optional"]
    page = reference(Outer)
    assert "## `inner`, `by_name.NAME`, `optional`\n" in page and page.count("`share`") == 1


@pytest.mark.parametrize("text", [None, "", "of another time"])
def test_check_writes_nothing_and_fails_on_a_file_that_is_out_of_date(tmp_path: Path, text: str | None) -> None:
    page = tmp_path / "configuration.md"
    if text is not None:
        page.write_text(text)
    assert main(["--check", "--output", str(page)]) == 1
    assert (page.read_text() if page.exists() else None) == text
    assert main(["--output", str(page)]) == 0
    assert main(["--check", "--output", str(page)]) == 0


def test_every_key_of_a_config_says_what_it_means() -> None:
    silent = [
        f"{group.__name__}.{name}"
        for _, group in groups(Config)
        for name, field in group.model_fields.items()
        if not docstrings(group).get(name) and not list(models_in(field.annotation))
    ]
    assert silent == []

"""Which key chooses what on the annotation page: its real files, run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipelines.experiments.audit.sample import as_shown
from serve.audit.app import FOLDER
from tests.experiments.audit_rows import pair

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
SCRIPT = Path(__file__).with_name("questions_by_node.mjs")
LETTERS = "acdefghijklmnopqrstvwxyz"


def shown(task: str, allowed: list[str], pressed: str = "", keys_on: bool = True) -> list[Any]:
    return [as_shown(pair(0, task=task, allowed=allowed), 0), list(pressed), keys_on]


def by_node(folder: Path, *cases: list[Any]) -> list[dict[str, Any]]:
    """What the page's questions do; node needs to be told that its files are modules."""
    for path in FOLDER.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    command = [str(NODE), str(SCRIPT), str(folder), json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def keys(found: dict[str, Any]) -> dict[str, str | None]:
    return {one["value"]: one["key"] for one in found["choices"]}


def test_a_digit_on_a_scale_chooses_that_number(tmp_path: Path) -> None:
    scale = [str(n) for n in range(5)]
    found = by_node(tmp_path, *(shown("absolute", scale, key) for key in scale), shown("absolute", scale, "5"))
    assert [one["answers"] for one in found] == [{"side_1": value} for value in scale] + [{}]
    assert found[5]["took"] == [False]


@pytest.mark.parametrize(
    ("task", "allowed", "expected"),
    [
        ("pairwise", ["A", "B", "Tie"], "123u"),
        ("classification", ["Yes", "No"], "12u"),
        ("absolute", ["1", "2", "3", "4", "5"], "12345u"),
        ("absolute", ["0", "1", "2", "3", "4"], "01234u"),
        ("absolute", [str(n) for n in range(1, 11)], "123456789au"),
        ("absolute", [str(n) for n in range(11)], "0123456789au"),
        ("absolute", ["5", "4", "3", "2", "1"], "54321u"),
        ("absolute", ["-1", "0", "1"], "a01u"),
        ("absolute", ["1.0", "1.5", "2.0"], "1a2u"),
        ("absolute", ["10", "20", "30"], "acdu"),
        ("classification", ["none", "1", "2"], "a12u"),
        # Letters that are choices themselves choose no other one.
        ("classification", list("ACDEFGHIJK"), "123456789lu"),
        ("classification", [f"label {n}" for n in range(40)], "123456789" + LETTERS + "*" * 7 + "u"),
    ],
)
def test_each_choice_shows_its_own_key_and_that_key_chooses_it(
    tmp_path: Path, task: str, allowed: list[str], expected: str
) -> None:
    values = [*allowed, "unclear"]
    wanted = {value: None if key == "*" else key for value, key in zip(values, expected, strict=True)}
    pressed = {value: key for value, key in wanted.items() if key}
    first, *found = by_node(tmp_path, shown(task, allowed), *(shown(task, allowed, key) for key in pressed.values()))
    assert keys(first) == wanted and "b" not in wanted.values()
    assert [one["answers"] for one in found] == [{"side_1": value} for value in pressed]


def test_keys_answer_one_question_after_the_other(tmp_path: Path) -> None:
    (found,) = by_node(tmp_path, shown("absolute", ["0", "1", "2"], "0u4532u12"))
    # `u` is no answer about substance, nor are 5, 3 and 1 scores of this scale: they do nothing there.
    assert found["took"] == [True, False, True, False, False, True, False, True, True]
    assert list(found["answers"].values()) == ["0", "4", "2", "1", "2"]


def test_the_key_is_no_part_of_a_choice_s_name_and_is_told_only_while_keys_are_on(tmp_path: Path) -> None:
    on, off = by_node(tmp_path, shown("absolute", ["0", "1"]), shown("absolute", ["0", "1"], keys_on=False))
    assert [one["said"] for one in on["choices"]] == ["score 0", "score 1", "cannot be told"]
    assert [one["said"] for one in off["choices"]] == [one["said"] for one in on["choices"]]
    assert [one["told"] for one in on["choices"]] == ["0", "1", "u"]
    assert [(one["told"], one["key"]) for one in off["choices"]] == [(None, None)] * 3

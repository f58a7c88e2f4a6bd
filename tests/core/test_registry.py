"""YAML registries: packaged files by name, a user's own by path, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from pipelines.core.registry import Registry
from pipelines.judging.templates import Template

TEMPLATES = Registry("template", Template, "pipelines.judging", "templates")


def own(folder: Path, name: str, text: str = "name: {}\ntask: any\norigin: ours\ntext: hello\n") -> str:
    (folder / f"{name}.yaml").write_text(text.format(name))
    return str(folder / f"{name}.yaml")


def test_a_packaged_file_is_loaded_by_name_and_an_own_one_by_path(tmp_path: Path) -> None:
    assert "pairwise_original" in TEMPLATES.names() == sorted(TEMPLATES.names())
    assert TEMPLATES.load("pairwise_original").task == "pairwise"
    assert TEMPLATES.load(own(tmp_path, "mine")).text == "hello"


def test_an_unknown_name_is_told_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(UserError, match=r"no template 'pairwise_orignal' \(did you mean 'pairwise_original'\? known: "):
        TEMPLATES.load("pairwise_orignal")


def test_a_file_that_is_no_mapping_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"list\.yaml: the template is not a mapping of keys"):
        TEMPLATES.load(own(tmp_path, "list", "[1]"))
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        TEMPLATES.load(str(tmp_path / "none.yaml"))


def test_two_of_one_name_are_refused_and_order_is_kept(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    first, second = own(tmp_path, "mine"), own(tmp_path / "deep", "mine")
    assert [t.name for t in TEMPLATES.load_all([first, "critique"], "templates")] == ["mine", "critique"]
    with pytest.raises(UserError, match=r"templates: .* are both named 'mine'"):
        TEMPLATES.load_all([first, second], "templates")

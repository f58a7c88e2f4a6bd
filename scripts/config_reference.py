"""Write docs/configuration.md: every key of a config with its type, default and meaning, from the models themselves.

python -m scripts.config_reference            # write the file
python -m scripts.config_reference --check    # write nothing, exit 1 when the file is out of date
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipelines.config import Config
from pipelines.core.storage import Url
from pipelines.core.yaml_model import Operational
from scripts.generated_file import generate

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
INTRODUCTION = """\
<!-- Written by scripts/config_reference.py from the config models (`make docs`). Do not edit by hand. -->
# Configuration

Every key of a config. `openselene run --config FILE train.alpha=0.5` replaces a value; `--dry-run` prints them all.
A key marked ↻ (or a group, with all its keys) affects how a run proceeds, not its results: you may change it and
resume the run. When any other key changes, the steps that depend on it refuse to resume: choose a new `out_dir`.
"""
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}
NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any", dict: "mapping"}
NAMES |= {Path: "path", Url: "URL"}


def reference(model: type[BaseModel]) -> str:
    """The page: one section per group of keys, in the order of the config."""
    sections: dict[type[BaseModel], list[str]] = {}
    for path, group in groups(model):
        sections.setdefault(group, []).append(path)
    return "\n".join([INTRODUCTION, *(section(group, paths) for group, paths in sections.items())])


def groups(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every group of keys with the path that leads to it."""
    yield path, model
    for name, field in model.model_fields.items():
        for suffix, inner in models_in(field.annotation):
            yield from groups(inner, f"{path}.{name}{suffix}".lstrip("."))


def models_in(annotation: Any, suffix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The models in a type; those that are values of a mapping stand under a `NAME`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield suffix, annotation
    for inner in get_args(annotation):
        yield from models_in(inner, ".NAME" if get_origin(annotation) is dict else suffix)


def section(model: type[BaseModel], paths: list[str]) -> str:
    """The table of one group of keys."""
    title = ", ".join(f"`{path}`" for path in paths if path) or "Top level"
    words = docstrings(model)
    rows = [
        f"| `{name}`{' ↻' if operational(field) else ''} | {cell(type_of(field))} | {cell(default_of(field))} "
        f"| {cell(words.get(name, ''))} |"
        for name, field in model.model_fields.items()
    ]
    about = " ".join(inspect.cleandoc(model.__doc__ or "").split())
    return "\n".join([f"## {title}", about, "", "| key | type | default | |", "|---|---|---|---|", *rows, ""])


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Key -> the text below it in the model's source, base classes included."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if owner in (object, BaseModel) or not issubclass(owner, BaseModel):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        for key, text in pairwise(definition.body if isinstance(definition, ast.ClassDef) else []):
            if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name) and isinstance(text, ast.Expr):
                found[key.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def operational(field: FieldInfo) -> bool:
    """Whether a resumed run may change the key."""
    return any(isinstance(mark, Operational) for mark in field.metadata)


def type_of(field: FieldInfo) -> str:
    """The type in words, with its bounds."""
    bounds = [
        f"{sign} {getattr(mark, bound)}"
        for mark in field.metadata
        for bound, sign in LIMITS.items()
        if hasattr(mark, bound)
    ]
    return f"{words_of(field.annotation)} {', '.join(bounds)}".strip()


def words_of(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return words_of(inner[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(words_of(one) for one in inner)
    if origin is list:
        return f"list of {words_of(inner[0])}"
    if origin is tuple:
        return f"[{', '.join(words_of(one) for one in inner)}]"
    if origin is dict:
        return f"mapping of {words_of(inner[0])} to {words_of(inner[1])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "group"
    return NAMES[annotation]


def default_of(field: FieldInfo) -> str:
    """The default as a config would have it; a group's keys have their own."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if isinstance(value, BaseModel) else f"`{json.dumps(value, ensure_ascii=False)}`"


def cell(text: str) -> str:
    """Text of a table's cell."""
    return text.replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return generate("Write docs/configuration.md from the config models.", lambda: reference(Config), OUTPUT, arguments)


if __name__ == "__main__":
    sys.exit(main())

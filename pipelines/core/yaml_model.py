"""YAML files as checked models: an unknown key or a wrong type is one clear line."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from pipelines.core.errors import UserError, one_line
from pipelines.core.storage import Place, Url, is_url, place

M = TypeVar("M", bound="Strict")


class Operational:
    """Marks a key that changes how a run goes and not what comes out of it: a resumed run may change it."""


OPERATIONAL = Operational()


def _place(value: Any) -> Place:
    if not isinstance(value, str | Path | Url) or not str(value):
        raise ValueError("a folder or a URL is needed")
    if isinstance(value, Path) and is_url(str(value)):  # Path makes one slash of the two
        raise ValueError("a URL that was made a path has lost a slash: give it as text")
    try:
        return place(value)
    except UserError as refused:
        raise ValueError(str(refused)) from None


Location = Annotated[Place, PlainValidator(_place), PlainSerializer(str, return_type=str)]
"""The type of a key that names a folder: a local one, from the root, or a URL as it is given."""


class Strict(BaseModel):
    """Base of every config model: an unknown key is an error, a value is never changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`yes` is true in YAML, which would count as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        found = value.values() if isinstance(value, dict) and get_origin(annotation) is dict else [value]
        if not _takes_bool(annotation) and any(isinstance(one, bool) for one in found):
            raise ValueError("true or false, and neither has a meaning here")
        return value

    def identity(self) -> dict[str, Any]:
        """The values that a result depends on: all but those marked OPERATIONAL, in JSON's types."""
        values = self.model_dump(mode="json")
        return {
            name: value.identity() if isinstance(value := getattr(self, name), Strict) else values[name]
            for name, field in type(self).model_fields.items()
            if not any(isinstance(mark, Operational) for mark in field.metadata)
        }


def _takes_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_bool, get_args(annotation)))


class _Loader(yaml.SafeLoader):
    """YAML itself keeps the last of two equal keys, and the first section would be gone without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        UserError: the file is missing or not YAML, or a mapping has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError("no such file", where=str(path), fix="check the path") from None
    except UnicodeDecodeError:
        raise UserError("not valid YAML: it is not UTF-8", where=str(path)) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Parse the text of a YAML file.

    Args:
        text: of the file.
        where: what the text is, for the error.

    Raises:
        UserError: it is not YAML, or a mapping has a key twice.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        why = f": {problem}" if (problem := getattr(exc, "problem", None)) else ""
        raise UserError(f"not valid YAML{line}{why}", where=where) from None
    except (ValueError, TypeError) as exc:  # a date that there is not, a key that is a list
        raise UserError(f"not valid YAML: {one_line(exc)}", where=where) from None


def parse_model(model: type[M], raw: dict[str, Any], where: str) -> M:
    """Validate `raw` against a config model, turning the first complaint into one clear line.

    Raises:
        UserError: naming the key, what is wrong and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        first = _deepest(raw, exc.errors(include_url=False))
        key = ".".join(_path(raw, first["loc"], first["type"] == "missing"))
        if first["type"] == "extra_forbidden":
            raise UserError(f"unknown key '{key}'", where=where, fix=_nearest(model, key)) from None
        if first["type"] == "missing":
            raise UserError(f"missing key '{key}'", where=where, fix="add it") from None
        said = str(first["msg"]).removeprefix("Value error, ")
        named = f"key '{key}': " if key else ""
        raise UserError(f"{named}{said}{_got(first['input'])}", where=where) from None


def _deepest(raw: Any, errors: list[ErrorDetails]) -> ErrorDetails:
    """The first error; of what may be one thing or another, the one that found most of it right."""
    first = ".".join(_path(raw, errors[0]["loc"], False))
    return max(
        (one for one in errors if ".".join(_path(raw, one["loc"], False)).startswith(first)),
        key=lambda one: len(_path(raw, one["loc"], one["type"] == "missing")),
    )


def _path(raw: Any, parts: tuple[int | str, ...], missing: bool) -> list[str]:
    """The keys that lead to a value, without what pydantic adds: which member of a union it tried."""
    found = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if isinstance(raw, dict) and (part in raw or (last and missing)):
            found.append(str(part))
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int):
            found.append(str(part))
            raw = raw[part] if part < len(raw) else None
    return found


def _got(value: Any) -> str:
    """The value at fault, where a line has room for it."""
    shown = repr(value)
    # Of a URL the message says what may be shown: the rest may be a key.
    return "" if isinstance(value, dict) or len(shown) > 100 or "://" in shown else f", got {shown}"


def read_model(model: type[M], path: Path) -> M:
    """A YAML file as a checked model.

    Raises:
        UserError: the file is missing, not YAML or not a mapping, or the model refuses a key.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError("not a mapping of keys", where=str(path))
    return parse_model(model, raw, where=str(path))


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for inner in _models(field.annotation):
            keys += _known_keys(inner, f"{prefix}{name}.")
    return keys


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a key may hold: itself, or of a union its members."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) not in (Union, UnionType):
        return []
    return [model for one in get_args(annotation) for model in _models(one)]


def _nearest(model: type[BaseModel], key: str) -> str:
    known = _known_keys(model)
    parent, _, last = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    candidates = [k for k in known if not key.startswith(f"{k}.")]
    # A name without its group is that of the group that comes first: `train` before the experiments' own keys.
    match = [k for k in candidates if not parent and k.endswith(f".{last}")]
    match = match or difflib.get_close_matches(key, candidates, n=1, cutoff=0.6)
    match = match or [k for k in known if difflib.get_close_matches(last, [k.rpartition(".")[2]], n=1, cutoff=0.7)]
    return f"did you mean '{match[0]}'?" if match else f"known here: {', '.join(siblings)}"

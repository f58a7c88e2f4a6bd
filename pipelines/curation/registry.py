"""The sources: packaged YAML files by name, a user's own by path."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from pipelines.core.errors import UserError
from pipelines.core.mapping import Mapping
from pipelines.core.yaml_model import parse_model, read_yaml


def names() -> list[str]:
    """The packaged sources."""
    return sorted(path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.suffix == ".yaml")


def load_source(name: str) -> Mapping:
    """A packaged source by name, or a user's own by the path of its YAML file.

    Raises:
        UserError: no such source, or its YAML is not a mapping of the right keys.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in names():
        path = _folder() / f"{name}.yaml"
    else:
        near = difflib.get_close_matches(name, names(), n=1)
        fix = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(f"no source '{name}'", fix=f"{fix}known: {', '.join(names())}; or the path of a YAML file")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError("the source is not a mapping of keys", where=str(path))
    return parse_model(Mapping, raw, where=str(path))


def load_sources(sources: list[str]) -> list[Mapping]:
    """The mappings of a run's sources, in order.

    Raises:
        UserError: none is named, a source is unknown or not well formed, or two have the same name.
    """
    if not sources:
        raise UserError("no source is named", where="curation.sources", fix=f"known: {', '.join(names())}")
    mappings = [load_source(name) for name in sources]
    seen: dict[str, str] = {}
    for name, mapping in zip(sources, mappings, strict=True):
        if mapping.name in seen:
            where = "curation.sources"
            raise UserError(f"'{seen[mapping.name]}' and '{name}' are both named '{mapping.name}'", where=where)
        seen[mapping.name] = name
    return mappings


def _folder() -> Path:
    return Path(str(resources.files("pipelines.curation") / "sources"))

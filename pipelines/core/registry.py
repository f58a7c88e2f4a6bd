"""Things that are one YAML file each: packaged ones by name, a user's own by path."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Generic, TypeVar

from pipelines.core.errors import UserError
from pipelines.core.yaml_model import Strict, parse_model, read_yaml


class Named(Strict):
    """A model with a name."""

    name: str


N = TypeVar("N", bound=Named)


@dataclass(frozen=True)
class Registry(Generic[N]):
    """The YAML files of one kind.

    Attributes:
        kind: what one is called in messages, such as `source`.
        model: what a file is checked against.
        package: whose folder holds the packaged files.
        folder: that folder's name.
    """

    kind: str
    model: type[N]
    package: str
    folder: str

    def names(self) -> list[str]:
        """The packaged ones."""
        return sorted(path.name.removesuffix(".yaml") for path in self._folder().iterdir() if path.suffix == ".yaml")

    def load(self, name: str) -> N:
        """One by name, or by the path of its YAML file.

        Raises:
            UserError: there is none, or its file is not well formed.
        """
        if name.endswith((".yaml", ".yml")):
            path = Path(name)
        elif name in self.names():
            path = self._folder() / f"{name}.yaml"
        else:
            near = difflib.get_close_matches(name, self.names(), n=1)
            fix = f"did you mean '{near[0]}'? " if near else ""
            known = ", ".join(self.names())
            raise UserError(f"no {self.kind} '{name}'", fix=f"{fix}known: {known}; or the path of a YAML file")
        raw = read_yaml(path)
        if not isinstance(raw, dict):
            raise UserError(f"the {self.kind} is not a mapping of keys", where=str(path))
        return parse_model(self.model, raw, where=str(path))

    def load_all(self, wanted: list[str], where: str) -> list[N]:
        """Several, in order.

        Args:
            wanted: names and paths.
            where: the config key that lists them.

        Raises:
            UserError: one is not known or not well formed, or two have the same name.
        """
        seen: dict[str, str] = {}
        found = []
        for name in wanted:
            one = self.load(name)
            if one.name in seen:
                raise UserError(f"'{seen[one.name]}' and '{name}' are both named '{one.name}'", where=where)
            seen[one.name] = name
            found.append(one)
        return found

    def _folder(self) -> Path:
        return Path(str(resources.files(self.package) / self.folder))

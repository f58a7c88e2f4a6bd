"""The user's code that a specification names with `python` or `loader`: rows depend on what it does."""

from __future__ import annotations

import ast
from importlib import util
from pathlib import Path

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.datasets.spec import DatasetSpec


def code(spec: DatasetSpec) -> list[str]:
    """Name and content digest of each file of code that a source names, and of the files beside it that it imports.

    Raises:
        UserError: there is no such module.
    """
    found: dict[Path, None] = {}
    for key, name in (("python", spec.python), ("loader", spec.loader)):
        if name is None:
            continue
        module = name.partition(":")[0]
        try:
            origin = getattr(util.find_spec(module), "origin", None)
        except (ImportError, ValueError):  # a package above it is not there either
            origin = None
        if origin is None:
            fix = "install it, or add its folder to PYTHONPATH"
            raise UserError(f"no module '{module}' ({key})", where=f"source '{spec.name}'", fix=fix)
        _follow(Path(origin), found)
    return [f"{path.name} {storage.content_digest(path)}" for path in found]


def _follow(path: Path, found: dict[Path, None]) -> None:
    """Add a file and those of its own folder, or below it, that it imports."""
    if path in found:
        return
    found[path] = None
    try:
        tree = ast.parse(storage.read_text(path))
    except SyntaxError:  # or not Python: whoever imports it will say so
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)]
        for name in names:
            for beside in _beside(path.parent, name):
                _follow(beside, found)


def _beside(folder: Path, name: str) -> list[Path]:
    """The file of an imported module, if it is in the folder under its whole name or the end of it."""
    parts = [part for part in name.split(".") if part]
    ends = [folder.joinpath(*parts[start:]) for start in range(len(parts))]
    wanted = [path for end in ends for path in (end.with_suffix(".py"), end / "__init__.py")]
    return [path for path in wanted if storage.exists(path)][:1]

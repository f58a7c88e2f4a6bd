"""Rules of the house that a machine can check: imports point downward, files are small, nothing leaks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the ground up; a package may import packages of lower rows and itself. docs/architecture.md: "Rooms".
LAYERS = (
    {"core"},
    {"judging"},
    {"datasets"},
    {"engines", "data"},
    {"curation", "training", "evaluation", "judge_job"},
    {"fetch"},
    {"experiments", "release"},
    {"config"},
    {"run_log"},
    {"cli"},
)
RANK = {package: rank for rank, row in enumerate(LAYERS) for package in row}
# The same inside a package whose rooms are packages too.
INNER = {
    "evaluation": ({"config"}, {"benchmarks"}, {"asking"}, {"scoring"}, {"report"}, {"job"}),
    "engines": ({"config", "models"}, {"tokenizer_facts"}, {"packed", "llm"}, {"reward"}),
}
HEAVY = {"torch", "vllm", "deepspeed", "trl", "transformers", "ray"}
MAX_LINES = 400

# Written so that this file does not contain what it forbids.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.~/-])/(?:work|root|tmp/v)(?![\w-])",
    "a folder beside the repository": r"\.\./shared",
    "a registry host": r"\b(?:pypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs\.org"
    r"|docker\.io|ghcr\.io|quay\.io|nvcr\.io)\b",
    "a credential": r"\bAKIA[0-9A-Z]{16}\b|\bhf_[A-Za-z0-9]{30,}\b|-----BEGIN [A-Z ]*PRIVATE KEY",
}
ALLOWED = {(".ci/run", "a folder beside the repository")}


def tracked_files() -> list[Path]:
    """Files that git tracks or would add; git is asked so that outputs and environments do not count."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip(f"not a git clone: {listed.stderr.strip()}")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def forbidden_in(name: str, text: str) -> list[str]:
    """`name:line: what` for each forbidden thing in the text."""
    return [
        f"{name}:{number}: {what}"
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in FORBIDDEN.items()
        if (name, what) not in ALLOWED and re.search(pattern, line)
    ]


def imported_modules(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import anywhere in the tree, relative imports resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            # `from pipelines import core` imports pipelines.core.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def layer_violations(root: Path) -> list[str]:
    """Imports of `root`/pipelines that point upward, sideways or out to ray_jobs and serve."""
    found = []
    for path in sorted((root / "pipelines").rglob("*.py")):
        relative = path.relative_to(root)
        is_package = path.name == "__init__.py"
        module = ".".join((relative.parent if is_package else relative.with_suffix("")).parts)
        own = module.split(".")[1] if "." in module else ""
        if own and own not in RANK:
            found.append(f"{relative}: {own} has no place in the layers")
            continue
        for line, name in imported_modules(ast.parse(path.read_text()), module, is_package):
            top, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if top in {"ray_jobs", "serve", "tests", "scripts", "perf"}:
                found.append(f"{relative}:{line}: the library imports {top}")
            elif top == "pipelines" and target != own and RANK.get(target, -2) >= RANK.get(own, -1):
                found.append(f"{relative}:{line}: {own or 'pipelines'} imports {target}")
    return found


def inner_violations(root: Path) -> list[str]:
    """Imports between the rooms of one package that point upward or sideways."""
    found = []
    for package, rows in INNER.items():
        rank = {room: number for number, row in enumerate(rows) for room in row}
        for path in sorted((root / "pipelines" / package).rglob("*.py")):
            relative = path.relative_to(root)
            own = relative.with_suffix("").parts[2]
            module = ".".join(relative.with_suffix("").parts)
            for line, name in imported_modules(ast.parse(path.read_text()), module, False):
                parts = name.split(".")
                target = parts[2] if parts[:2] == ["pipelines", package] and len(parts) > 2 else own
                if target != own and rank.get(target, -2) >= rank.get(own, -1) and own in rank:
                    found.append(f"{relative}:{line}: {own} imports {target}")
    return found


def import_circles(root: Path) -> list[set[str]]:
    """Groups of modules that import each other, imports inside functions included."""
    from graphlib import CycleError, TopologicalSorter

    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts): path for path in (root / "pipelines").rglob("*.py")
    }
    graph = {
        name: {
            target
            for _, imported in imported_modules(ast.parse(path.read_text()), name, False)
            for target in (imported, imported.rpartition(".")[0])
            if target in modules and target != name
        }
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        return [set(exc.args[1])]
    return []


def heavy_imports_at_top(path: Path) -> list[str]:
    """Heavy libraries that importing the file loads: not in a function, not for type checkers alone."""
    found: list[str] = []

    def visit(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                visit(node.orelse)
                continue
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            found.extend(f"{path}:{node.lineno}: {name}" for name in names if name.split(".")[0] in HEAVY)
            for field in ("body", "orelse", "finalbody"):
                visit(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                visit(handler.body)

    visit(ast.parse(path.read_text()).body)
    return found


def test_tracked_files_hold_no_machine_path_registry_host_or_credential() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += forbidden_in(path.relative_to(ROOT).as_posix(), text)
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "/".join(["data_root:", "work", "shared"]),
        "open('/" + "root/x')",
        "HOME=/" + "root",
        "../" + "shared/data",
        "index https://" + ".".join(["pypi", "org"]) + "/simple",
        "AKIA" + "A" * 16,
    ],
)
def test_a_planted_leak_is_found(line: str) -> None:
    assert len(forbidden_in("file.md", line)) == 1


@pytest.mark.parametrize("line", ["network/work/ split", "~/openselene", "/home/ray/work", "/workers/1"])
def test_ordinary_text_is_no_leak(line: str) -> None:
    assert forbidden_in("file.md", line) == []


def test_imports_of_the_library_point_downward() -> None:
    assert layer_violations(ROOT) == []


def test_rooms_of_a_package_import_downward() -> None:
    assert inner_violations(ROOT) == []


def test_a_planted_import_between_rooms_is_found(tmp_path: Path) -> None:
    room = tmp_path / "pipelines" / "evaluation" / "asking"
    room.mkdir(parents=True)
    (room / "a.py").write_text("from pipelines.evaluation.scoring import score")
    (room / "b.py").write_text("from pipelines.evaluation.benchmarks import registry")
    assert inner_violations(tmp_path) == ["pipelines/evaluation/asking/a.py:1: asking imports scoring"]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert import_circles(ROOT) == []


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    room = tmp_path / "pipelines" / "core"
    room.mkdir(parents=True)
    (room / "a.py").write_text("def f():\n    from pipelines.core.b import g")
    (room / "b.py").write_text("from pipelines.core import c")
    (room / "c.py").write_text("import pipelines.core.a")
    assert len(import_circles(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/a.py", "from pipelines.judging import render"),
        ("core/a.py", "def f():\n    import pipelines.engines.reward.stage"),
        ("judging/a.py", "from pipelines import engines"),
        ("engines/a.py", "from ..curation.clean import x"),
        ("curation/a.py", "from pipelines.training import loss"),
        ("judge_job/a.py", "from pipelines.curation import ingest"),
        ("training/__init__.py", "from ..evaluation import metrics"),
        ("evaluation/deep/a.py", "from ...curation import x"),
        ("release/a.py", "import pipelines.experiments"),
        ("curation/a.py", "import ray_jobs.curate"),
        ("engines/a.py", "from serve.app import app"),
        ("__init__.py", "from pipelines.core import errors"),
        ("misc/a.py", "x = 1"),
    ],
)
def test_a_planted_upward_or_sideways_import_is_found(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / "pipelines" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert len(layer_violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("judging/a.py", "from pipelines.core import errors"),
        ("curation/__init__.py", "from .clean import x"),
        ("curation/a.py", "from . import clean\nfrom ..core.errors import UserError"),
        ("release/a.py", "from pipelines.training import loss\nimport ray.serve"),
    ],
)
def test_downward_imports_are_allowed(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / "pipelines" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert layer_violations(tmp_path) == []


def light_modules() -> list[Path]:
    """Files that must load in a moment: the ground layers and the entry points."""
    folders = ("pipelines/core", "pipelines/judging", "ray_jobs")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_light_modules_have_no_heavy_import_at_the_top() -> None:
    assert [found for path in light_modules() for found in heavy_imports_at_top(path)] == []


def test_planted_heavy_imports_are_found_and_lazy_ones_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import vllm\n"
        "def f():\n    import torch\n"
        "class A:\n    def g(self):\n        from transformers import AutoModel\n"
    )
    assert heavy_imports_at_top(path) == []
    path.write_text("try:\n    import torch.nn\nexcept ImportError:\n    from trl import DPOTrainer\n")
    assert len(heavy_imports_at_top(path)) == 2


def test_light_modules_load_nothing_heavy_through_others() -> None:
    names = []
    for path in light_modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = sorted(set(sys.modules) & {HEAVY!r})\n"
        "    assert not loaded, f'importing {name} loads {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_files_are_short() -> None:
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for path in tracked_files()
        if path.suffix == ".py"
    }
    assert {name: count for name, count in lines.items() if count >= MAX_LINES} == {}

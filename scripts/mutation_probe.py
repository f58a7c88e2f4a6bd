"""Plant small faults of logic, one at a time, and see whether the unit tests notice.

    python scripts/mutation_probe.py --count 60 --seed 0      # about half an hour on two cores

Works on a copy of the tree. A fault is a turned comparison, an `and` for an `or`, a sign or an operator of arithmetic,
a condition turned round. All unit tests run once, to know which of them reach which line; for each fault then those
that reach its line, the ones of its own room first. Files that only draw, print or keep time are left out. Prints one
line a fault and the share that was noticed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "judging", "datasets", "engines", "curation", "training", "evaluation", "judge_job")
LOOKS = ("progress", "quiet", "plots", "page", "terminal", "callbacks", "figure")
COMPARE = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "in": "not in", "not in": "in", "is": "is not", "is not": "is",
}  # fmt: skip
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "+"}
HEAVY = ("torch", "transformers", "ray.data", "ray.train.torch", "pandas", "scipy.stats", "sklearn.metrics", "pytest")
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
UNIT = ["-m", "not integration and not slow and not gpu"]


@dataclass(frozen=True)
class Fault:
    """One replacement in one file."""

    path: str
    line: int
    start: int
    end: int
    new: str
    old: str

    def planted(self, text: str) -> str:
        """The file's text with the fault in it."""
        encoded = text.encode()
        return (encoded[: self.start] + self.new.encode() + encoded[self.end :]).decode()

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: `{self.old}` -> `{self.new}`"


def faults(path: Path) -> Iterator[Fault]:
    """Every fault that can be planted in a file."""
    text = path.read_text()
    starts = [0]
    for line in text.encode().split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    encoded = text.encode()
    name = path.relative_to(ROOT).as_posix()

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    def between(left: ast.expr, right: ast.expr, table: dict[str, str]) -> Iterator[Fault]:
        start, end = at(left.end_lineno or 0, left.end_col_offset or 0), at(right.lineno, right.col_offset)
        gap = encoded[start:end].decode()
        word = gap.strip("() \n\t\\")
        if word in table:
            place = start + len(gap[: gap.index(word)].encode())
            yield Fault(name, left.end_lineno or 0, place, place + len(word.encode()), table[word], word)

    def negated(test: ast.expr) -> Fault:
        start, end = at(test.lineno, test.col_offset), at(test.end_lineno or 0, test.end_col_offset or 0)
        old = encoded[start:end].decode()
        return Fault(name, test.lineno, start, end, f"(not ({old}))", old)

    for node in logic(ast.parse(text)):
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield from between(node.left, node.comparators[0], COMPARE)
        elif isinstance(node, ast.BoolOp):
            yield from between(node.values[0], node.values[1], {"and": "or", "or": "and"})
        elif isinstance(node, ast.BinOp) and not any(textual(side) for side in (node.left, node.right)):
            yield from between(node.left, node.right, ARITHMETIC)
        elif isinstance(node, ast.If | ast.IfExp | ast.While) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield negated(node.test)
        elif isinstance(node, ast.comprehension):
            yield from (negated(test) for test in node.ifs)


def logic(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree but those inside messages, annotations and calls that only speak."""
    for child in ast.iter_child_nodes(tree):
        speaks = isinstance(child, ast.Call) and ast.unparse(child.func) in ("say", "print")
        if isinstance(child, ast.JoinedStr | ast.Raise | ast.Assert) or speaks:
            continue
        if isinstance(child, ast.AnnAssign):
            if child.value is not None:
                yield child.value
                yield from logic(child.value)
            continue
        if isinstance(child, ast.arg) or (isinstance(tree, ast.FunctionDef) and child is tree.returns):
            continue
        yield child
        yield from logic(child)


def textual(node: ast.expr) -> bool:
    """Whether an operand is a text, a list or a tuple, where `-` makes no sense."""
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def chosen(count: int, seed: int) -> list[Fault]:
    """Faults by hash, the rooms in turn."""
    ranked: dict[str, list[tuple[str, Fault]]] = {room: [] for room in ROOMS}
    for room in ROOMS:
        for path in sorted((ROOT / "pipelines" / room).rglob("*.py")):
            if path.stem in LOOKS:
                continue
            for fault in faults(path):
                key = hashlib.blake2b(f"{seed} {fault}".encode()).hexdigest()
                ranked[room].append((key, fault))
        ranked[room].sort(key=lambda pair: pair[0])
    turns = zip(*(pairs for pairs in ranked.values() if pairs), strict=False)
    return [fault for turn in turns for _, fault in turn][:count]


def reaching(copy: Path) -> tuple[CoverageData, set[str]]:
    """Which tests reach which lines, from one run of all unit tests; and those that fail without a fault."""
    data = copy / "reaching.coverage"
    os.environ["COVERAGE_FILE"] = str(data)
    measured = ["--cov=pipelines", "--cov-context=test", "--cov-report=", "--cov-config=/dev/null"]
    passes(copy, ["-n2", *measured], 3600)
    found = CoverageData(str(data))
    found.read()
    said = (copy / "tests.log").read_text()
    return found, {line.split(" ", 1)[1].split(" - ")[0] for line in said.splitlines() if line.startswith("FAILED ")}


def tests_of(copy: Path, fault: Fault, data: CoverageData, broken: set[str]) -> list[str]:
    """The tests that reach a fault's line, those of its room first; of a line that runs on import, all of its room."""
    said = data.contexts_by_lineno(str(copy / fault.path)).get(fault.line, [])
    room = f"tests/{Path(fault.path).parts[1]}/"
    names = {context.partition("|")[0] for context in said if context} - broken
    return sorted(names, key=lambda name: (not name.startswith(room), name)) or [str(copy / room)]


def noticed(copy: Path, fault: Fault, tests: list[str]) -> bool:
    """Whether a test fails with a fault planted, in the file: processes that the tests start read it too."""
    path = copy / fault.path
    before = path.read_text()
    path.write_text(fault.planted(before))
    found = not passes(copy, ["-x", *tests], 180)
    path.write_text(before)
    return found


def passes(copy: Path, arguments: list[str], seconds: int) -> bool:
    """Whether unit tests pass; taking longer is failing.

    In a fork of this process, which has loaded the heavy libraries and nothing of the project.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        quiet = os.open("tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        signal.alarm(seconds)
        import pytest

        os._exit(int(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(copy), *UNIT, *arguments])))
    status = os.waitpid(child, 0)[1]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what a test that failed has left running
    return status == 0


def main() -> int:
    """Run the probe; exit 1 where less than 85% are noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0, help="leave the first so many out")
    arguments = parser.parse_args()
    found, missed, start = 0, list[Fault](), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "out*", "__pycache__", ".*_cache"))
        os.chdir(copy)
        os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", **OFFLINE}
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True
        for library in HEAVY:
            importlib.import_module(library)
        wanted = chosen(arguments.count + arguments.skip, arguments.seed)[arguments.skip :]
        data, broken = reaching(copy)
        print(
            f"{len(broken)} tests fail without a fault: {sorted(broken)} ({time.monotonic() - start:.0f} s)", flush=True
        )
        for number, fault in enumerate(wanted, start=1):
            tests = tests_of(copy, fault, data, broken)
            seen = noticed(copy, fault, tests)
            found += seen
            missed += [] if seen else [fault]
            said = "noticed" if seen else "MISSED"
            print(f"{number} {said} {fault} ({len(tests)} tests, {time.monotonic() - start:.0f} s)", flush=True)
    print(f"noticed {found} of {len(wanted)} ({found / len(wanted):.0%})")
    for fault in missed:
        print(f"  missed: {fault}")
    return 0 if found >= 0.85 * len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())

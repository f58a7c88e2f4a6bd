"""Private names of libraries: all in one adapter, but for those listed here with their reason."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayActorError

from pipelines.core import ray_internals

ROOT = Path(__file__).resolve().parents[2]
ADAPTER = "pipelines/core/ray_internals.py"
# An underscored module, or an underscored attribute of anything but oneself. Public by their documentation are a named
# tuple's own and what a subclass of a transformers model must define.
PRIVATE = re.compile(
    r"\b_(?:internal|private)\b|(?<!self)(?<!cls)(?<!super\(\))(?<![\s(\[{.])\._(?!asdict\b|replace\b|fields\b)[a-z]\w*"
)
ALLOWED = {
    "pipelines/core/journal.py": {
        "os._exit": "public in the standard library",
    },
    "pipelines/training/dpo.py": {
        "trl_utils._use_triton": "TRL has no setting for it",
    },
    "pipelines/training/shared.py": {
        "gradient_state._set_sync_gradients": "as transformers' Trainer does between its own batches",
    },
    "pipelines/training/worker.py": {
        "torch._dynamo": "the name of a logger",
        "torch._inductor": "the name of a logger",
    },
    "pipelines/datasets/expressions.py": {
        "part._undefined_exception": "documented by Jinja for subclasses of Undefined",
        "part._undefined_message": "documented by Jinja for subclasses of Undefined",
    },
    "pipelines/datasets/spec.py": {
        "spec._compiled": "our own model's, in its own module",
    },
}


def private_names(root: Path) -> list[str]:
    """Lines of the library and the jobs with a private name that is not allowed there."""
    found = []
    for folder in ("pipelines", "ray_jobs", "serve"):
        for path in sorted((root / folder).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                for allowed in ALLOWED.get(name, {}):
                    line = line.replace(allowed, "")
                if name != ADAPTER and PRIVATE.search(line.partition("  # ")[0]):
                    found.append(f"{name}:{number}: {line.strip()}")
    return found


def test_private_names_of_libraries_are_in_the_adapter_alone() -> None:
    assert private_names(ROOT) == []


def test_every_allowed_name_is_still_used() -> None:
    unused = [
        f"{file}: {name}" for file, names in ALLOWED.items() for name in names if name not in (ROOT / file).read_text()
    ]
    assert unused == []


@pytest.mark.parametrize(
    "line",
    [
        "from ray.llm._internal.batch import x",
        "left = ray._private.utils.read_ray_address()",
        "request = await self.engine._prepare_llm_request(row)",
        "output = engine._generate_async(request)",
    ],
)
def test_a_planted_private_name_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "a.py").write_text(f"{line}\nself._mine = super()._mine\nfacts._asdict()\n")
    assert private_names(tmp_path) == [f"pipelines/a.py:1: {line}"]


def test_what_the_adapter_uses_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert ray_internals.left_address() is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:6379\n")
    assert ray_internals.left_address() == "127.0.0.1:6379"
    assert ray_internals.checkpoint_record_name().endswith(".json")


@pytest.mark.parametrize("gone", [GetTimeoutError("no answer"), RayActorError()])
def test_a_coordinator_that_does_not_answer_is_said_and_not_waited_for(
    gone: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def get(reference: str, timeout: float) -> None:
        asked.append((reference, timeout))
        raise gone

    coordinator = SimpleNamespace(cancel_request=SimpleNamespace(remote="asked to forget {}".format))
    monkeypatch.setattr(ray, "get_actor", lambda name, namespace: coordinator)
    monkeypatch.setattr(ray, "get", get)
    ray_internals.give_back_request("r1")
    assert asked == [("asked to forget train-r1", ray_internals.ANSWERS)]
    said = capsys.readouterr()
    assert "may hold its workers for three minutes" in said.out + said.err

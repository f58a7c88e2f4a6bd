"""examples/judge_service.py and the Python of docs/clients.md run against the API's shapes (a stub, real HTTP)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.stub_server import KEY, Stub, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(Stub().app) as url:
        yield url


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENSELENE_API_KEY": KEY, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_example_prints_a_verdict_its_probabilities_and_a_batch(address: str) -> None:
    done = run("examples/judge_service.py", address)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = done.stdout.splitlines()
    assert "verdict: A, the same in both orders: True" in printed
    assert printed.count("  A: 0.500") == 1
    assert sorted(printed[-3:]) == ["Bergen. 2.0", "Oslo. 2.0", "The capital of Norway is Oslo. 2.0"]


def test_example_says_why_it_was_refused(address: str) -> None:
    done = run("examples/judge_service.py", address, OPENSELENE_API_KEY="sel_wrong")
    assert done.returncode == 1
    assert done.stderr.startswith("error: 401 no_key: ") and "sel_wrong" not in done.stderr


def test_python_of_the_page_of_clients_runs(address: str) -> None:
    """Every block that uses what is installed here: the client and the openai package."""
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "# other environment" not in block]
    assert len(blocks) >= 4
    for block in blocks:
        program = block.replace("http://127.0.0.1:8000", address).replace("sel_...", KEY)
        done = run("-c", program)
        assert done.returncode == 0, f"{block}\n{done.stderr[-3000:]}"

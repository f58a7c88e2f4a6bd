"""The programs in examples/ run as their first lines say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.llm.endpoint_standin import Body, Reply, Standin, completion

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LOCAL_RAY = ["ray.dashboard=false", "ray.num_cpus=2"]


def run(name: str, *arguments: str, cwd: Path, **env: str) -> list[str]:
    """Run a program and return the lines it prints."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    env = {**{key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}, **env}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A short folder for Ray's sockets, apart from any other cluster on the machine."""
    folder = Path(tempfile.mkdtemp(prefix="os-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_source_of_your_own_shows_the_status_of_every_row(tmp_path: Path) -> None:
    shown = run("own_source", cwd=tmp_path)
    rows = shown[: shown.index("")]
    assert len(rows) == len((EXAMPLES / "own_source" / "answers.jsonl").read_text().splitlines())
    assert Counter(re.split(r"[:\s]", row)[0] for row in rows) == {"ok": 3, "filtered": 3, "error": 2}
    assert any("error:missing_field:second" in row for row in rows)
    assert "Which response is better?" in shown


def test_the_source_of_the_example_is_one_a_run_accepts(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "ray_jobs" / "curate.py"), "--config", "local", "--dry-run"]
    command += [f"data_root={EXAMPLES / 'own_source'}", f"curation.sources=[{EXAMPLES / 'own_source' / 'my_set.yaml'}]"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "my_set" in done.stdout


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_pair_is_judged_from_python(tmp_path: Path) -> None:
    *_, verdict, a, b = run("judge_a_pair", cwd=tmp_path)
    assert re.fullmatch(r"verdict: [AB]", verdict)
    probability = {line.split(":")[0].strip(): float(line.split(":")[1]) for line in (a, b)}
    assert sum(probability.values()) == pytest.approx(1, abs=0.01)
    assert max(probability, key=probability.__getitem__) == verdict[-1]


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_an_endpoint_is_benchmarked(tmp_path: Path, ray_folder: Path) -> None:
    def always_first(body: Body) -> Reply:
        (verdict, *_) = re.findall(r"\b(?:[A-Z]\w*|\d)\b", body["messages"][0]["content"].rpartition("Result: <")[2])
        return Reply(body=completion(f"Reasoning: so.\nResult: {verdict}"))

    with Standin(always_first) as server:
        few = ["evaluation.sample=4", *LOCAL_RAY]
        env = {"OPENAI_API_KEY": "sk-standin", "NO_PROXY": "127.0.0.1", "RAY_TMPDIR": str(ray_folder)}
        *figures, report = run("benchmark_endpoint", server.url, "m", *few, cwd=tmp_path, **env)
    assert [line.split(":")[0] for line in figures] == [
        "heldout_pairwise",
        "heldout_absolute",
        "heldout_classification",
    ]
    assert figures[0].startswith("heldout_pairwise: accuracy 0.")
    assert [line for line in figures if not line.endswith("parse rate 1.0")] == []
    assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-standin"}
    out = tmp_path / "out" / "endpoint" / "benchmark"
    assert report == f"report: {out / 'report.html'}" and (out / "report.html").is_file()
    assert json.loads((out / "results.json").read_text())["models"].keys() == {"mine"}

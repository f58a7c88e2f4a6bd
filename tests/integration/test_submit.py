"""`ray start --head`, then `ray job submit`, as a user runs it: the job's result is read back."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as pads
import pytest

from .conftest import ROOT

RAY = str(Path(sys.executable).parent / "ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, ray_folder: Path) -> Iterator[dict[str, str]]:
    """A real head node with its dashboard; yields the environment of its clients."""
    port, dashboard = free_port(), free_port()
    # Fixed by default: the agent of another Ray on the machine (the other tests' own) would hold them.
    agent = [f"--{name}-port={free_port()}" for name in ("dashboard-agent-listen", "dashboard-agent-grpc")]
    agent += [f"--{name}-port={free_port()}" for name in ("runtime-env-agent", "metrics-export", "ray-client-server")]
    token = tmp_path_factory.mktemp("auth") / "token"
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_TMPDIR": str(ray_folder),
    }
    token.write_text(secrets.token_hex(32))
    command = [RAY, "start", "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=4"]
    command += [*agent, "--include-dashboard=true", "--disable-usage-stats", f"--temp-dir={ray_folder / 'head'}"]
    command += ["--object-store-memory=400000000", "--block"]
    with (ray_folder / "head.log").open("wb") as log:
        head = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield env
    finally:
        head.terminate()
        head.wait(timeout=60)


def curate(out: Path, *more: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command that submits a small curation."""
    command = [RAY, "job", "submit", "--working-dir", ".", "--runtime-env", "runtime_env.yaml", *options, "--"]
    command += [sys.executable, "ray_jobs/curate.py", "--config", "ray_jobs/configs/local.yaml", f"out_dir={out}"]
    command += ["curation.sources=[sample_classification]", "curation.sample_per_source=10"]
    command += ["curation.reward.enabled=false", "curation.critique.max_tokens=32"]
    return [*command, "curation.critique.drop_inconsistent_chosen=false", *more]


def call(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A client's command."""
    for _ in range(30):  # the dashboard answers a few seconds after the head
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)
        if not any(early in done.stderr + done.stdout for early in ("Failed to connect", "No available agent")):
            break
        time.sleep(2)
    return done


@pytest.mark.timeout(900)
def test_curation_as_a_submitted_job(cluster: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call(curate(out), cluster)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout
    pairs = pads.dataset(out / "curated" / "data").to_table()
    assert pairs.num_rows > 0 and set(pairs["source"].to_pylist()) == {"sample_classification"}
    (entry,) = json.loads((out / "run.json").read_text())["runs"]
    assert (entry["job"], entry["exit_code"], entry["commit"]) == ("curate", 0, None)  # no .git is sent
    assert [node["count"] for node in entry["nodes"]] == [1]
    assert "work/synthesize" in {step["step"] for step in entry["steps"]}
    # Progress is on the job's page: its log, which is what the driver says.
    assert "synthesize: done in" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_engine_that_cannot_start_is_one_line_and_a_stopped_job_goes_on(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    # A cache of 64 tokens: vLLM finds out in its own process, when it has loaded the model.
    refused = call(curate(out, "curation.critique.engine.engine_args={num_gpu_blocks_override: 2}"), cluster)
    assert refused.returncode == 1  # Ray's own, for any job that fails
    assert "exit code 2" in refused.stdout
    lines = [line for line in refused.stdout.splitlines() if line.strip()]
    assert "error: the engine of model 'embedded' cannot start: To serve at least one request" in lines[-1]
    assert not any("Traceback" in line for line in lines)

    # With another setting, what was done before stays. Stopped while its engine starts, the job goes on in the next.
    claim = out / "work" / "synthesize" / "depends.json"
    before = claim.read_text()
    started = call(curate(out, options=("--submission-id", "first", "--no-wait")), cluster)
    assert started.returncode == 0, started.stderr
    deadline = time.monotonic() + 200
    while claim.read_text() == before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert claim.read_text() != before
    assert call([RAY, "job", "stop", "first"], cluster).returncode == 0
    assert "was stopped" in call([RAY, "job", "status", "first"], cluster).stdout
    done = call(curate(out, options=("--submission-id", "second")), cluster)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "ingest: already done, 10 rows" in done.stdout
    assert [run.get("exit_code") for run in json.loads((out / "run.json").read_text())["runs"]][::2] == [2, 0]

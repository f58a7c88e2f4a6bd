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


@pytest.mark.timeout(900)
def test_curation_as_a_submitted_job(cluster: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [RAY, "job", "submit", "--working-dir", ".", "--runtime-env", "runtime_env.yaml", "--"]
    command += [sys.executable, "ray_jobs/curate.py", "--config", "ray_jobs/configs/local.yaml", f"out_dir={out}"]
    command += ["curation.sources=[sample_classification]", "curation.sample_per_source=10"]
    command += ["curation.reward.enabled=false", "curation.critique.max_tokens=32"]
    command += ["curation.critique.drop_inconsistent_chosen=false"]
    for _ in range(30):  # the dashboard answers a few seconds after the head
        done = subprocess.run(command, cwd=ROOT, env=cluster, capture_output=True, text=True, timeout=600, check=False)
        if not any(early in done.stderr + done.stdout for early in ("Failed to connect", "No available agent")):
            break
        time.sleep(2)
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

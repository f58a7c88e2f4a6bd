"""Ray's autoscaler with its fake provider, which starts real nodes on this machine: they come with the work and go.

The head has no CPU and nodes have roles, as in cluster.yaml. Models are stand-ins; everything else is the real thing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT
from .disturbed import settled
from .faults import calls, examples
from .storm_jobs import ROLE
from .test_submit import RAY, free_port

HEAD = "f" * 51 + "0" * 5  # the fake provider's own name of the head
COUNT = 160
IDLE_S = 12


def config(address: str) -> dict[str, Any]:
    """An autoscaler's config: up to two readers and three engine nodes, none at first."""

    def kind(role: str, cpus: int, most: int) -> dict[str, Any]:
        labels, resources = {ROLE: role}, {"CPU": cpus, "object_store_memory": 150 * 2**20}
        return {"resources": resources, "labels": labels, "node_config": {}, "min_workers": 0, "max_workers": most}

    head = {"resources": {"CPU": 0}, "labels": {ROLE: "head"}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    return {
        "cluster_name": "fake",
        "max_workers": 5,
        "upscaling_speed": 4.0,
        "idle_timeout_minutes": IDLE_S / 60,
        "provider": {
            # By its own name it wants an example file that Ray's wheel lacks.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "head_node_id": HEAD,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": head,
            "reader": kind("reader", 2, 2),
            "engine": kind("engine", 1, 3),
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


@dataclass
class Watched:
    """Which nodes there were beside the head, by role, as time went by."""

    address: str
    seen: list[dict[str, int]] = field(default_factory=list)

    def look(self) -> dict[str, int]:
        """How many there are now."""
        import ray

        roles = [node["Labels"].get(ROLE) for node in ray.nodes() if node["Alive"]]
        return {role: roles.count(role) for role in ("reader", "engine")}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look once a second while the block runs."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(1):
                self.seen.append(self.look())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def most(self, role: str) -> int:
        """Of one role at once."""
        return max(found[role] for found in self.seen)


@pytest.fixture
def cluster(tmp_path: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """A head with an autoscaler, and nothing else."""
    import ray

    ray.shutdown()  # of the modules before
    port, dashboard = free_port(), free_port()
    address = f"127.0.0.1:{port}"
    (tmp_path / "autoscaler.json").write_text(json.dumps(config(address)))
    own = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1"}
    own |= {"RAY_AUTH_MODE": "disabled", "RAY_CLOUD_INSTANCE_ID": HEAD}  # this process has its token already
    own |= {"RAY_TMPDIR": str(ray_folder)}
    monkeypatch.setenv("RAY_AUTH_MODE", own["RAY_AUTH_MODE"])
    command = [RAY, "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=0"]
    command += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    command += [f"--{name}-port={free_port()}" for name in ("dashboard-agent-grpc", "runtime-env-agent")]
    command += [f"--{name}-port={free_port()}" for name in ("metrics-export", "ray-client-server")]
    command += [f"--autoscaling-config={tmp_path / 'autoscaler.json'}", f"--labels={ROLE}=head"]
    command += [
        "--object-store-memory=200000000",
        "--disable-usage-stats",
        f"--temp-dir={ray_folder / 'fake'}",
        "--block",
    ]
    with (tmp_path / "head.log").open("wb") as log:
        head = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(60):
            try:
                ray.init(address=address, logging_level="ERROR", log_to_driver=False)
                break
            except ConnectionError:
                assert head.poll() is None, (tmp_path / "head.log").read_text()
                time.sleep(1)
        yield Watched(address)
    finally:
        ray.shutdown()
        end(head)


def end(head: subprocess.Popen[bytes]) -> None:
    """The head, its monitor, and the nodes that the monitor has started."""
    import psutil

    family = psutil.Process(head.pid).children(recursive=True)
    head.terminate()
    head.wait(timeout=60)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def start(folder: Path, address: str) -> subprocess.Popen[bytes]:
    examples(folder / "in", COUNT)
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "tests.integration.storm_jobs", "curate_by_role", str(folder), address]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_come_with_the_work_are_shared_by_two_jobs_and_go_when_idle(cluster: Watched, tmp_path: Path) -> None:
    assert cluster.look() == {"reader": 0, "engine": 0}
    folders = [tmp_path / "one", tmp_path / "two"]
    with cluster.watching():
        jobs = [start(folder, cluster.address) for folder in folders]
        for job, folder in zip(jobs, folders, strict=True):
            assert job.wait(timeout=300) == 0, (folder / "log").read_text()[-3000:]
    for folder in folders:
        outcome = settled(folder)
        assert outcome.unharmed and outcome.again == 0
    assert cluster.most("reader") >= 1 and cluster.most("engine") >= 2
    both = [{call.node for call in calls(folder / "notes" / "argue")} for folder in folders]
    assert both[0] & both[1], "the two jobs shared no node"

    deadline = time.monotonic() + 10 * IDLE_S
    while sum(cluster.look().values()):
        assert time.monotonic() < deadline, f"idle nodes stay: {cluster.look()}"
        time.sleep(1)

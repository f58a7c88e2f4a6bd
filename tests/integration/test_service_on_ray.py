"""The service on Ray Serve: a killed replica, a rolling update, a shutdown, each under load."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serve.client import Judge, JudgeError
from tests.integration.prometheus import empty, scraping
from tests.integration.server import STORY

PAIR = {"instruction": "What is 2 + 2?", "responses": ["It is 4.", "It is 5."], "rubric": "The better one is right."}
ENGINE = {"model": "embedded", "max_model_len": 512, "max_num_seqs": 8, "num_cpus": 0.5}
SERVICE = {"template": "compact", "max_tokens": 48, "drain": 30}


class Load:
    """Clients that ask all the time; keeps how each request ended."""

    def __init__(self, url: str, clients: int = 4, **asked: Any) -> None:
        self.url, self.asked, self.ends = url, {"max_tokens": 24, **PAIR, **asked}, []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        with httpx.Client(timeout=150) as client:
            while not self.stopped.is_set():
                try:
                    answer = client.post(f"{self.url}/v1/judge/pairwise", json=self.asked)
                    self.ends.append((answer.status_code, answer.headers.get("retry-after"), answer.text))
                except httpx.TransportError as exc:
                    self.ends.append((0, None, type(exc).__name__))
                if self.ends[-1][0] != 200:
                    time.sleep(0.2)

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(160)
        assert not any(thread.is_alive() for thread in self.threads), "a request hangs"

    def codes(self) -> list[int]:
        return [code for code, _, _ in self.ends]


@pytest.fixture(scope="module")
def url(plain_ray: None) -> Iterator[str]:
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deploy()
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def deploy(replicas: int = 1, **changes: Any) -> None:
    """Deploy, or change what is deployed, and wait until it runs."""
    from ray import serve

    from serve.app import deployment

    config = {"engine": ENGINE | changes.get("engine", {}), "service": SERVICE | changes.get("service", {})}
    app = deployment(config).options(num_replicas=replicas, max_surge_percent=100).bind(config)
    serve.run(app, name="judge", route_prefix="/")


def until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.5)


def replicas() -> list[psutil.Process]:
    """Processes of this test's replicas."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "ServeReplica:judge:JudgeServer" in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_pair_is_judged_through_the_proxy_and_its_client_may_leave(url: str) -> None:
    with Judge(url) as judge:
        found = judge.pairwise(**PAIR, both_orders=True, max_tokens=16)  # type: ignore[arg-type]
        assert found.results[0].verdict in ("A", "B") and found.results[0].consistent is not None
        with pytest.raises(JudgeError) as refused:
            judge.pairwise(**PAIR, template="pairwise_unknown")  # type: ignore[arg-type]
    assert refused.value.status == 422
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready", "model": "judge"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/judge/absolute", json={**STORY, "max_tokens": 48}, timeout=0.3)
    assert httpx.post(f"{url}/v1/judge/pairwise", json={**PAIR, "max_tokens": 4}, timeout=150).status_code == 200


@pytest.mark.slow
def test_every_graph_of_the_board_has_data_on_rays_port(url: str, tmp_path: Path) -> None:
    import ray

    node = ray.nodes()[0]
    target = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    with scraping(tmp_path, target) as prometheus, Judge(url) as judge:

        def ask() -> None:
            judge.pairwise(  # type: ignore[call-overload]
                **PAIR, both_orders=True, max_tokens=8, on_critique=lambda piece: None
            )
            forwarded = {"x-forwarded-for": "192.0.2.1"}  # without keys, other machines are refused
            assert httpx.post(f"{url}/v1/judge/pairwise", json=PAIR, headers=forwarded).status_code == 403

        ask()
        prometheus.until("ray_openselene_judgments_total", 120)  # Ray reports every few seconds
        for _ in range(3):
            ask()
            time.sleep(6)
        # Ray reports a counter from its first count on, and of these there was none to count.
        none_yet = ("error_counter", "num_preemptions")
        found = [query for title in ("Judge", "vLLM", "Ray Serve") for query in empty(prometheus, title)]
        assert [query for query in found if not any(name in query for name in none_yet)] == []


@pytest.mark.slow
def test_a_killed_replica_costs_only_answers_that_may_be_asked_again(url: str) -> None:
    with Load(url) as load:
        until(lambda: len(load.ends) > 8, 60)
        before = len(load.ends)
        replicas()[0].send_signal(signal.SIGKILL)
        until(lambda: load.codes()[before:].count(200) > 8, 240)
    lost = [end for end in load.ends if end[0] != 200]
    assert 1 <= len(lost) <= 8  # those under way, and none after
    assert all(code in (500, 502, 503) for code, _, _ in lost)
    assert not any("Traceback" in text or "2 + 2" in text for _, _, text in lost)


@pytest.mark.slow
def test_a_new_version_takes_over_without_a_failed_request(url: str) -> None:
    with Load(url) as load:
        until(lambda: len(load.ends) > 8, 60)
        old = {process.pid for process in replicas()}
        deploy(service={"max_tokens": 47})
        until(lambda: not old & {process.pid for process in replicas()}, 240)
        before = len(load.ends)
        until(lambda: len(load.ends) > before + 8, 120)
    assert set(load.codes()) == {200}


@pytest.mark.slow
def test_of_two_replicas_one_may_die_and_the_clients_lose_nothing(url: str) -> None:
    deploy(replicas=2)
    lost: list[JudgeError] = []
    answered: list[str] = []
    stopped = threading.Event()

    def ask(number: int) -> None:
        with Judge(url, retries=6) as judge:
            while not stopped.is_set():
                try:
                    found = judge.pairwise(  # type: ignore[call-arg]
                        **PAIR | {"instruction": f"{number}. What is 2 + 2?"}, max_tokens=16
                    )
                    answered.append(found.results[0].verdict)
                except JudgeError as exc:
                    lost.append(exc)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    until(lambda: len(answered) > 12, 120)
    os.kill(replicas()[0].pid, signal.SIGKILL)
    before = len(answered)
    until(lambda: len(answered) > before + 24, 240)
    stopped.set()
    for thread in threads:
        thread.join(160)
    assert lost == []


@pytest.mark.slow
def test_a_shutdown_answers_what_is_under_way(url: str) -> None:
    from ray import serve

    with Load(url, clients=4, max_tokens=48) as load:
        until(lambda: len(load.ends) > 4, 120)
        load.stopped.set()
        time.sleep(0.2)
        serve.delete("judge")
    assert set(load.codes()) == {200}

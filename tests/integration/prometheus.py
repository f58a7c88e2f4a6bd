"""A real Prometheus that scrapes one address, asked as Grafana would ask it for a board."""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from scripts.grafana import Board
from scripts.grafana_board import board as judge_board

SCRAPE = 1  # seconds between two looks


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[float]:
        """The values of the series that an expression gives now; those without a value are left out."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        values = [float(one["value"][1]) for one in answer["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    def jobs(self, board: Board) -> list[str]:
        """What a board offers to choose a job from."""
        (variable,) = [one for one in board.content()["templating"]["list"] if one["name"] == "job"]
        match = variable["definition"].removeprefix("label_values(").rpartition(", job)")[0]
        answer = httpx.get(f"{self.url}/api/v1/label/job/values", params={"match[]": match}).json()
        return list(answer["data"])

    def until(self, expression: str, seconds: float = 60) -> None:
        """Wait for a value above 0."""
        end = time.monotonic() + seconds
        while not any(self.query(expression)):
            assert time.monotonic() < end, f"no {expression} within {seconds} s"
            time.sleep(SCRAPE)


def panels(board: Board, title: str) -> dict[str, list[str]]:
    """The queries of each graph in a row of a board, with Grafana's variables replaced."""
    found: dict[str, list[str]] = {}
    row = ""
    for panel in board.content()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        elif row.startswith(title):
            found[panel["title"]] = [filled(target["expr"]) for target in panel["targets"]]
    return found


def filled(expression: str) -> str:
    """As Grafana sends it: four scrapes are its shortest span of a rate."""
    return expression.replace("$__rate_interval", "60s").replace("$job", ".*")


def empty(prometheus: Prometheus, title: str, board: Board | None = None) -> list[str]:
    """The queries of a row that give nothing; of the judge's board, if none is named."""
    return [
        f"{name}: {query}"
        for name, queries in panels(board or judge_board(), title).items()
        for query in queries
        if not prometheus.query(query)
    ]


@contextmanager
def scraping(folder: Path, target: str, key: str | None = None) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `host:port`; the test is skipped where there is none."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on this machine (Debian: apt install prometheus)")
    scrape: dict[str, Any] = {"job_name": "judge", "static_configs": [{"targets": [target]}]}
    if key:
        scrape["authorization"] = {"credentials": key}
    config = {"global": {"scrape_interval": f"{SCRAPE}s"}, "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    process = subprocess.Popen(command, stdout=(folder / "prometheus.log").open("wb"), stderr=subprocess.STDOUT)
    try:
        running = Prometheus(f"http://127.0.0.1:{port}")
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None and time.monotonic() < end, (folder / "prometheus.log").read_text()[-2000:]
            try:
                if httpx.get(f"{running.url}/-/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield running
    finally:
        process.terminate()
        process.wait(30)

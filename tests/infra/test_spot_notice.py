"""The spot notice of a cloud reaches Ray: a metadata server on loopback, and what is run."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spot_notice", ROOT / "deploy" / "spot_notice.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server() -> Iterator[Any]:
    """Answers `answers[method, path]` to those who send the headers it wants; 404 else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = found.answers.get((self.command, self.path))  # type: ignore[attr-defined]
            wanted = found.wanted.get(self.path, {})  # type: ignore[attr-defined]
            allowed = all(self.headers.get(name) == value for name, value in wanted.items())
            self.send_response(404 if text is None else 200 if allowed else 401)
            self.end_headers()
            self.wfile.write((text or "").encode() if allowed else b"")

        do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    found = HTTPServer(("127.0.0.1", 0), Handler)
    found.answers, found.wanted = {}, {}  # type: ignore[attr-defined]
    threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def local(cloud: Any, server: Any) -> Any:
    """A cloud whose metadata server is on loopback."""
    here = f"http://127.0.0.1:{server.server_port}"
    return replace(cloud, url=f"{here}/notice", token=f"{here}/token" if cloud.token else "")


def test_ec2_gives_notice_with_a_token(script: ModuleType, server: Any) -> None:
    cloud = local(script.CLOUDS["aws"], server)
    assert not script.noticed(cloud)  # no token to be had: an outage
    server.answers["PUT", "/token"] = "t"
    server.wanted["/notice"] = {"X-aws-ec2-metadata-token": "t"}
    assert not script.noticed(cloud)  # 404: no notice
    server.answers["GET", "/notice"] = '{"action": "terminate", "time": "2026-11-30T00:00:00Z"}'
    assert script.noticed(cloud)


def test_compute_engine_gives_notice(script: ModuleType, server: Any) -> None:
    cloud = local(script.CLOUDS["gcp"], server)
    server.wanted["/notice"] = {"Metadata-Flavor": "Google"}
    for text, wanted in (("FALSE", False), ("TRUE", True)):
        server.answers["GET", "/notice"] = text
        assert script.noticed(cloud) is wanted


def test_the_notice_is_passed_on_once_as_ray_s_command(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    said, run = iter([False, False, True]), list[Any]()
    monkeypatch.setattr(script, "noticed", lambda cloud: next(said))
    monkeypatch.setattr(script.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(script.subprocess, "run", lambda command, check: run.append(command))
    script.main("aws")
    ((*command, deadline),) = run
    assert deadline == "--deadline-remaining-seconds=110"
    from ray.scripts.scripts import cli

    options = {option for param in cli.commands["drain-node"].params for option in param.opts}
    assert command[:2] == ["ray", "drain-node"]
    assert {part.partition("=")[0] for part in [*command[2:], deadline]} <= options


@pytest.mark.parametrize(("path", "cloud"), [("cluster.yaml", "aws"), ("deploy/gcp.yaml", "gcp")])
def test_every_worker_of_a_cluster_listens_for_it(path: str, cloud: str) -> None:
    commands = yaml.safe_load((ROOT / path).read_text())["worker_start_ray_commands"]
    assert f"deploy/spot_notice.py {cloud}" in commands[-1]
    assert commands[-1].index("ray start") < commands[-1].index("spot_notice.py")

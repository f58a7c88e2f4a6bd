"""Tools that teams use already, each by changing its base URL: the real client against a real server.

Each tool has an environment of its own, since their pins clash: in the folder that OPENSELENE_CLIENTS names, where it
stays for the next time, or in a temporary one. A tool that cannot be installed is skipped with pip's or npm's word.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.server import Server
from tests.serve.stub_server import KEY, Stub, serving

pytestmark = pytest.mark.slow
PROGRAMS = Path(__file__).parent / "clients"
PACKAGES = {
    "openai": ["openai==3.57.0"],
    "deepeval": ["deepeval==4.3.1", "openai==3.57.0"],
    "inspect": ["inspect-ai==0.3.285", "openai==3.57.0"],
    "openevals": ["openevals==0.2.2", "openai==3.57.0"],
    "mlflow": ["mlflow==3.17.2", "openai==3.57.0"],
    # langchain-community 0.4 has no longer what ragas imports; instructor 1.17 takes no openai 3.
    "ragas": ["ragas==0.4.3", "langchain-community==0.3.31", "openai==2.54.0", "instructor==1.17.0"],
}
PROMPTFOO = ["promptfoo@0.121.20", "node@22.23.3"]  # it refuses Node.js before 22.22
INSTALL_SECONDS = 900
QUIET = {  # what the tools would tell their makers
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAGAS_DO_NOT_TRACK": "true",
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
    "DEEPEVAL_UPDATE_WARNING_OPT_IN": "NO",
    "ERROR_REPORTING": "NO",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "true",
}


@dataclass(frozen=True)
class Service:
    """Where the judge is.

    Attributes:
        url: without `/v1`.
        key: of the scopes judge and chat.
        stub: what it saw, if it is a stub; a stub also gives sensible grades.
    """

    url: str
    key: str
    stub: Stub | None = None


@pytest.fixture(scope="module", params=["stub", "real"])
def judge_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real service with the embedded model, and a STUB of it: its grades are sensible, and it notes requests."""
    if request.param == "stub":
        stub = Stub()
        with serving(stub.app) as url:
            yield Service(url, KEY, stub)
        return
    server = Server(tmp_path_factory.mktemp("server"), body_bytes=1_000_000, max_tokens=512)
    yield Service(server.url, server.key)
    server.stop()


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tools' environments."""
    kept = os.environ.get("OPENSELENE_CLIENTS")
    return Path(kept) if kept else tmp_path_factory.mktemp("clients")


def installed(folder: Path, wanted: list[str], commands: list[list[str]]) -> Path:
    """The folder with what is wanted in it; installed unless it was before."""
    mark = folder / "installed.txt"
    if mark.exists() and mark.read_text() == "\n".join(wanted):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands:
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            pytest.skip(f"cannot be installed here: {type(exc).__name__} of {command[0]}")
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            pytest.skip(f"cannot be installed here: {' '.join(said)}")
    mark.write_text("\n".join(wanted))
    return folder


def python_of(environments: Path, tool: str) -> Path:
    """The Python of a tool's environment."""
    folder, wanted = environments / tool, PACKAGES[tool]
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    installed(folder, wanted, [[sys.executable, "-m", "venv", str(folder)], pip])
    return python


def clean_environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """What a tool's process gets: nothing of this one's Python or keys, and no telemetry."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1,localhost", **QUIET, **more}


@pytest.fixture
def use(environments: Path, judge_url: Service, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Run a tool's program and return what it prints last."""

    def run(tool: str) -> dict[str, Any]:
        python = python_of(environments, tool)
        if judge_url.stub:
            judge_url.stub.seen.clear()
        program = PROGRAMS / f"use_{tool}.py"
        command = [str(python), str(program), judge_url.url, judge_url.key]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    return run


def chats(service: Service) -> list[dict[str, Any]]:
    """The chats that a stub saw."""
    return [body for path, body in service.stub.seen if path == "/v1/chat/completions"] if service.stub else []


def test_openai(use: Callable[[str], dict[str, Any]], judge_url: Service) -> None:
    said = use("openai")
    assert said["model"] and said["chat"] and said["streamed"] > 1
    assert 0 <= said["reward"] <= 5 and said["grader_errors"] == []
    if judge_url.stub:
        assert [path for path, _ in judge_url.stub.seen][-1] == "/v1/fine_tuning/alpha/graders/run"


def test_deepeval(use: Callable[[str], dict[str, Any]], judge_url: Service) -> None:
    said = use("deepeval")
    assert 0 <= said["score"] <= 1 and said["reason"] in ("right", "wrong")
    assert not judge_url.stub or len(chats(judge_url)) == 1


def test_inspect(use: Callable[[str], dict[str, Any]], judge_url: Service) -> None:
    said = use("inspect")
    assert said["status"] == "success", said["error"]
    if judge_url.stub:
        assert said["grades"] == ["C"] and len(chats(judge_url)) == 2


def test_openevals(use: Callable[[str], dict[str, Any]]) -> None:
    said = use("openevals")
    assert said["key"] == "right" and said["score"] in (0.0, 1.0)


def test_mlflow(use: Callable[[str], dict[str, Any]], judge_url: Service) -> None:
    said = use("mlflow")
    if judge_url.stub:  # a tiny model may not come to the end of its rationale
        assert said["error"] is None and said["value"] == "yes" and len(chats(judge_url)) == 1


def test_ragas(use: Callable[[str], dict[str, Any]], judge_url: Service) -> None:
    said = use("ragas")
    assert said["strict"] in ("pass", "fail")
    # A tiny model writes no such JSON without a schema; a service that refuses is another error.
    unwritten = ("ValidationError", "IncompleteOutputException")
    assert said.get("metric") in ("pass", "fail") or (not judge_url.stub and said["metric_error"] in unwritten)


def test_promptfoo(environments: Path, judge_url: Service, tmp_path: Path) -> None:
    npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel", "error", *PROMPTFOO]
    folder = installed(environments / "promptfoo", PROMPTFOO, [["npm", "init", "-y"], npm])
    programs = folder / "node_modules" / ".bin"
    env = clean_environment(
        tmp_path,
        PROMPTFOO_CONFIG_DIR=str(tmp_path),
        PROMPTFOO_PASS_RATE_THRESHOLD="0",
        JUDGE_URL=judge_url.url,
        JUDGE_KEY=judge_url.key,
    )
    env["PATH"] = f"{programs}{os.pathsep}{env['PATH']}"
    output = tmp_path / "results.json"
    config = PROGRAMS / "promptfooconfig.yaml"
    command = [str(programs / "promptfoo"), "eval", "-c", str(config), "--no-cache", "-o", str(output)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (result,) = json.loads(output.read_text())["results"]["results"]
    assert result["response"]["output"] and not result["response"].get("error")
    grade = result["gradingResult"]["componentResults"][0]
    assert grade["reason"] in ("right", "wrong") and grade["score"] in (0, 1)

"""The benchmark job with a judge behind an endpoint: cut off by a withdrawn key, resumed, scored again without it.

The endpoint of the first test stands in for one (a real HTTP server that knows no model); that of the second is vLLM's
own OpenAI-compatible server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.core.determinism import choose
from pipelines.core.storage import read_json, row_count
from pipelines.engines.config import EngineConfig
from pipelines.evaluation.asking.judgments import JUDGMENT
from tests.engines.llm.endpoint_standin import Body, Reply, Standin, complaint, completion

from .conftest import LOCAL
from .test_submit import free_port

KEY = "sk-standin-0123456789"
ROWS = 6  # of each benchmark; pairwise ones in both orders
JUDGMENTS = 4 * ROWS


def arguments(out: Path, models: dict[str, Any], *more: str) -> list[str]:
    said = yaml.safe_dump(models, default_flow_style=True, width=10_000).strip()
    settings = [f"out_dir={out}", "ray.dashboard=false", f"evaluation.models={said}", *more]
    return ["--config", str(LOCAL), *settings]


def judged(out: Path, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(out / "benchmark" / "judgments" / f"{name}.parquet").to_pylist()
    return rows


def answer(body: Body) -> Reply:
    """A judgment that depends on the prompt alone, with log-probabilities; one row gets none at all."""
    prompt = body["messages"][0]["content"]
    verdicts = re.findall(r"\b(?:[A-Z]\w*|\d)\b", prompt.rpartition("Result: <")[2].partition(">")[0])
    verdict = choose(verdicts, 0, "stand-in", prompt)
    top = [{f" {one}": 0.6 if one == verdict else 0.4 / len(verdicts) for one in [verdict, *verdicts]}]
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 2, "total_tokens": 0}
    return Reply(body=completion(f"Reasoning: so.\nResult: {verdict}", top, usage), delay=0.5)


@pytest.mark.timeout(400)
def test_a_run_whose_key_is_withdrawn_goes_on_where_it_was_and_is_scored_again_alone(
    job: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rows = out / "work" / "judge-gpt" / "rows"
    unlucky, lock = list[str](), threading.Lock()

    def at_first(body: Body) -> Reply:
        return Reply(401, complaint(f"expired: {KEY}")) if row_count(rows) else answer(body)

    def later(body: Body) -> Reply:
        prompt = body["messages"][0]["content"]
        with lock:
            if not unlucky and prompt.endswith("Which response is better?"):  # pairs are read last, so one is left
                unlucky.append(prompt)
        return Reply(503, complaint(f"busy {KEY}"), {"retry-after-ms": "5"}) if prompt in unlucky else answer(body)

    said = ""
    with Standin(at_first) as server:
        gpt = {"endpoint": server.url, "model": "m", "api_key_env": "STANDIN_KEY", "concurrency": 2, "retries": 1}
        command = arguments(out, {"gpt": gpt}, f"evaluation.sample={ROWS}", "evaluation.rows_per_block=2")
        environment = {"STANDIN_KEY": KEY, "NO_PROXY": "127.0.0.1"}

        missing = job("benchmark", *command, STANDIN_KEY="", NO_PROXY="127.0.0.1")
        assert missing.returncode == 2 and "environment variable STANDIN_KEY is not set" in missing.stderr
        assert server.bodies == []

        cut = job("benchmark", *command, **environment)
        safe = row_count(rows)
        assert cut.returncode == 2, cut.stderr
        assert "error: " in cut.stderr and "the endpoint does not take the key in STANDIN_KEY" in cut.stderr
        assert 0 < safe < JUDGMENTS
        said += cut.stdout + cut.stderr

        server.reply, before = later, len(server.bodies)
        resumed = job("benchmark", *command, **environment)
        assert resumed.returncode == 0, resumed.stderr
        assert f"{safe} of them already written" in resumed.stderr
        # One to see whether it may be asked, one for each row that was not written, one more for the unlucky one.
        assert len(server.bodies) - before == 1 + (JUDGMENTS - safe) + 1
        assert server.most <= 2
        said += resumed.stdout + resumed.stderr

    found = judged(out, "gpt")
    assert len(found) == len({row["judgment_id"] for row in found}) == JUDGMENTS
    failed = [row for row in found if row["status"] != "ok"]
    assert len(failed) == len(unlucky) == 1
    assert failed[0]["status"].startswith("error:judge:no_answer:InternalServerError: Error code: 503")
    assert all(row["parse_status"] == "ok" and row["verdict_probs"] for row in found if row["status"] == "ok")

    results = out / "benchmark" / "results.json"
    first = read_json(results)
    results.unlink()
    alone = job("benchmark", *command, STANDIN_KEY="")  # the server is gone, and so is the key
    assert alone.returncode == 0, alone.stderr
    assert read_json(results) == first
    assert first["models"]["gpt"]["heldout_absolute"]["parse_rate"] == 1.0
    texts = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert KEY not in said + alone.stderr and not any(KEY.encode() in text for text in texts)


ENGINE = EngineConfig(dtype="float32", max_model_len=1024, max_num_seqs=8)


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's OpenAI-compatible server with the embedded model; yields its address."""
    from pipelines.engines.llm.engine import engine_environment
    from pipelines.engines.models import resolve

    port, log = free_port(), tmp_path_factory.mktemp("vllm") / "server.log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", resolve("embedded")]
    command += ["--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY]
    command += ["--dtype", ENGINE.dtype, "--max-model-len", str(ENGINE.max_model_len), "--max-num-seqs", "8"]
    command += ["--enforce-eager", "--block-size", "32"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, env={**os.environ, **engine_environment(ENGINE)}, stdout=out, stderr=out, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while not healthy(address):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"{address}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vllms_own_server_judges_as_the_engine_does(
    vllm_server: str, job: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    endpoint = {"endpoint": vllm_server, "model": "smollm2", "api_key_env": "STANDIN_KEY"}
    wrong = job(
        "benchmark",
        *arguments(tmp_path / "wrong", {"http": endpoint | {"model": "other"}}),
        STANDIN_KEY=KEY,
        NO_PROXY="127.0.0.1",
    )
    assert wrong.returncode == 2 and "the endpoint has no model 'other'" in wrong.stderr
    settings = ["evaluation.sample=2", "evaluation.max_tokens=24", f"evaluation.engine={ENGINE.model_dump_json()}"]
    done = job(
        "benchmark",
        *arguments(tmp_path / "out", {"engine": "embedded", "http": endpoint}, *settings),
        STANDIN_KEY=KEY,
        NO_PROXY="127.0.0.1",
    )
    assert done.returncode == 0, done.stderr
    engine, http = judged(tmp_path / "out", "engine"), judged(tmp_path / "out", "http")
    assert len(engine) == len(http) == 8
    same = [column.name for column in JUDGMENT if column.name not in ("latency", "verdict_probs")]
    for one, other in zip(engine, http, strict=True):
        assert one["status"] == "ok" and one["raw"] and one["prompt_tokens"] > 20
        assert {name: one[name] for name in same} == {name: other[name] for name in same}
        assert dict(other["verdict_probs"]) == pytest.approx(dict(one["verdict_probs"]), abs=1e-3)
    results = json.loads((tmp_path / "out" / "benchmark" / "results.json").read_text())
    assert results["comparison"]["http"]["benchmarks"]["heldout_pairwise"]["difference"] == 0.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vllms_own_server_gives_log_probabilities_of_each_token(
    vllm_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from pipelines.engines.endpoint_config import EndpointConfig
    from pipelines.engines.llm.endpoint import EndpointAsk

    monkeypatch.setenv("STANDIN_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def ask() -> Any:
        endpoint = EndpointConfig(endpoint=vllm_server, model="smollm2", api_key_env="STANDIN_KEY")
        async with aclosing(EndpointAsk(endpoint)) as asking:
            return await asking("Name a colour.", max_tokens=8, logprobs=10)

    found = asyncio.run(ask())
    assert found.output_tokens == len(found.top) == 8 and found.prompt_tokens > 5
    assert all(len(position) == 10 for position in found.top)
    likeliest = [max(position, key=position.__getitem__) for position in found.top]
    assert "".join(likeliest) == found.text

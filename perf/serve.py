"""The judge's service against vLLM's own server and stock `ray.serve.llm`: the same prompts, as many tokens written.

Four servers stand at once and are asked in turn, by 1, 8 and 16 clients, each client one request after another:

- `vllm`: vLLM's own server, /v1/chat/completions;
- `plugin`: `openselene serve`, /v1/judge/pairwise with a key, a critique and a constrained verdict;
- `stock`: ray.serve.llm's application, /v1/chat/completions;
- `ours`: serve/app.py on Ray Serve, as `plugin`.

A chat writes as many tokens as the judgment of the same prompt did. CPU is that of the processes between client and
engine, per request. At the end, two orders in one call against one, where half of the prompt is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml
from rounds import add_rounds, compared

CRITIQUE = 27  # with the label, the verdict and the end of the turn, about 32 tokens
CLIENTS = (1, 8, 16)
WAYS = ("vllm", "plugin", "stock", "ours")
ENGINE = {"model": "embedded", "max_model_len": 1024, "max_num_seqs": 32, "dtype": "bfloat16"}
TEMPLATE = "compact"


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12, help="of each point")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    add_rounds(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Servers(Path(folder), options.ways) as servers:
        print(json.dumps(asyncio.run(measure(servers, options.seconds, options.rounds))))


class Servers:
    """All servers, each with its address and the processes between client and engine."""

    def __init__(self, folder: Path, ways: list[str]) -> None:
        self.folder, self.ways = folder, ways
        self.urls: dict[str, str] = {}
        self.started: list[subprocess.Popen[bytes]] = []
        self.key = ""

    def __enter__(self) -> Servers:
        os.environ.setdefault("RAY_worker_niceness", "0")
        from serve.access.keys import OwnLimits, changing, make

        keys = self.folder / "keys.yaml"
        self.key, entry = make(
            "perf", ("judge", "chat"), limits=OwnLimits(requests_per_minute=1_000_000, concurrent=1000)
        )
        with changing(keys) as entries:
            entries.append(entry)
        self.service = {"template": TEMPLATE, "max_tokens": 64, "keys": str(keys)}
        for way in self.ways:
            getattr(self, f"start_{way}")()
            print(f"{way}: {self.urls[way]}", flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        if "ours" in self.ways or "stock" in self.ways:
            from ray import serve

            serve.shutdown()
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def start_vllm(self) -> None:
        """vLLM's server with the engine's arguments and nothing of ours."""
        from pipelines.engines.config import EngineConfig
        from serve.launch import server_environment
        from serve.settings import ServerConfig

        config = ServerConfig(engine=EngineConfig.model_validate(ENGINE))
        environment = os.environ | server_environment(config) | {"VLLM_PLUGINS": ""}
        self._spawn("vllm", [sys.executable, "-c", PLAIN, json.dumps(ENGINE)], environment, "/health")

    def start_plugin(self) -> None:
        """`openselene serve`."""
        config = self.folder / "server.yaml"
        config.write_text(yaml.safe_dump({"engine": ENGINE, "service": self.service}))
        root = Path(__file__).parents[1]
        command = [sys.executable, str(root / "ray_jobs" / "judge_server.py"), "--config", str(config)]
        self._spawn("plugin", command, os.environ | {"PYTHONPATH": str(root)}, "/readyz")

    def _spawn(self, way: str, command: list[str], environment: dict[str, str], ready: str) -> None:
        port = free_port()
        command += [str(port)] if way == "vllm" else [f"port={port}"]
        log = (self.folder / f"{way}.log").open("wb")
        self.started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        self.urls[way] = f"http://127.0.0.1:{port}"
        wait_ready(self.urls[way] + ready, self.started[-1], self.folder / f"{way}.log")

    def _ray(self) -> None:
        """One Ray for both applications."""
        import ray
        from ray import serve

        if ray.is_initialized():
            return
        from pipelines.core.cluster import RayConfig, connect

        connect(RayConfig(num_cpus=6, object_store_memory_mb=256, dashboard=False))
        self.port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": self.port})

    def start_stock(self) -> None:
        """ray.serve.llm as its documentation builds it."""
        self._ray()
        from ray import serve
        from ray.serve.llm import LLMConfig, build_openai_app

        from pipelines.engines.config import EngineConfig
        from pipelines.engines.llm.engine import engine_arguments, engine_environment
        from pipelines.engines.models import resolve

        config = EngineConfig.model_validate(ENGINE)
        one = LLMConfig(
            model_loading_config={"model_id": "judge", "model_source": resolve("embedded")},
            deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
            engine_kwargs=engine_arguments(config),
            accelerator_config={"kind": "cpu"},
            runtime_env={"env_vars": engine_environment(config)},
        )
        serve.run(build_openai_app({"llm_configs": [one]}), name="stock", route_prefix="/stock")
        self.urls["stock"] = f"http://127.0.0.1:{self.port}/stock"

    def start_ours(self) -> None:
        """serve/app.py."""
        self._ray()
        from ray import serve

        from serve.app import build

        serve.run(build({"engine": ENGINE, "service": self.service}), name="judge", route_prefix="/")
        self.urls["ours"] = f"http://127.0.0.1:{self.port}"

    def between(self, way: str) -> list[psutil.Process]:
        """The processes that a request passes on its way to the engine."""
        everyone = {process.pid: process for process in psutil.process_iter(["name", "cmdline"])}
        if way in ("vllm", "plugin"):
            number = [name for name in self.ways if name in ("vllm", "plugin")].index(way)
            return [everyone[self.started[number].pid]]
        mine = {"stock": ("LLMServer", "OpenAiIngress", "LLMRouter"), "ours": ("JudgeServer",)}[way]
        names = {pid: " ".join(process.info["cmdline"] or []) for pid, process in everyone.items()}
        wanted = (*mine, "ProxyActor", "HAProxy", "haproxy")
        return [everyone[pid] for pid, name in names.items() if any(word in name for word in wanted)]


PLAIN = """
import json, sys, uvloop
from pipelines.engines.config import EngineConfig
from serve.launch import command_line
from serve.settings import ServerConfig
from vllm.entrypoints.launchers.api_server.entry import run_server
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

model, *options = command_line(ServerConfig(engine=EngineConfig.model_validate(json.loads(sys.argv[1]))))
args = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", model, *options])
args.middleware, args.logits_processors = [], None
args.host, args.port = "127.0.0.1", int(sys.argv[2])
validate_parsed_serve_args(args)
uvloop.run(run_server(args))
"""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers 200.

    Raises:
        SystemExit: it ended, or did not answer within five minutes.
    """
    import urllib.error
    import urllib.request

    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    sys.exit(f"no answer from {url}\n{log.read_text()[-3000:]}")


def examples(mark: str, count: int = 400) -> list[dict[str, Any]]:
    """Packaged pairs, told apart by a mark before the instruction so that no cache holds them."""
    from pipelines.curation.ingest import ingest_rows
    from pipelines.curation.registry import load_source

    rows = [row for row in ingest_rows(load_source("sample_pairwise"), None) if row["status"] == "ok"]
    rows = [row for row in rows if row["allowed"] == ["A", "B"]]
    return [
        {
            "instruction": f"{mark}.{number} {row['instruction']}",
            "context": row["context"] or "",
            "responses": list(row["responses"]),
            "rubric": row["rubric"] or "",
        }
        for number, row in zip(range(count), rows * (count // len(rows) + 1), strict=False)
    ]


def prompt_of(example: dict[str, Any]) -> str:
    """The message that the judge sees."""
    from pipelines.judging.templates import load, render

    row = {**example, "reference": "", "allowed": ["A", "B"], "task": "pairwise"}
    return render(load(f"pairwise_{TEMPLATE}"), row)


async def measure(servers: Servers, seconds: float, rounds: int) -> dict[str, Any]:
    """All ways at all numbers of clients, in turn."""
    marks = iter(range(10_000))
    written = 32
    points: dict[int, dict[str, list[dict[str, float]]]] = {}
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def judge(url: str, example: dict[str, Any]) -> int:
            body = {**example, "max_tokens": CRITIQUE}
            headers = {"authorization": f"Bearer {servers.key}"}
            async with session.post(f"{url}/v1/judge/pairwise", json=body, headers=headers) as answer:
                said = await answer.json()
                assert answer.status == 200, said
                tokens: int = said["usage"]["output_tokens"]
                return tokens

        async def chat(url: str, example: dict[str, Any]) -> int:
            message = {"role": "user", "content": prompt_of(example)}
            body = {
                "model": "judge",
                "messages": [message],
                "max_tokens": written,
                "temperature": 0,
                "ignore_eos": True,
            }
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                said = await answer.json()
                assert answer.status == 200, said
                tokens: int = said["usage"]["completion_tokens"]
                return tokens

        asked = {way: judge if way in ("plugin", "ours") else chat for way in servers.ways}
        for way in servers.ways:  # warm
            await load(partial(asked[way], servers.urls[way]), examples(f"w{next(marks)}"), 4, 3)
        ours = [way for way in ("ours", "plugin") if way in servers.ways]
        if ours:
            sample = examples(f"t{next(marks)}", 16)
            written = round(statistics.mean([await judge(servers.urls[ours[0]], one) for one in sample]))
            print(f"tokens of a judgment: {written}", flush=True)
        for clients in CLIENTS:
            found: dict[str, list[dict[str, float]]] = {way: [] for way in servers.ways}
            for number in range(rounds):
                mark = next(marks)
                for way in servers.ways[:: 1 if number % 2 == 0 else -1]:
                    point = await at_load(servers, way, asked[way], examples(f"{way}{mark}"), clients, seconds)
                    found[way].append(point)
                    print(f"{clients} clients, {way}: {json.dumps(point)}", flush=True)
            points[clients] = found
        orders = await both_orders(session, servers, rounds, marks) if ours else None
    most = points[CLIENTS[-1]]
    rates = {way: [one["rate"] for one in most[way]] for way in most}
    result: dict[str, Any] = {"name": "serve", "unit": "requests/s", "tokens": written}
    if "ours" in rates and "vllm" in rates:
        result |= compared(rates["ours"], rates["vllm"])
    result["ratios"] = {
        f"{way} at {clients}": compared([p["rate"] for p in some[way]], [p["rate"] for p in some["vllm"]])["ratio"]
        for clients, some in points.items()
        for way in some
        if "vllm" in some and way != "vllm"
    }
    result["points"] = {
        f"{way} at {clients}": {key: statistics.median(p[key] for p in some[way]) for key in some[way][0]}
        for clients, some in points.items()
        for way in some
    }
    result["both_orders_to_one"] = orders
    return result


async def load(
    ask: Callable[[dict[str, Any]], Awaitable[int]], queue: list[dict[str, Any]], clients: int, seconds: float
) -> tuple[list[float], float]:
    """Seconds of each request of so many clients, and the whole time until the last one was answered."""
    took: list[float] = []
    start = time.monotonic()
    left = iter(queue)

    async def client() -> None:
        while time.monotonic() - start < seconds:
            one = next(left, None)
            if one is None:
                return
            began = time.monotonic()
            await ask(one)
            took.append(time.monotonic() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    return took, time.monotonic() - start


async def at_load(
    servers: Servers, way: str, ask: Callable[..., Awaitable[int]], queue: list[dict[str, Any]], clients: int, s: float
) -> dict[str, float]:
    """Requests a second, p50 and p95 in ms, and CPU between client and engine in ms a request."""
    between = servers.between(way)
    before = sum(sum(process.cpu_times()[:2]) for process in between)
    took, whole = await load(partial(ask, servers.urls[way]), queue, clients, s)
    spent = sum(sum(process.cpu_times()[:2]) for process in between) - before
    times = sorted(took)
    return {
        "rate": round(len(times) / whole, 3),
        "p50": round(1000 * statistics.median(times)),
        "p95": round(1000 * times[min(len(times) - 1, int(0.95 * len(times)))]),
        "cpu": round(1000 * spent / len(times), 1),
    }


async def both_orders(session: aiohttp.ClientSession, servers: Servers, rounds: int, marks: Any) -> dict[str, Any]:
    """Both orders in one call against one order, eight clients; instruction, context and rubric half of the prompt."""
    way = "ours" if "ours" in servers.ways else "plugin"
    filler = "The committee met on the first floor and wrote down what each member had said about the garden. "

    def pair(number: int, mark: str) -> dict[str, Any]:
        words = filler * 5
        return {
            "instruction": f"{mark}.{number} Say in one paragraph what happened.",
            "context": words,
            "responses": [f"First: {filler * 3}", f"Second: {filler * 2}"],
            "rubric": "The better response keeps to the context.",
            "template": "pairwise_compact",
        }

    async def ask(both: bool, example: dict[str, Any]) -> int:
        body = {**example, "max_tokens": CRITIQUE, "both_orders": both}
        headers = {"authorization": f"Bearer {servers.key}"}
        async with session.post(f"{servers.urls[way]}/v1/judge/pairwise", json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return 1

    found: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds):
        for both in (False, True) if number % 2 == 0 else (True, False):
            queue = [pair(i, f"o{next(marks)}") for i in range(48)]
            _, whole = await load(partial(ask, both), queue, 8, 1e9)
            found[both].append(whole)
            print(f"{'both orders' if both else 'one order'}: {whole:.1f} s", flush=True)
    ratios = [two / one for one, two in zip(found[False], found[True], strict=True)]
    return {"ratio": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)}


if __name__ == "__main__":
    main()

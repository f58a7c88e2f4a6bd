"""The judge's service against vLLM's own server and stock `ray.serve.llm`: the same prompts, as many tokens written.

Four servers stand at once and are asked in turn, by 1, 8 and 16 clients, each client one request after another:

- `vllm`: vLLM's own server, /v1/chat/completions;
- `plugin`: `openselene serve`, /v1/judge/pairwise with a key, a critique and a constrained verdict;
- `stock`: ray.serve.llm's application, /v1/chat/completions;
- `ours`: serve/app.py on Ray Serve, as `plugin`.

Chats write as many tokens as judgments do: each takes the length of one of the judgments made before. (Chats of one
length run in step, which fills vLLM's batches better than any traffic would.) CPU is that of the processes between
client and engine, per request. At the end, two orders in one call against one, where half of the prompt is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import zlib
from functools import partial
from itertools import count as numbers
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml
from clients import free_port, load, wait_ready
from rounds import add_rounds, compared, interleaved

# This file would hide the package of its name, here and in Ray's workers, which look where a driver's script lies.
sys.path[:] = [str(Path(__file__).parents[1]), *(one for one in sys.path if one != str(Path(__file__).parent))]

CRITIQUE = 27  # with the label, the verdict and the end of the turn, about 32 tokens
CLIENTS = (1, 8, 16)
WAYS = ("vllm", "plugin", "stock", "ours")
ROOT = Path(__file__).parents[1]
ENGINE = {"model": "embedded", "max_model_len": 1024, "max_num_seqs": 32}
TEMPLATE = "compact"
# As docs/serving.md advises: HAProxy in place of Serve's proxy, replicas without a second event loop, and a controller
# that looks once a second, not ten times. Stock `ray.serve.llm` gets them too.
TUNED = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "1",
}


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12, help="of each point")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS)
    parser.add_argument("--orders", action=argparse.BooleanOptionalAction, default=True, help="two orders against one")
    add_rounds(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Servers(Path(folder), options.ways) as servers:
        print(json.dumps(Measure(servers, options)()))


class Servers:
    """All servers, each with its address and the processes between client and engine."""

    def __init__(self, folder: Path, ways: list[str]) -> None:
        self.folder, self.ways = folder, ways
        self.urls: dict[str, str] = {}
        self.started: list[subprocess.Popen[bytes]] = []
        self.key = ""

    def __enter__(self) -> Servers:
        for name, value in {"RAY_worker_niceness": "0", **TUNED}.items():
            os.environ.setdefault(name, value)
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
        command = [sys.executable, str(ROOT / "ray_jobs" / "judge_server.py"), "--config", str(config)]
        self._spawn("plugin", command, os.environ | {"PYTHONPATH": str(ROOT)}, "/readyz")

    def _spawn(self, way: str, command: list[str], environment: dict[str, str], ready: str) -> None:
        port = free_port()
        command += [str(port)] if way == "vllm" else [f"port={port}"]
        log = (self.folder / f"{way}.log").open("wb")
        self.started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT))
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
args.middleware, args.logits_processors = [], None  # nothing of ours
args.host, args.port = "127.0.0.1", int(sys.argv[2])
validate_parsed_serve_args(args)
uvloop.run(run_server(args))
"""


def examples(mark: str, count: int = 400) -> list[dict[str, Any]]:
    """Packaged pairs, told apart by a mark before the instruction so that no cache holds them."""
    from pipelines.curation.registry import load_source
    from pipelines.datasets.reading import ingest_rows

    rows = [row for row in ingest_rows(load_source("sample_pairwise"), None) if row["status"] == "ok"]
    rows = [row for row in rows if row["allowed"] == ["A", "B"] and all(row["responses"])]
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


class Measure:
    """Asks the servers, all from one event loop."""

    def __init__(self, servers: Servers, options: argparse.Namespace) -> None:
        self.servers, self.options = servers, options
        self.loop, self.marks = asyncio.new_event_loop(), numbers()
        self.lengths = [32]  # tokens of judgments

    async def _open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=300)
        self.session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))

    def __call__(self) -> dict[str, Any]:
        """All ways at all numbers of clients, in turn."""
        ways, run = self.servers.ways, self.loop.run_until_complete
        run(self._open())
        for way in ways:
            run(load(partial(self.ask, way), examples(f"w{next(self.marks)}"), 4, 3))
        ours = [way for way in ("ours", "plugin") if way in ways]
        if ours:
            found: list[int] = []

            async def measured(one: dict[str, Any]) -> int:
                found.append(await self.judge(ours[0], one))
                return found[-1]

            run(load(measured, examples(f"t{next(self.marks)}", 64), 8, 1e9))
            self.lengths = sorted(found)
            print(f"tokens of judgments: {self.lengths}", flush=True)
        points = {
            clients: interleaved({way: partial(self.point, way, clients) for way in ways}, self.options.rounds)
            for clients in self.options.clients
        }
        rates = {way: [one["rate"] for one in found] for way, found in points[self.options.clients[-1]].items()}
        result: dict[str, Any] = {"name": "serve", "unit": "requests/s", "tokens": statistics.mean(self.lengths)}
        if "vllm" in rates and ours:
            result |= compared(rates[ours[0]], rates["vllm"])
            result["ratios"] = {
                f"{way} at {clients}": statistics.median(
                    p["rate"] / q["rate"] for p, q in zip(found[way], found["vllm"], strict=True)
                )
                for clients, found in points.items()
                for way in ways
            }
        result["points"] = {
            f"{way} at {clients}": {key: statistics.median(p[key] for p in found[way]) for key in found[way][0]}
            for clients, found in points.items()
            for way in ways
        }
        if self.options.orders and ours:
            orders = interleaved(
                {"one": partial(self.orders, False), "both": partial(self.orders, True)}, self.options.rounds
            )
            result["both_orders_to_one"] = compared(orders["both"], orders["one"])
        run(self.session.close())
        return result

    async def ask(self, way: str, example: dict[str, Any]) -> int:
        """One request; returns the tokens written."""
        return await (self.judge(way, example) if way in ("plugin", "ours") else self.chat(way, example))

    async def judge(self, way: str, example: dict[str, Any], **asked: Any) -> int:
        """A judgment."""
        body = {**example, "max_tokens": CRITIQUE, **asked}
        headers = {"authorization": f"Bearer {self.servers.key}"}
        url = f"{self.servers.urls[way]}/v1/judge/pairwise"
        async with self.session.post(url, json=body, headers=headers) as answer:
            said = await answer.json()
            assert answer.status == 200, said
            tokens: int = said["usage"]["output_tokens"]
            return tokens

    async def chat(self, way: str, example: dict[str, Any]) -> int:
        """A chat of the judge's prompt."""
        body = {
            "model": "judge",
            "messages": [{"role": "user", "content": prompt_of(example)}],
            "max_tokens": self.length(example),
            "temperature": 0,
            "ignore_eos": True,
        }
        async with self.session.post(f"{self.servers.urls[way]}/v1/chat/completions", json=body) as answer:
            said = await answer.json()
            assert answer.status == 200, said
            tokens: int = said["usage"]["completion_tokens"]
            return tokens

    def length(self, example: dict[str, Any]) -> int:
        """Tokens that a chat is to write: those of one judgment, chosen by the example."""
        return self.lengths[zlib.crc32(example["instruction"].encode()) % len(self.lengths)]

    def point(self, way: str, clients: int) -> dict[str, float]:
        """Requests a second, p50 and p95 in ms, and CPU between client and engine in ms a request."""
        between = self.servers.between(way)
        before = sum(sum(process.cpu_times()[:2]) for process in between)
        queue = examples(f"{way}{next(self.marks)}")
        took, whole = self.loop.run_until_complete(load(partial(self.ask, way), queue, clients, self.options.seconds))
        spent = sum(sum(process.cpu_times()[:2]) for process in between) - before
        times = sorted(took)
        found = {
            "rate": round(len(times) / whole, 3),
            "p50": round(1000 * statistics.median(times)),
            "p95": round(1000 * times[min(len(times) - 1, int(0.95 * len(times)))]),
            "cpu": round(1000 * spent / len(times), 1),
        }
        print(f"{clients} clients, {way}: {json.dumps(found)}", flush=True)
        return found

    def orders(self, both: bool) -> float:
        """Seconds of 48 calls by eight clients, in one order or in both; half of the prompt is shared by the orders."""
        way = "ours" if "ours" in self.servers.ways else "plugin"
        filler = "The committee met on the first floor and wrote down what each member had said about the garden. "
        mark = f"o{next(self.marks)}"
        queue = [
            {
                "instruction": f"{mark}.{number} Say in one paragraph what happened.",
                "context": filler * 5,
                "responses": [f"First: {filler * 3}", f"Second: {filler * 2}"],
                "rubric": "The better response keeps to the context.",
            }
            for number in range(48)
        ]
        _, whole = self.loop.run_until_complete(load(partial(self.judge, way, both_orders=both), queue, 8, 1e9))
        print(f"{'both orders' if both else 'one order'}: {whole:.1f} s", flush=True)
        return whole


if __name__ == "__main__":
    main()

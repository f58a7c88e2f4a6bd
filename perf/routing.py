"""What it is worth that requests with a common beginning go to one replica: two replicas, with and without the key.

Questions with a long context, each asked with several rubrics as requests of their own, in random order by several
clients. With `x-session-id`, as the Python client sends it, Ray Serve keeps a question at one replica; without it the
replica is any. What counts is the share of the prompts' tokens that were found in a replica's prefix cache. Every
round and way has questions of its own, so that nothing is cached before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from rounds import add_rounds, compared, interleaved

# perf/serve.py would hide the package of its name, here and in Ray's workers, which look where a driver's script lies.
sys.path[:] = [str(Path(__file__).parents[1]), *(one for one in sys.path if one != str(Path(__file__).parent))]

ENGINE = {"model": "embedded", "max_model_len": 1024, "max_num_seqs": 8, "dtype": "bfloat16", "num_cpus": 0.5}
SERVICE = {"template": "compact", "max_tokens": 16, "queue": 64}
CLIENTS = 4
WORDS = 250  # of a context
THINGS = ("tree", "river", "house", "cloud", "stone", "field", "road", "bridge")
RUBRICS = ("Is it correct?", "Is it polite?", "Is it short?", "Is it complete?", "Is it clear?", "Is it safe?")


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=8, help="of a round, each asked with six rubrics")
    add_rounds(parser)
    options = parser.parse_args()
    url = two_replicas()
    try:
        print(json.dumps(measure(url, options.questions, options.rounds)))
    finally:
        from ray import serve

        serve.shutdown()


def two_replicas() -> str:
    """Start them; returns the service's address."""
    import socket

    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray import serve

    from pipelines.core.cluster import RayConfig, connect
    from serve.app import deployment

    connect(RayConfig(num_cpus=4, object_store_memory_mb=256, dashboard=False))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    config = {"engine": ENGINE, "service": SERVICE}
    serve.run(deployment(config).options(num_replicas=2).bind(config), name="judge", route_prefix="/")
    return f"http://127.0.0.1:{port}"


def measure(url: str, questions: int, rounds: int) -> dict[str, Any]:
    """Both ways in turn."""
    numbers = iter(range(1_000_000))

    def run(keyed: bool) -> float:
        bodies = asked(next(numbers), questions)
        share = asyncio.run(ask_all(url, bodies, keyed))
        print(f"{'with' if keyed else 'without'} the key: {share:.3f} of the prompts' tokens cached", flush=True)
        return share

    found = interleaved({"ours": partial(run, True), "baseline": partial(run, False)}, rounds)
    return {
        "name": "routing",
        **compared(found["ours"], found["baseline"]),
        "unit": "share of prompt tokens cached",
        "replicas": 2,
        "requests": questions * len(RUBRICS),
    }


def asked(number: int, questions: int) -> list[dict[str, Any]]:
    """The requests of a round, in random order."""
    dice = random.Random(number)
    bodies = []
    for question in range(questions):
        context = " ".join(dice.choice(THINGS) for _ in range(WORDS))
        one = {"instruction": f"{number}.{question} What is it about?", "context": context, "response": "A walk."}
        bodies += [{**one, "rubric": rubric, "max_tokens": 4} for rubric in RUBRICS]
    dice.shuffle(bodies)
    return bodies


async def ask_all(url: str, bodies: list[dict[str, Any]], keyed: bool) -> float:
    """Ask; returns the share of cached tokens."""
    from serve.client.wire import same_replica

    waiting, prompt, cached = iter(bodies), 0, 0
    async with httpx2.AsyncClient(timeout=300) as client:

        async def some() -> None:
            nonlocal prompt, cached
            for body in waiting:
                headers = same_replica(body) if keyed else {}
                answer = await client.post(f"{url}/v1/judge/absolute", json=body, headers=headers)
                assert answer.status_code == 200, answer.text
                usage = answer.json()["usage"]
                prompt, cached = prompt + usage["prompt_tokens"], cached + usage["cached_tokens"]

        await asyncio.gather(*(some() for _ in range(CLIENTS)))
    return cached / prompt


if __name__ == "__main__":
    main()

"""The curation job without its models: rows per second and memory of everything that is ours, and how busy actors are.

The models are replaced by STAND-INS: actors that wait a fixed time a batch and fill the columns with constants. All
else is the real job: reading JSONL, adapting, exact and near duplicates, cleaning, decontamination, contrast,
templates, tokens, four resumable segments, ledger, published pairs. Rows are made-up words, as frequent as Zipf's law
has it in real text, of made-up lengths, so that none is a duplicate; every fifth has a planted flaw.

Two sizes are run in turn, each in a process of its own. Then a pool with one actor on each of eight simulated nodes
works on batches whose latencies are heavy-tailed.

With `--against CHECKOUT`, another checkout of this repository, only the job of the larger size is run, by the code of
both in turn, on the same rows and in the same environment.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rounds import add_rounds, compared, interleaved

from pipelines.config import load_config
from pipelines.core.records import CACHED, CHECKED, CRITIQUED, EXAMPLE, SCORED, Row
from pipelines.core.segment import Rows, Segment, Step
from pipelines.core.stage import PooledStage, Stage

TASKS = ("pairwise", "absolute", "classification")
CHUNK = 20_000  # most rows of an input file
LATENCY_S = 0.02  # of a stand-in, per batch
NODES = 8
ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "ray_jobs" / "configs" / "local.yaml"


class StandIn(PooledStage):
    """Waits as a model would and fills its columns with constants. Not a model."""

    name = "stand_in"
    reads = ("responses",)
    num_cpus = 0.1
    rows_per_batch = 2048

    def __init__(self, adds: tuple[pa.Field, ...]) -> None:
        self.adds = adds

    def apply_batch(self, rows: list[Row]) -> None:
        """Constants for every row."""
        time.sleep(LATENCY_S)
        values = {
            "rewards": [0.5, 0.5],
            "reward_objectives": [[0.1] * 19] * 2,
            "reward_model": "stand-in",
            "chosen_critique": "It gives what was asked for, and it says so in plain words. " * 3,
            "rejected_critique": "It does not give what was asked for, and what it says is vague. " * 3,
            "generator": "stand-in",
            "synthesis_tokens": 400,
            "synthesis_prompt_tokens": 340,
            "synthesis_cached_tokens": 200,
            "chosen_consistent": True,
            "rejected_consistent": True,
            "attempts": 1,
        }
        for row in rows:
            row.update({field.name: values.get(field.name) for field in self.adds})
            if "rewards" in row:
                row["rewards"] = [0.5] * len(row["responses"])


class HeavyTail(PooledStage):
    """Waits a Pareto-distributed time a row, and notes when it was busy. Not a model."""

    name = "heavy_tail"
    reads = ("row_id",)
    num_cpus = 1.0
    rows_per_batch = 1

    def __init__(self, notes: Path, median_s: float) -> None:
        self.notes, self.median_s = notes, median_s
        self.actors = (NODES, NODES)

    def apply_batch(self, rows: list[Row]) -> None:
        """Wait for each row, at most thirty times the median."""
        for row in rows:
            start = time.time()
            draw = np.random.default_rng(int(row["row_id"])).pareto(1.5)
            time.sleep(min(self.median_s * (0.4 + draw), 30 * self.median_s))
            with (self.notes / f"{os.getpid()}.jsonl").open("a") as file:
                file.write(json.dumps([start, time.time()]) + "\n")


def main() -> None:
    """Run both sizes and the cluster; print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=(57_700, 577_000), help="of the two sizes")
    add_rounds(parser)
    parser.add_argument("--words", type=int, default=60, help="mean words of a row")
    parser.add_argument("--folder", type=lambda text: Path(text).resolve(), help="where to write")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="whose job is compared with this one's")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(CHILDREN[options.child](json.loads(sys.stdin.read()))))
        return
    child("warm", {})
    if options.against:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            write_rows(Path(folder) / "data", options.rows[1], options.words)
            print(json.dumps(side_by_side(options.against, options.rows[1], options.rounds, Path(folder))))
        return

    def run(rows: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            result = measure(rows, options.words, Path(folder))
        print(result, flush=True)
        return result

    sizes = dict(zip(("small", "large"), options.rows, strict=True))
    found = interleaved({name: partial(run, rows) for name, rows in sizes.items()}, options.rounds)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        busy = child("cluster", {"folder": folder})

    def of(key: str) -> dict[str, Any]:
        return compared([run[key] for run in found["large"]], [run[key] for run in found["small"]])

    memory, store, rate = of("driver_mb"), of("object_store_mb"), of("rows_per_s")
    worst = max((memory, store), key=lambda one: one["ratio"])
    print(
        json.dumps(
            {
                "name": "dataplane",
                **worst,
                "unit": "MB at peak, of the larger size and of the smaller",
                "ratios": {"driver_mb": memory["ratio"], "object_store_mb": store["ratio"]},
                "rows_per_s": [rate["baseline"], rate["ours"]],
                "runs": found,
                "utilisation": busy["utilisation"],
                "models": "stand-ins",
            }
        )
    )


def measure(rows: int, words: int, folder: Path) -> dict[str, Any]:
    """Write the rows, run the job on them in a process of its own, and watch the object store."""
    write_rows(folder / "data", rows, words)
    with peak_of_object_store() as store:
        run = child("job", {"folder": str(folder)})
    return {"rows": rows, **run, "rows_per_s": rows / run["seconds"], "object_store_mb": store[0] / 2**20}


def side_by_side(other: Path, rows: int, rounds: int, folder: Path) -> dict[str, Any]:
    """The job on the rows of a folder, by the code of this checkout and of another, in turn."""

    def run(root: Path) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            (Path(own) / "data").symlink_to(folder / "data")
            result = child("job", {"folder": own}, root)
        print(f"{'ours' if root == ROOT else 'theirs'}: {result}", flush=True)
        return float(rows / result["seconds"])

    found = interleaved({"ours": partial(run, ROOT), "theirs": partial(run, other.resolve())}, rounds)
    unit = {"unit": "rows per second of the curation job", "models": "stand-ins"}
    return {"name": "dataplane", **compared(found["ours"], found["theirs"]), **unit}


def child(name: str, given: dict[str, Any], root: Path = ROOT) -> dict[str, Any]:
    """What a part of this script, or of the same one of another checkout, run in a process of its own, prints last."""
    command = [sys.executable, str(root / "perf" / Path(__file__).name), "--child", name]
    # What is installed may be the code of a third checkout, and Ray's workers look in the driver's folder first.
    own: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(root)}, "cwd": root}
    done = subprocess.run(command, input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=True, **own)
    printed = [line for line in done.stdout.splitlines() if line.startswith("{")]  # Ray may say goodbye after it
    found: dict[str, Any] = json.loads(printed[-1])
    return found


def write_rows(folder: Path, count: int, words: int) -> None:
    """JSONL files of the three task types, and a source YAML each."""
    folder.mkdir(parents=True)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    draw = np.random.default_rng(0)
    vocabulary = ["".join(draw.choice(letters, size)) for size in draw.integers(2, 9, 20_000)]
    drawing = np.cumsum(1 / np.arange(1, len(vocabulary) + 1))
    drawing /= drawing[-1]
    chunk = min(CHUNK, -(-count // 6))
    for start in range(0, count, chunk):
        task = TASKS[start // chunk % 3]
        with (folder / f"{task}-{start:08d}.jsonl").open("w") as file:
            sizes = np.maximum(3, draw.lognormal(np.log(words / 4), 0.5, (min(chunk, count - start), 3)).astype(int))
            for number, (asked, first, second) in enumerate(sizes, start):
                drawn = np.searchsorted(drawing, draw.random(asked + first + second))
                text = [vocabulary[i] for i in drawn]
                record = {
                    "q": " ".join(text[:asked]),
                    "a": " ".join(text[asked : asked + first]) if number % 5 else None,
                    "b": " ".join(text[asked + first :]),
                    "n": number % 2,
                }
                file.write(json.dumps(record) + "\n")
    labels = {"pairwise": ("A", "B"), "absolute": ("1", "5"), "classification": ("Yes", "No")}
    allowed = {"pairwise": "[A, B]", "absolute": "1..5", "classification": '["Yes", "No"]'}
    for task in TASKS:
        responses = "[record.a, record.b]" if task == "pairwise" else "[record.a]"
        (folder / f"{task}.yaml").write_text(
            f"name: made_up_{task}\ntask: {task}\nlicense: none\npublished: 2025\nallowed: {allowed[task]}\n"
            f"files: ['{task}-*.jsonl']\nfields:\n  instruction: record.q\n  responses: '{responses}'\n"
            f'  verdict: "{list(labels[task])}[record.n]"\n'
        )


def warm(given: dict[str, Any]) -> dict[str, Any]:
    """Fit the embedded reward head, which the job looks for: once on a machine, and no part of what is measured."""
    from pipelines.curation.config import RewardConfig
    from pipelines.engines.reward.stage import resolve_reward

    return {"reward": resolve_reward(RewardConfig())}


def job(given: dict[str, Any]) -> dict[str, Any]:
    """The curation job with stand-ins; seconds, and the peak resident set of this process, the driver."""
    from pipelines.core.cluster import connect
    from pipelines.curation import job as curation
    from pipelines.evaluation.asking.benchmark_texts import write_texts
    from ray_jobs.curate import build

    folder = Path(given["folder"])
    config = load_config(
        CONFIG,
        [
            f"out_dir={given.get('out') or folder / 'out'}",
            f"data_root={folder / 'data'}",
            f"curation.sources={[str(folder / 'data' / f'{task}.yaml') for task in TASKS]}",
            "curation.rows_per_block=4096",
            "curation.reward.thresholds={}",
            "max_error_share=0.5",
            "ray.dashboard=false",
        ],
    )
    connect(config.ray)
    write_texts(config.run, config.evaluation.benchmarks)
    start = time.monotonic()
    curation.run(with_stand_ins(build(config.run, config.curation)), config.run, config.curation)
    ended = time.monotonic() - start
    return {"seconds": ended, "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def with_stand_ins(steps: list[Step]) -> list[Step]:
    """The steps with every model replaced."""
    from pipelines.engines.llm.vllm_stage import PromptStage
    from pipelines.engines.reward.stage import RewardStage

    def replaced(stage: Stage) -> Stage:
        if isinstance(stage, RewardStage):
            return StandIn(tuple(SCORED))
        return StandIn((*CRITIQUED, *CACHED, *CHECKED)) if isinstance(stage, PromptStage) else stage

    return [
        replace(step, stages=[replaced(stage) for stage in step.stages]) if isinstance(step, Segment) else step
        for step in steps
    ]


def cluster(given: dict[str, Any]) -> dict[str, Any]:
    """Share of the time in which the actors of an eight-node pool worked, from the first call to the last."""
    import pyarrow.parquet as pq
    import ray
    from ray.cluster_utils import Cluster

    from pipelines.core.cluster import configure_data

    folder = Path(given["folder"])
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    for _ in range(NODES):
        nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, logging_level="ERROR", log_to_driver=False)
    configure_data()
    try:
        (folder / "rows").mkdir()
        (folder / "notes").mkdir()
        rows = [
            {"raw_id": str(i), "row_id": str(i), "source": "made_up", "status": "ok", "instruction": "x"}
            for i in range(NODES * 200)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE), folder / "rows" / "0.parquet")
        stage = HeavyTail(folder / "notes", median_s=0.25)
        Segment("tail", [stage], rows_per_block=4).run(folder / "work", Rows(folder / "rows", ""))
        spans = [
            json.loads(line) for path in (folder / "notes").iterdir() for line in path.read_text().splitlines() if line
        ]
        wall = max(end for _, end in spans) - min(start for start, _ in spans)
        return {"utilisation": sum(end - start for start, end in spans) / (NODES * wall), "wall_s": wall}
    finally:
        ray.shutdown()
        nodes.shutdown()


@contextmanager
def peak_of_object_store() -> Iterator[list[int]]:
    """The most bytes that shared memory held, above what it held before; Ray's object store lives there."""
    import psutil

    before, peak, stop = psutil.disk_usage("/dev/shm").used, [0], threading.Event()

    def sample() -> None:
        while not stop.wait(0.5):
            peak[0] = max(peak[0], psutil.disk_usage("/dev/shm").used - before)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


CHILDREN = {"warm": warm, "job": job, "cluster": cluster}

if __name__ == "__main__":
    main()

"""The synthesize segment on 1, 2, 4, … 64 simulated nodes: throughput of n against n times that of one.

The segment, its steps, prompts, journal and commits are the real ones. The engines are STAND-INS: actors that answer
each prompt after a fixed latency, chosen so that an engine does two rows a second, what `openselene plan` has for a
70B on four L40S. What is measured is therefore everything but the models: driver, scheduling, blocks. No row is begun
before all engines have started: here they start on the same cores, on a real cluster each has its own.

A node is simulated in one of three ways (`--way`), all on this machine:
  raylets  a raylet for each, as a real node has one; the only one that can tell what a node costs the driver
  packed   a raylet for eight
  one      one raylet for all
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from rounds import add_rounds, compared, interleaved
from synthesis import Began, Ended, critique_config, write_rows

from pipelines.core import storage
from pipelines.core.placement import Placement
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.critique import Critique
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.ask import Answer, Ask, Closing
from pipelines.engines.llm.vllm_stage import PromptStage

BAR = 0.9
SIZES = (1, 2, 4, 8, 16, 32, 64)
LATENCY_S = 2.0  # of an answer; a row asks four times
AT_ONCE = 16  # rows in an engine
STARTED = 1200  # seconds in which all engines have started
PER_RAYLET = {"raylets": 1, "packed": 8, "one": 10_000}
ROLE = "openselene/role"
TEXT = "It gives what was asked for, and it says so in plain words. " * 3


class StandIn(PromptStage):
    """An engine of fixed latency. Not a model."""

    def __init__(self, latency: float, *given: Any) -> None:
        super().__init__(*given)
        self.latency = latency

    def connect(self) -> Ask:
        async def ask(
            prompt: str,
            *,
            max_tokens: int,
            temperature: float = 0.0,
            top_p: float = 1.0,
            seed: int = 0,
            choices: Sequence[str] | None = None,
            logprobs: int = 0,
            rank_choices: Sequence[str] | None = None,
            closing: Closing | None = None,
            on_text: Callable[[str], None] | None = None,
        ) -> Answer:
            await asyncio.sleep(self.latency)
            return Answer(
                text=choices[0] if choices else TEXT, prompt_tokens=300, output_tokens=40, seconds=self.latency
            )

        return ask


def main() -> None:
    """Measure the sizes, each in a process of its own; print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--way", choices=PER_RAYLET, default="packed")
    parser.add_argument("--rows", type=int, default=80, help="a node")
    parser.add_argument("--latency", type=float, default=LATENCY_S, help="of a stand-in's answer, in seconds")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="rows in an engine")
    parser.add_argument("--block", type=int, default=4, help="rows of a block")
    add_rounds(parser)
    parser.add_argument("--keep", type=Path, help="a JSON file of what was measured before, to which this is added")
    parser.add_argument("--plot", type=Path, help="an SVG to draw")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(**json.loads(options.child))))
        return
    found = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else []

    def run(nodes: int) -> None:
        given = {"nodes": nodes, "way": options.way, "rows": options.rows}
        given |= {"latency": options.latency, "block": options.block, "at_once": options.at_once}
        command = [sys.executable, __file__, "--child", json.dumps(given)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1]))
        print(found[-1], flush=True)
        if options.keep:
            options.keep.write_text(json.dumps(found, indent=1))

    interleaved({str(nodes): partial(run, nodes) for nodes in options.nodes}, options.rounds)
    alike = {"way": options.way, "rows_per_block": options.block, "rows_at_once": options.at_once}
    alike |= {"latency_s": options.latency}
    runs = [one for one in found if all(one[key] == value for key, value in alike.items())]
    if options.plot:
        draw(runs, options.plot)
    print(json.dumps({"name": "scaling", **summary(runs), "bar": BAR, "models": "stand-ins", "runs": runs}))


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest size against the smallest, round by round; and the median efficiency of each size."""
    each = by_size(runs, lambda run: run["rows_per_s"] / run["nodes"])
    smallest, largest = min(each), max(each)
    rounds = min(len(each[smallest]), len(each[largest]))
    one = statistics.median(each[smallest])
    driver = by_size(runs, lambda run: run["cpu_s"].get("driver", 0.0) / run["rows"])
    return {
        **compared(each[largest][:rounds], each[smallest][:rounds]),
        "nodes": [smallest, largest],
        "unit": "rows/s of a node",
        "efficiency": {nodes: statistics.median(rates) / one for nodes, rates in each.items()},
        "driver_cpu_ms_per_row": {nodes: 1000 * statistics.median(spent) for nodes, spent in driver.items()},
    }


def by_size(runs: list[dict[str, Any]], figure: Callable[[dict[str, Any]], float]) -> dict[int, list[float]]:
    """A figure of each run, by the number of nodes."""
    found: dict[int, list[float]] = {}
    for run in sorted(runs, key=lambda run: int(run["nodes"])):
        found.setdefault(run["nodes"], []).append(figure(run))
    return found


def measure(nodes: int, way: str, rows: int, latency: float, block: int, at_once: int) -> dict[str, Any]:
    """Run the segment on a cluster of its own: rows a second while there was work, and CPU seconds by process."""
    import ray

    from pipelines.core.cluster import configure_data, place_readers
    from pipelines.core.segment import Rows, Segment

    ray.cloudpickle.register_pickle_by_value(sys.modules[Began.__module__])
    engine = EngineConfig(
        **critique_config().engine.model_dump()
        | {"engines": (nodes, nodes), "batch_size": block, "concurrent_batches": at_once // block}
        | {"placement": Placement(labels={ROLE: "generator"})}
    )
    config = critique_config().model_copy(update={"engine": engine})
    steps = [Began(), Critique(config, 0), ConsistencyCheck(config, 0), Ended()]
    stage = StandIn(latency, "synthesize", engine, steps)
    with tempfile.TemporaryDirectory(prefix="os-") as folder, cluster(nodes, way) as address:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        configure_data()
        ray.data.DataContext.get_current().wait_for_min_actors_s = STARTED
        place_readers({ROLE: "reader"})
        write_rows(Path(folder) / "in", rows * nodes)
        start = time.monotonic()
        with cpu_seconds() as spent:
            segment = Segment("synthesize", [stage], rows_per_block=block)
            done = segment.run(Path(folder) / "work", Rows(Path(folder) / "in", ""))
        wall = time.monotonic() - start
        table = storage.read_table(done.folder)
        ray.shutdown()
    seconds = max(table["ended"].to_pylist()) - min(table["began"].to_pylist())
    return {
        "nodes": nodes,
        "way": way,
        "rows": table.num_rows,
        "rows_per_s": table.num_rows / seconds,
        "seconds": round(seconds, 1),
        "start_s": round(wall - seconds, 1),
        "row_s": round(mean_row(table), 2),
        "ideal_rows_per_s": nodes * at_once / (4 * latency),
        "latency_s": latency,
        "rows_per_block": block,
        "rows_at_once": at_once,
        "cpu_s": {name: round(seconds, 1) for name, seconds in sorted(spent.items())},
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def mean_row(table: pa.Table) -> float:
    """Mean seconds of a row in an engine: what it takes longer than its four answers is what the machine adds."""
    spent = [end - start for start, end in zip(table["began"].to_pylist(), table["ended"].to_pylist(), strict=True)]
    return sum(spent) / len(spent)


@contextmanager
def cluster(nodes: int, way: str) -> Iterator[str]:
    """A head that reads and writes, and the simulated nodes."""
    from ray.cluster_utils import Cluster

    quiet: dict[str, Any] = {"include_dashboard": False}
    head = {"num_cpus": 4, "labels": {ROLE: "reader"}, "object_store_memory": 500 * 2**20, **quiet}
    found, left = Cluster(initialize_head=True, head_node_args=head), nodes
    try:
        while left:
            own = min(left, PER_RAYLET[way])
            found.add_node(num_cpus=own, labels={ROLE: "generator"}, object_store_memory=100 * 2**20, **quiet)
            left -= own
        yield found.address
    finally:
        found.shutdown()


@contextmanager
def cpu_seconds() -> Iterator[Counter[str]]:
    """CPU seconds while the block runs, by what the processes under this one are, looked at every second."""
    own, over, spent = psutil.Process(), threading.Event(), Counter[str]()
    first: dict[int, float] = {}
    last: dict[int, tuple[str, float]] = {}

    def look() -> None:
        for process in [own, *own.children(recursive=True)]:
            try:
                times, line = process.cpu_times(), " ".join(process.cmdline())
            except psutil.Error:
                continue
            kind = "driver" if process == own else kind_of(line)
            last[process.pid] = (kind, times.user + times.system)
            first.setdefault(process.pid, times.user + times.system if starting else 0.0)

    def watch() -> None:
        while not over.wait(1.0):
            look()

    starting = True
    look()
    starting = False
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield spent
    finally:
        over.set()
        thread.join()
        look()
        for pid, (kind, seconds) in last.items():
            spent[kind] += seconds - first[pid]


KINDS = {
    "gcs_server": "gcs",
    "raylet/raylet": "raylets",
    "StepActor": "engines",
    "agent": "agents",
    "ray::": "workers",
}


def kind_of(line: str) -> str:
    """What a process of a cluster is, by its command line."""
    return next((kind for name, kind in KINDS.items() if name in line), "others")


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Rows a second over nodes, with the straight line of perfect scaling."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "openselene"  # the same figures make the same file
    rates = {nodes: statistics.median(found) for nodes, found in by_size(runs, lambda run: run["rows_per_s"]).items()}
    nodes, first = list(rates), min(rates)
    figure, axes = plt.subplots(figsize=(5, 3.4))
    axes.plot(nodes, [n * rates[first] / first for n in nodes], "--", color="gray", label="perfect")
    axes.plot(nodes, list(rates.values()), "o-", label="measured")
    axes.set(xscale="log", yscale="log", xlabel="simulated nodes", ylabel="rows/s", xticks=nodes, xticklabels=nodes)
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()

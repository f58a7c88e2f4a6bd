"""Training speed: engine `shared` against TRL's own DPOTrainer on the same pairs of real prompts.

Both run in processes of their own, one after the other, same precision and threads. Prompts are real rows of public
sets rendered by our templates; completions are real response texts cut to the length of a critique, or for three pairs
in ten to that of a judgment alone (no generator is run), so lengths are true and texts are not. Measured are the steps
of one epoch, without loading the model. TRL shares nothing between pairs, so a round of it takes every third pair by
length (`--parts 3`), each round others, and its time counts for all by their tokens; `--parts 1` has it take them all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rounds import add_rounds, compared, interleaved

SOURCES = ("pandalm", "tulu1_human_eval", "vicuna_eval", "alce_human_eval", "halueval", "xstest", "finegrained_rlhf")
TEMPLATES = {
    "pairwise": "pairwise_original",
    "absolute": "absolute_original",
    "classification": "classification_original",
}
CRITIQUE = 130  # tokens, about what the paper's critiques and verdict take (docs/fidelity.md)
JUDGMENT, COT_SHARE = 6, 0.7  # tokens of a judgment alone, and the share of pairs that are more (arXiv 2501.17195, §2)
# What TRL may choose from: pairs of a forward pass, attention, reference beforehand or in the loop. The quickest on a
# few pairs is taken.
TRL_CHOICES = [(1, "sdpa", True), (1, "sdpa", False), (1, "eager", True), (2, "sdpa", True)]
REMARK = "memory is the peak resident set of the training process, model and optimizer included"


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("OPENSELENE_DATA_ROOT"))
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32, help="pairs of a step, as in the paper")
    add_rounds(parser)
    parser.add_argument("--precision", choices=("float32", "bfloat16_autocast"), default="float32")
    parser.add_argument("--bin-tokens", type=int, default=3072)
    parser.add_argument("--parts", type=int, default=3, help="TRL takes one of so many parts of the pairs in a round")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(json.loads(options.child))))
        return
    if options.data_root is None:
        sys.exit("set OPENSELENE_DATA_ROOT or --data-root to the folder of the real data")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(options, Path(folder))))


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the pairs, find TRL's best settings, run both engines in turn."""
    pairs = make_pairs(options.data_root, options.pairs, folder)
    print("pairs:", pairs)
    common = {
        "folder": str(folder),
        **{name: getattr(options, name) for name in ("precision", "bin_tokens", "batch_size")},
    }
    trials = {}
    for micro, attention, cached in TRL_CHOICES:
        trial = run({**common, "engine": "trl", "micro": micro, "attention": attention, "cached": cached, "limit": 4})
        trials[micro, attention, cached] = trial["total"]
        print(f"TRL, 4 pairs, micro-batch {micro}, {attention}, cached {cached}: {trial['total']:.1f} s", flush=True)
    # Beforehand the reference costs what it costs in the loop, so one run tells both the total and the steps.
    micro, attention, _ = min(trials, key=trials.__getitem__)
    trl = {**common, "engine": "trl", "micro": micro, "attention": attention, "cached": True}
    turns: dict[str, int] = {"ours": 0, "trl": 0}

    def one(name: str, job: dict[str, Any]) -> dict[str, float]:
        part = [turns[name] % options.parts, options.parts] if name == "trl" else [0, 1]
        turns[name] += 1
        result = run({**job, "part": part})
        of_all = pairs["apart"] / result.pop("apart")
        result |= {key: result[key] * of_all for key in ("reference", "steps", "total")}
        print(name, {key: round(value, 2) for key, value in result.items()}, flush=True)
        return result

    jobs = {"ours": {**common, "engine": "shared"}, "trl": trl}
    found = interleaved({name: partial(one, name, job) for name, job in jobs.items()}, options.rounds)
    n = pairs["rows"]

    def of(name: str, key: str) -> list[float]:
        return [result[key] for result in found[name]]

    memory = max(of("ours", "memory_gb")), max(of("trl", "memory_gb"))  # the longest pair is in one part only
    speed = compared([n / total for total in of("ours", "total")], [n / total for total in of("trl", "total")])
    return {
        "name": "train_step",
        **speed,
        "bound": pairs["bound"],
        "of_bound": speed["ratio"] / pairs["bound"],
        "unit": "pairs/s with the reference pass",
        "cached_ratio": compared(of("ours", "steps"), of("trl", "steps"), less_is_better=True)["ratio"],
        "memory_ratio": memory[0] / memory[1],
        "memory_gb": memory,
        "precision": options.precision,
        "pairs": n,
        "threads": threads(),
        "trl": f"micro-batch {micro}, {attention}",
        "remark": REMARK,
    }


def run(job: dict[str, Any]) -> dict[str, float]:
    """Measure in a process of its own, so that peak memory is this engine's alone."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(job)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measure(job: dict[str, Any]) -> dict[str, float]:
    """Train one epoch; seconds of the reference pass, of the steps, of both, and the peak memory in GB."""
    import datasets
    import torch

    from pipelines.core.run import Run
    from pipelines.training import dpo, worker
    from pipelines.training.config import TrainConfig
    from pipelines.training.reference import ReferenceScores

    worker.quiet()
    torch.set_num_threads(threads())
    folder = Path(job["folder"])
    model = (folder / "model.txt").read_text()
    rows = datasets.Dataset.from_parquet(str(folder / "pairs.parquet"), cache_dir=str(folder / "cache")).to_list()
    # By length, so that parts and trials have long and short ones.
    rows = sorted(rows, key=lambda row: (apart(row), row["row_id"]))
    part, parts = job.get("part", (0, 1))
    rows = rows[part::parts] if "limit" not in job else rows[len(rows) // 2 :][: job["limit"]]
    values: dict[str, Any] = {"precision": job["precision"], "max_length": 8192, "checkpoint_steps": 10**6}
    values |= {"batch_size": min(job["batch_size"], len(rows)), "model": model}
    reference = 0.0
    if job["engine"] == "shared":
        config = TrainConfig(**values, bin_tokens=job["bin_tokens"])
        stage = ReferenceScores(config, model)
        stage.setup()
        start = time.monotonic()
        stage.apply_batch(rows)
        reference = time.monotonic() - start
        del stage
    else:
        dpo.score_completions_only = lambda: None  # stock TRL
        config = TrainConfig(
            **values,
            engine="trl",
            nll="token",
            micro_batch_size=job["micro"],
            attention=job["attention"],
            precompute_reference=job["cached"],
        )
    with tempfile.TemporaryDirectory(dir=folder) as work:
        datasets.Dataset.from_list(rows).to_parquet(f"{work}/rows/0.parquet")
        with timed_reference() as beforehand:
            trainer = worker.build(worker.Job(config, model, Path(work) / "rows", Run(Path(work))), Path(work))
        reference += sum(beforehand)  # TRL computes it when it is built
        start = time.monotonic()
        trainer.train()
        steps = time.monotonic() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"reference": reference, "steps": steps, "total": reference + steps, "memory_gb": memory}
    return {**found, "apart": sum(map(apart, rows))}


@contextlib.contextmanager
def timed_reference() -> Iterator[list[float]]:
    """The seconds of each forward pass of TRL's reference in this context."""
    from trl import DPOTrainer

    seconds: list[float] = []
    stock = DPOTrainer.compute_ref_log_probs

    def timed(*given: Any) -> Any:
        start = time.monotonic()
        found = stock(*given)
        seconds.append(time.monotonic() - start)
        return found

    DPOTrainer.compute_ref_log_probs = timed
    try:
        yield seconds
    finally:
        DPOTrainer.compute_ref_log_probs = stock


def make_pairs(data_root: Path, n: int, folder: Path) -> dict[str, Any]:
    """Write `n` encoded pairs, chosen by hash over the sources, and return what they are like."""
    from pipelines.engines.packed.packing import pack

    rows = encoded_pairs(example_rows(data_root, SOURCES, n), folder)
    own, prompts = sum(map(apart, rows)), sum(len(row["prompt_ids"]) for row in rows)
    distinct = int(pack(rows)["work"].tokens)  # all in one tree
    share = prompts / (own - prompts)
    return {"rows": len(rows), "apart": own, "distinct": distinct, "prompt_share": share, "bound": own / distinct}


def apart(row: dict[str, Any]) -> int:
    """Tokens of a pair as two sequences, without padding."""
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


def example_rows(data_root: Path, sources: tuple[str, ...], n: int) -> list[dict[str, Any]]:
    """Rows of the sources, as many of each, chosen by hash, with the template that asks about them."""
    from pipelines.core.determinism import unit
    from pipelines.curation.registry import load_source
    from pipelines.datasets.readers import read_raw
    from pipelines.datasets.spec import adapt

    rows: list[dict[str, Any]] = []
    for name in sources:
        source = load_source(name)
        found = [row for raw in read_raw(source, data_root) for row in adapt(source, raw) if row["status"] == "ok"]
        found = sorted(found, key=lambda row: unit(0, "perf", row["row_id"]))[: -(-n // len(sources))]
        rows += [{**row, "template": TEMPLATES[row["task"]]} for row in found]
    return rows[:n]


def encoded_pairs(rows: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Write pairs of real prompts, with completions cut from the responses, and return them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines.core.determinism import unit
    from pipelines.engines.models import resolve
    from pipelines.judging import templates
    from pipelines.judging.chat import encode_prompt, encode_text
    from pipelines.training.pairs import ENCODED, load_tokenizer

    model = resolve("embedded")
    (folder / "model.txt").write_text(model)
    tokenizer = load_tokenizer(model)
    encoded: list[dict[str, Any]] = []
    for row in rows:
        text = encode_text(tokenizer, " ".join(row["responses"]) * 20)
        prompt = encode_prompt(tokenizer, templates.render(templates.load(row["template"]), row))
        alone = unit(0, "format", row["row_id"]) >= COT_SHARE
        size = JUDGMENT if alone else CRITIQUE
        completions = text[:size], text[size : 2 * size]
        values = (row["row_id"], row["row_id"], alone, row["source"], "ok", prompt, *completions, len(prompt) + size)
        encoded.append(dict(zip(ENCODED.names, values, strict=True)))
    pq.write_table(pa.Table.from_pylist(encoded, schema=ENCODED), folder / "pairs.parquet")
    return encoded


def threads() -> int:
    """All cores of the machine."""
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()

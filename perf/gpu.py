"""What only a GPU can prove, in under five minutes: backends against a dense mask, speed against TRL, reward scores.

    python perf/gpu.py                          one GPU; the last line is the result as JSON
    python perf/gpu.py --tiny --device cpu      the same logic on a model of 0.2 million weights; proves no kernel

Models have Llama-3.1-8B's shape, as many of its layers as fit, and random weights; pairs share templates as real ones
do. Every part runs in a process of its own, so that one that fails or runs out of memory costs nothing but itself; what
is not installed is named and skipped. Neither Ray nor vLLM is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it runs where the package is not installed

# In this order, so that what matters most is measured first.
OURS: dict[str, dict[str, Any]] = {
    "ours": {"attention": "varlen"},  # one GPU as the config's defaults have it
    "ours_sharded": {"attention": "varlen", "shards": True},  # the weights as several GPUs have them
    "ours_flex": {"attention": "flex", "shards": True},
    "ours_checkpointing": {"attention": "varlen", "shards": True, "checkpointing": True},
    "ours_compiled": {"attention": "varlen", "shards": True, "kernels": "none", "compile": True},
    "ours_plain": {"attention": "varlen", "shards": True, "kernels": "none"},
    "ours_split": {"attention": "split", "shards": True},
    "ours_float8": {"attention": "varlen", "shards": True, "float8": True},
}
TRL: dict[str, dict[str, Any]] = {
    "trl_cached": {"micro": 2, "checkpointing": False, "cached": True},
    "trl_in_loop": {"micro": 4, "checkpointing": True, "cached": False},
    "trl_cached_liger": {"micro": 4, "checkpointing": True, "cached": True, "kernels": "auto"},
    "trl_cached_4": {"micro": 4, "checkpointing": False, "cached": True},
}
ORDER = [
    "check", "ours", "trl_cached", "ours_sharded", "trl_in_loop", "reward", "ours_flex", "trl_cached_liger",
    "ours_compiled", "trl_cached_4", "ours_plain", "float8", "ours_float8", "ours_checkpointing", "ours_split",
]  # fmt: skip
LEAST = 20  # seconds; a part that would have fewer is skipped
BARS = {"ratio": 1.9, "cached_ratio": 2.5, "mfu": 0.45, "reward_ratio": 5.0}


def main() -> None:
    """Run the parts one after the other and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU does in seconds")
    parser.add_argument("--layers", type=int, help="of the model; as many as fit where it is left out")
    parser.add_argument("--batch", type=int, default=16, help="pairs of an optimizer step")
    parser.add_argument("--steps", type=int, default=6, help="timed optimizer steps")
    parser.add_argument("--bin-tokens", type=int, default=8192)
    parser.add_argument("--budget", type=float, default=280, help="seconds; parts that would begin later are skipped")
    parser.add_argument("--part-limit", type=float, default=80, help="seconds of one part")
    parser.add_argument("--only", help="comma-separated parts")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options)), flush=True)
        return
    if options.device == "cpu" and not options.tiny:
        sys.exit("on a CPU this takes days: add --tiny")
    begin, parts = time.monotonic(), dict[str, Any]()
    for name in options.only.split(",") if options.only else ORDER:
        left = options.budget - (time.monotonic() - begin)
        parts[name] = run(name, min(options.part_limit, left)) if left > LEAST else {"skipped": "no time left"}
        print(f"{time.monotonic() - begin:5.0f} s  {name}: {json.dumps(parts[name])}", flush=True)
    line = json.dumps({**headline(parts), "seconds": round(time.monotonic() - begin, 1), "parts": parts})
    if os.environ.get("OUT"):
        (Path(os.environ["OUT"]) / "gpu.json").write_text(line)
    print(line)


def run(name: str, limit: float) -> dict[str, Any]:
    """One part in its own process: its last line, or how it failed."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"took over {limit:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"failed": done.stderr.strip()[-900:] or f"exit status {done.returncode}"}
    return dict(json.loads(lines[-1]))


def child(options: argparse.Namespace) -> dict[str, Any]:
    """What one part found."""
    import logging
    import warnings

    os.environ.update(TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_DATASETS_DISABLE_PROGRESS_BARS="1", DATASETS_VERBOSITY="error")
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch

    from perf.gpu_shapes import Setup, layers_that_fit

    if options.device == "cuda" and not torch.cuda.is_available():
        return {"failed": "no GPU: run with --tiny --device cpu"}
    if options.device == "cpu":
        torch.set_num_threads(1)
    setup = Setup(options.device, options.tiny, 2, 4, 2, 256)
    if not options.tiny:
        layers = options.layers or layers_that_fit()
        setup = Setup(options.device, False, layers, options.batch, options.steps, options.bin_tokens)
    found = part(options.child, setup)
    if setup.gpu:
        found["device"] = torch.cuda.get_device_name()
    return {**found, "layers": setup.layers}


def part(name: str, setup: Any) -> dict[str, Any]:
    """One part by name."""
    from perf import gpu_check, gpu_reward, gpu_train

    try:
        if name in OURS:
            return gpu_train.ours(setup, OURS[name])
        if name in TRL:
            return gpu_train.trl(setup, TRL[name])
        return {"check": gpu_check.check, "float8": gpu_check.float8, "reward": gpu_reward.reward}[name](setup)
    except ImportError as exc:
        return {"skipped": f"not installed: {exc.name}"}


def headline(parts: dict[str, Any]) -> dict[str, Any]:
    """The best of ours and of TRL, and which bars are reached; None where there is no figure.

    Products in 8 bits do not count: they are not the same training.
    """

    def best(names: Any, key: str) -> tuple[float, str] | tuple[None, None]:
        found = [(parts[name][key], name) for name in names if parts.get(name, {}).get(key)]
        return max(found, default=(None, None))

    mine = [name for name, job in OURS.items() if not job.get("float8")]
    (ours, by), (trl, with_) = best(mine, "with_reference"), best(TRL, "with_reference")
    (ours_cached, _), (trl_cached, _) = best(mine, "pairs_per_second"), best(TRL, "pairs_per_second")
    mfu, mfu_of = best(mine, "mfu")
    found: dict[str, Any] = {
        "name": "gpu",
        "ok": parts.get("check", {}).get("ok"),
        "unit": "pairs/s with the reference pass",
        "ours": ours,
        "baseline": trl,
        "ratio": ours and trl and round(ours / trl, 3),
        "cached_ratio": ours_cached and trl_cached and round(ours_cached / trl_cached, 3),
        "mfu": mfu,
        "reward_ratio": parts.get("reward", {}).get("ratio"),
        "of": {"ours": by, "baseline": with_, "mfu": mfu_of},
    }
    devices = [part["device"] for part in parts.values() if part.get("device")]
    if not devices:
        return {**found, "device": None, "remark": "no GPU: this says nothing about one"}
    found["reached"] = {name: found[name] is not None and found[name] >= bar for name, bar in BARS.items()}
    return {**found, "device": devices[0]}


if __name__ == "__main__":
    main()

"""FLOPs of training Llama-3.1-8B on 577k judge pairs: the mainstream way, ours, and the floor; arithmetic and check.

The pairs are real prompts and completions (as `train_step.py` makes them), in steps of 32 on 8 workers, and what pairs
of a bin begin with counts once. Or all have `--prompt` and `--completion` tokens and share nothing. The same formulas
are held against torch's FLOP counter on SmolLM2. Hours follow from a utilisation that is assumed, not measured: nothing
here ran on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.core.determinism import unit
from pipelines.engines.packed.work import ATTENTION_BACKWARD, BACKWARD, Shape, Work
from pipelines.training.flops import needed, stock

LLAMA_8B = Shape(layers=32, hidden=4096, query=4096, key=1024, ffn=14336, vocab=128256)  # its config.json
PAIRS, DEVICES, PEAK_TFLOPS = 577_000, 8, 989.4  # arXiv 2501.17195, §2.4; NVIDIA's data sheet, bfloat16, dense
BATCH, BIN_TOKENS, REFERENCE_ROWS = 32, 8192, 64
Lengths = list[tuple[int, int, int]]


def main() -> None:
    """Print the arithmetic, the check, and the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("OPENSELENE_DATA_ROOT"))
    parser.add_argument("--pairs", type=int, default=280, help="real pairs")
    parser.add_argument("--prompt", type=int, help="tokens of every prompt, instead of real ones")
    parser.add_argument("--completion", type=int, default=130)
    parser.add_argument("--utilisation", type=float, default=0.45, help="share of the peak that is reached")
    options = parser.parse_args()
    if options.prompt:
        lengths = [(options.prompt, options.completion, options.completion)]
        step = reference = needed(*lengths[0])
    elif options.data_root:
        lengths, step, reference = real_work(options.data_root, options.pairs)
    else:
        sys.exit("set OPENSELENE_DATA_ROOT or --data-root to the folder of the real data, or --prompt")
    hours = explain(LLAMA_8B, lengths, step, reference, options.utilisation)
    checked = {name: check(name) for name in COUNTED}
    for name, (formula, counted) in checked.items():
        print(f"{name}, SmolLM2, one step: formula {formula / 1e9:.1f}, torch's counter {counted / 1e9:.1f} GFLOP")
    ours, baseline = hours["shared, reference computed once"], hours["stock"]
    print(
        json.dumps(
            {
                "name": "train_flops",
                "ours": ours,
                "baseline": baseline,
                "ratio": baseline / ours,
                "unit": f"hours on {DEVICES} H100 at {options.utilisation:.0%} of peak, by arithmetic",
                "hours": hours,
                "formula_over_counter": {name: formula / counted for name, (formula, counted) in checked.items()},
            }
        )
    )


def explain(shape: Shape, lengths: Lengths, step: Work, reference: Work, utilisation: float) -> dict[str, float]:
    """Print and return the hours of every way; `step` and `reference` are the work of ours on all pairs."""
    n = len(lengths)
    mean = [sum(column) / n for column in zip(*lengths, strict=True)]
    print(f"{n} pairs: {mean[0]:.0f} tokens of prompt, {mean[1]:.0f} chosen, {mean[2]:.0f} rejected, on average")
    one = Work(tokens=1)
    print(f"a token through the layers: {shape.products(one) / 1e9:.2f} GFLOP; through the head as well: ", end="")
    print(
        f"{shape.products(Work(1, 1)) / 1e9:.2f}; each key it attends to: {shape.attention(Work(0, 0, 1)) / 1e6:.3f} M"
    )
    ordered = sorted(lengths, key=lambda pair: -pair[0] - max(pair[1:]))
    batches = [ordered[i : i + 4] for i in range(0, n, 4)]  # of like length, the kindest case for padding
    plain = causal(sum((stock(batch) for batch in batches), Work()))
    each = sum((needed(*pair) for pair in lengths), Work())
    print(f"ours: {each.tokens / step.tokens:.2f} times fewer tokens than pairs that share nothing with each other")
    ways = {
        "stock": 2 * shape.forward(plain) + shape.step(plain),  # the reference, the step, and all computed again
        "stock, nothing computed again": shape.forward(plain) + shape.step(plain),
        "stock, reference cached, nothing computed again": shape.step(plain),
        "shared within a pair, reference computed once": shape.forward(each) + shape.step(each),
        "shared, reference computed once": shape.forward(reference) + shape.step(step),
        "shared, reference cached": shape.step(step),
        "floor (forward and backward of every token of a bin once)": shape.model_flops(step),
    }
    hours = {}
    for name, flops in ways.items():
        total = flops / n * PAIRS
        hours[name] = total / (DEVICES * PEAK_TFLOPS * 1e12 * utilisation) / 3600
        print(f"{name}: {flops / n / 1e12:.1f} TFLOP a pair × {PAIRS} = {total / 1e18:.0f} EFLOP: {hours[name]:.1f} h")
    return hours


def causal(work: Work) -> Work:
    """Half of the square: kernels on GPUs skip what is masked."""
    return Work(work.tokens, work.scored, work.attended / 2)


def real_work(data_root: Path, pairs: int) -> tuple[Lengths, Work, Work]:
    """Lengths of real rows in our templates, and the work of their steps and of their reference pass."""
    sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script, it has its own folder there only
    from perf.train_step import SOURCES, encoded_pairs, example_rows
    from perf.tree import planned

    with tempfile.TemporaryDirectory() as folder:
        rows = encoded_pairs(example_rows(data_root, SOURCES, pairs), Path(folder))
    rows.sort(key=lambda row: unit(0, "perf order", row["row_id"]))
    lengths = [(len(row["prompt_ids"]), len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
    step = planned(rows, BATCH, DEVICES, BIN_TOKENS, LLAMA_8B)
    return lengths, step, planned(rows, REFERENCE_ROWS, 1, BIN_TOKENS)


def check(name: str) -> tuple[float, float]:
    """One step of SmolLM2 on two pairs: by the formula, and by torch's counter."""
    from pipelines.engines.models import resolve
    from pipelines.training.worker import quiet

    quiet()
    return COUNTED[name](resolve("embedded"), [(700, 130, 120), (420, 90, 110)])


def count_shared(model: str, lengths: Lengths) -> tuple[float, float]:
    """Our engine's forward and backward pass on pairs whose prompts begin alike, as a profiler counts it.

    Masked scores of a block count as computed, and plain matrix products make no scores again in the backward pass.
    """
    import torch

    from pipelines.engines.packed.packing import pack
    from pipelines.engines.packed.tree_attention import Layout, plain
    from pipelines.training.config import TrainConfig
    from pipelines.training.worker import load_model

    loaded = load_model(model, TrainConfig(kernels="none"))
    rows = [
        {
            "prompt_ids": [7] * 100 + [10 + i] * (prompt - 100),
            "chosen_ids": [8] * chosen,
            "rejected_ids": [9] * rejected,
        }
        for i, (prompt, chosen, rejected) in enumerate(lengths)
    ]
    packed = pack(rows)
    made = Layout(packed["tree"], torch.device("cpu"))
    dense = sum(
        block.queries * block.keys for block, way in zip(made.cut.blocks, made.ways, strict=True) if way is plain
    )
    shape = Shape.of(loaded.config)
    assert shape
    kept = (ATTENTION_BACKWARD - BACKWARD) * shape.attention(Work(attended=dense))
    with counter() as counted:
        loaded(packed).log_probs.sum().backward()
    return shape.step(replace(packed["work"], attended=made.cut.scores)) - kept, counted.get_total_flops()


def count_stock(model: str, lengths: Lengths) -> tuple[float, float]:
    """Two padded sequences a pair with logits of every position, as the mainstream trainers compute them."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
    longest = max(prompt + max(completions) for prompt, *completions in lengths)
    ids = torch.full((2 * len(lengths), longest), 7)
    shape = Shape.of(loaded.config)
    assert shape
    with counter() as counted:
        loaded(input_ids=ids, use_cache=False).logits.log_softmax(-1)[..., 0].sum().backward()
    return shape.step(stock(lengths)), counted.get_total_flops()


def counter() -> Any:
    """torch's FLOP counter, told of the fused attention of CPUs, which it does not know."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    behind = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    formulas = {
        fused: lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value),
        behind: lambda gradient, query, key, value, *_, **__: sdpa_backward_flop_count(gradient, query, key, value),
    }
    return FlopCounterMode(display=False, custom_mapping=formulas)


COUNTED: dict[str, Callable[[str, Lengths], tuple[float, float]]] = {"shared": count_shared, "stock": count_stock}

if __name__ == "__main__":
    main()

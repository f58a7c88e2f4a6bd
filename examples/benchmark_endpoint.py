"""Benchmark a model behind an OpenAI-compatible endpoint.

    python examples/benchmark_endpoint.py URL MODEL [key.path=value ...]

With OPENAI_API_KEY set, the key is sent. Any config key can follow, such as `evaluation.sample=10`.
"""

from __future__ import annotations

import json
import os
import sys

from pipelines.config import load_config
from pipelines.core.storage import read_json
from ray_jobs.benchmark import benchmark

KEY = "OPENAI_API_KEY"


def main(url: str, model: str, *overrides: str) -> None:
    """Run the benchmark job and print the figures of results.json."""
    mine = {"endpoint": url, "model": model, "api_key_env": KEY if KEY in os.environ else None}
    # The packaged config judges the three held-out sets of the sample data; name others in evaluation.benchmarks.
    config = load_config(
        "local", ["out_dir=out/endpoint", f"evaluation.models={json.dumps({'mine': mine})}", *overrides]
    )
    benchmark(config)
    results = read_json(config.run.results)
    for name, figures in results["models"]["mine"].items():
        low, high = figures["ci_low"], figures["ci_high"]
        print(f"{name}: {figures['metric']} {figures['value']} ({low}, {high}), parse rate {figures['parse_rate']}")
    print(f"report: {config.run.report}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write deploy/grafana/openselene-judge.json: a Grafana board of the judge service, from the list of its metrics.

python -m scripts.grafana_board            # write the file
python -m scripts.grafana_board --check    # write nothing, exit 1 when the file is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.generated_file import generate
from scripts.grafana import Board, Panel, ours, panel_of, quantiles, rate, share
from serve import metrics
from serve.metrics import METRICS

OUTPUT = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "openselene-judge.json"


def of_vllm(name: str) -> str:
    """A selector of a metric of vLLM's, which Ray gives without the colon."""
    return f'{{__name__=~"vllm:{name}|ray_vllm_{name}", job=~"$job"}}'


def of_serve(name: str) -> str:
    """A selector of a metric of Ray Serve's."""
    return f'ray_serve_{name}{{job=~"$job"}}'


def rows() -> list[tuple[str, list[Panel]]]:
    """Every row of the board: its title and its graphs."""
    flips = ours(metrics.ORDERS.name).replace("{", '{consistent="false", ')
    bad = ours(metrics.REQUESTS.name).replace("{", '{status=~"5..", ')
    cached, prompt = (ours(metrics.TOKENS.name).replace("{", f'{{kind="{kind}", ') for kind in ("cached", "prompt"))
    shares = [
        Panel(
            "Failed requests",
            "Share of answers with status 5xx.",
            {share(bad, ours(metrics.REQUESTS.name)): "5xx"},
            "percentunit",
        ),
        Panel(
            "Flipped verdicts",
            "Share of pairs whose verdict depends on the order of the responses.",
            {share(flips, ours(metrics.ORDERS.name)): "flipped"},
            "percentunit",
        ),
        Panel(
            "Cache hits",
            "Share of the prompts' tokens that the engine had computed before.",
            {share(cached, prompt): "cached"},
            "percentunit",
        ),
    ]
    vllm = [
        Panel(
            "Requests in the engine",
            "vLLM: running and waiting.",
            {
                f"sum ({of_vllm('num_requests_running')})": "running",
                f"sum ({of_vllm('num_requests_waiting')})": "waiting",
            },
        ),
        Panel(
            "KV cache in use",
            "vLLM: share of the cache's blocks.",
            {f"max ({of_vllm('kv_cache_usage_perc')})": "fullest replica"},
            "percentunit",
        ),
        Panel(
            "Tokens in the engine",
            "vLLM: per second.",
            {rate(of_vllm("prompt_tokens_total")): "prompt", rate(of_vllm("generation_tokens_total")): "output"},
        ),
        Panel(
            "Time to first token in the engine", "vLLM.", quantiles(of_vllm("time_to_first_token_seconds_bucket")), "s"
        ),
        Panel("Time in the engine's queue", "vLLM.", quantiles(of_vllm("request_queue_time_seconds_bucket")), "s"),
        Panel(
            "Preemptions",
            "vLLM: requests put back for lack of cache, per second.",
            {rate(of_vllm("num_preemptions_total")): "preemptions"},
            "ops",
        ),
    ]
    serve = [
        Panel(
            "Requests by deployment",
            "Ray Serve: per second; errors apart.",
            {
                rate(of_serve("deployment_request_counter_total"), "deployment"): "{{deployment}}",
                rate(of_serve("deployment_error_counter_total"), "deployment"): "{{deployment}} errors",
            },
            "ops",
        ),
        Panel(
            "Requests at replicas",
            "Ray Serve: computed and queued.",
            {
                f"sum ({of_serve('replica_processing_queries')})": "computed",
                f"sum ({of_serve('deployment_queued_queries')})": "queued",
            },
        ),
        Panel(
            "Healthy replicas",
            "Ray Serve.",
            {f"sum by (deployment) ({of_serve('deployment_replica_healthy')})": "{{deployment}}"},
        ),
    ]
    return [
        ("Judge", [*shares, *(panel_of(metric) for metric in METRICS)]),
        ("vLLM", vllm),
        ("Ray Serve (empty without it)", serve),
    ]


def board() -> Board:
    """The board of the judge service."""
    source = "scripts/grafana_board.py from serve/metrics.py"
    return Board("openselene judge", source, ["openselene", "vllm", "ray"], rows(), metrics.REQUESTS)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return generate("Write the Grafana board from the list of metrics.", board().text, OUTPUT, arguments)


if __name__ == "__main__":
    sys.exit(main())

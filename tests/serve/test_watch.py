"""The service's metrics: what is counted, with which labels, and that no caller can make new ones."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pipelines.core.metrics import OTHER, PREFIX, Metric
from serve.metrics import METRICS
from serve.watch import InProcess, Watch, route_of

JUDGMENT: dict[str, Any] = {
    "task": "pairwise",
    "verdict": "A",
    "parse_status": "ok",
    "consistent": True,
    "prompt_tokens": 100,
    "output_tokens": 20,
    "cached_tokens": 60,
    "seconds": 0.3,
    "first_token": 0.02,
}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def watch(registry: CollectorRegistry) -> Watch:
    return Watch(InProcess(registry))


def read(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"{PREFIX}{name}", labels)


def test_request_counts_by_route_and_status(watch: Watch, registry: CollectorRegistry) -> None:
    watch.request("/v1/judge/pairwise", 200, 0.2)
    watch.request("/v1/judge/pairwise", 429, 0.001)
    watch.request("/v1/judge/pairwise", 200, 0.4)
    assert read(registry, "requests_total", route="/v1/judge/pairwise", status="200") == 2
    assert read(registry, "requests_total", route="/v1/judge/pairwise", status="429") == 1
    assert read(registry, "request_seconds_count", route="/v1/judge/pairwise") == 3
    assert read(registry, "request_seconds_sum", route="/v1/judge/pairwise") == pytest.approx(0.601)
    assert read(registry, "request_seconds_bucket", route="/v1/judge/pairwise", le="0.25") == 2


def test_judgment_counts_verdict_parse_order_tokens_and_times(watch: Watch, registry: CollectorRegistry) -> None:
    watch.judgment(**JUDGMENT)
    watch.judgment(**JUDGMENT | {"verdict": "B", "consistent": False, "parse_status": "completed", "first_token": None})
    watch.judgment(**JUDGMENT | {"task": "classify", "verdict": "Yes", "consistent": None, "cached_tokens": 0})
    assert read(registry, "judgments_total", task="pairwise", verdict="A") == 1
    assert read(registry, "judgments_total", task="classification", verdict="Yes") == 1
    assert read(registry, "parsed_total", task="pairwise", parse_status="completed") == 1
    assert read(registry, "orders_total", task="pairwise", consistent="true") == 1
    assert read(registry, "orders_total", task="pairwise", consistent="false") == 1
    assert read(registry, "orders_total", task="classification", consistent="true") is None
    assert [read(registry, "tokens_total", kind=kind) for kind in ("prompt", "cached", "output")] == [300, 120, 60]
    assert read(registry, "judgment_seconds_sum", task="pairwise") == pytest.approx(0.6)
    assert read(registry, "time_to_first_token_seconds_count", task="pairwise") == 1


def test_refusals_and_waiting(watch: Watch, registry: CollectorRegistry) -> None:
    watch.refused("rate")
    watch.waiting(7)
    watch.waiting(3)
    assert read(registry, "refused_total", reason="rate") == 1
    assert read(registry, "judgments_waiting") == 3


def test_callers_texts_never_become_labels(watch: Watch, registry: CollectorRegistry) -> None:
    for number in range(200):
        secret = f"sel_{number}"
        watch.request(f"/v1/{secret}", 1000 + number, 0.1)
        watch.refused(secret)
        watch.judgment(**JUDGMENT | {"task": secret, "verdict": secret, "parse_status": secret})
    page = generate_latest(registry).decode()
    assert "sel_" not in page
    assert read(registry, "requests_total", route=OTHER, status=OTHER) == 200
    assert read(registry, "judgments_total", task=OTHER, verdict=OTHER) == 200
    assert len(page.splitlines()) < 200


@pytest.mark.parametrize(
    ("path", "route"),
    [("/page/page.js", "/page"), ("/page", "/page"), ("/pages", "/pages"), ("/v1/models", "/v1/models")],
)
def test_files_of_the_page_are_one_route(path: str, route: str) -> None:
    assert route_of(path) == route


def test_watch_without_a_backend_counts_nothing() -> None:
    watch = Watch()
    watch.request("/", 200, 0.1)
    watch.refused("rate")
    watch.judgment(**JUDGMENT)
    watch.waiting(1)


def test_every_metric_of_the_list_is_exported_under_its_name(watch: Watch, registry: CollectorRegistry) -> None:
    """What the board asks for is what the page says."""
    watch.request("/", 200, 0.1)
    watch.refused("rate")
    watch.judgment(**JUDGMENT)
    watch.waiting(1)
    page = generate_latest(registry).decode()
    for metric in METRICS:
        sample = f"{metric.name}_bucket" if metric.kind == "histogram" else metric.name
        assert f"\n{sample}" in page, metric.name


def test_a_missing_label_is_a_mistake_of_the_program() -> None:
    with pytest.raises(KeyError):
        Metric("x", "counter", "", {"a": ("1",)}).bounded({})


def test_here_is_one_watch_and_uses_the_page_of_the_process() -> None:
    """In a process of its own: the default registry keeps what it is given."""
    program = """
import sys
from serve.watch import InProcess, here
assert here() is here() and isinstance(here().backend, InProcess)
here().refused("queue")
from prometheus_client import REGISTRY
assert REGISTRY.get_sample_value("openselene_refused_total", {"reason": "queue"}) == 1
assert not {"ray", "vllm", "torch"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_several_api_servers_add_up(tmp_path: Any) -> None:
    """vLLM with several API servers sets PROMETHEUS_MULTIPROC_DIR and collects the files of all of them."""
    count = "from serve.watch import here; here().refused('rate'); here().waiting(2); {}"
    show = (
        "import prometheus_client as p, prometheus_client.multiprocess as m; r = p.CollectorRegistry();"
        "m.MultiProcessCollector(r); print(p.generate_latest(r).decode())"
    )
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", count.format("")], env=env, check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-c", count.format(show)], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert 'openselene_refused_total{reason="rate"} 2.0' in done.stdout
    assert "openselene_judgments_waiting 4.0" in done.stdout

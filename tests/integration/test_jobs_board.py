"""Every graph of the jobs' board has data: metrics on the port of a real Ray node, asked through a real Prometheus."""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path

import pytest

from pipelines.core import job_metrics, metrics
from scripts.grafana_jobs import board
from tests.integration.prometheus import empty, scraping

pytestmark = pytest.mark.slow


def count_everything() -> None:
    """Each metric of the list once, with every value of its labels."""
    meter = metrics.here()
    for metric in job_metrics.METRICS:
        for values in product(*metric.labels.values()):
            labels = dict(zip(metric.labels, values, strict=True))
            {"counter": meter.add, "gauge": meter.set, "histogram": meter.observe}[metric.kind](metric, 1, **labels)


def test_every_graph_of_the_jobs_has_data(plain_ray: None, tmp_path: Path) -> None:
    import ray

    (node,) = [one for one in ray.nodes() if one["Alive"]]
    with scraping(tmp_path, f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}") as prometheus:
        # A rate needs two looks: a counter that appears with its first value does not rise in between.
        count_everything()
        prometheus.until("ray_openselene_job_rows_total")
        count_everything()
        prometheus.until("sum (rate(ray_openselene_job_rows_total[60s]))")
        time.sleep(3)
        titles = [title for title, _ in board().rows]
        assert {title: empty(prometheus, title, board()) for title in titles} == {title: [] for title in titles}
        assert prometheus.jobs(board()) == ["judge"]  # the scrape job's name

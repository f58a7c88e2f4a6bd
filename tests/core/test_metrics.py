"""Metrics as data: bounded labels, nothing counted without Ray, and the list of the jobs' own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pipelines.core import job_metrics, metrics
from pipelines.core.metrics import OTHER, Meter, counter, gauge, seconds
from tests.counted import Counted

FRUIT = counter("fruit", "Fruit", kind=("apple", "pear"))


def test_a_label_that_is_not_listed_is_other() -> None:
    kept = Counted()
    meter = Meter(kept)
    for kind in ("apple", "apple", "a user's own text", "another"):
        meter.add(FRUIT, 2, kind=kind)
    assert kept.of(FRUIT, kind="apple") == 4 and kept.of(FRUIT, kind=OTHER) == 4
    assert len(kept.numbers) == 2


def test_nothing_is_added_where_the_amount_is_nothing() -> None:
    kept = Counted()
    Meter(kept).add(FRUIT, 0, kind="apple")
    assert kept.calls == 0


def test_names_say_what_a_metric_is() -> None:
    assert FRUIT.name == "openselene_fruit_total" and FRUIT.kind == "counter"
    took = seconds("pick", "Time")
    assert took.name == "openselene_pick_seconds" and took.kind == "histogram" and took.buckets
    assert gauge("ripe", "Ripe").name == "openselene_ripe"


def test_every_metric_of_a_job_can_be_counted_by_a_backend() -> None:
    kept = Counted()
    meter = Meter(kept)
    for metric in job_metrics.METRICS:
        labels = {label: values[0] for label, values in metric.labels.items()}
        {"counter": meter.add, "histogram": meter.observe, "gauge": meter.set}[metric.kind](metric, 1, **labels)
        assert kept.of(metric, **labels) == 1 or kept.values(metric, **labels) == [1]


def test_the_list_has_every_metric_once_with_few_series() -> None:
    listed = [value for value in vars(job_metrics).values() if isinstance(value, metrics.Metric)]
    assert sorted(one.name for one in listed) == sorted(one.name for one in job_metrics.METRICS)
    for metric in job_metrics.METRICS:
        assert re.fullmatch(r"openselene_job_[a-z_]+", metric.name) and metric.help
        series = 1
        for values in metric.labels.values():
            series *= len(values) + 1
        assert series <= 60, metric.name


def test_without_ray_nothing_is_counted_and_ray_is_not_imported() -> None:
    program = """
import sys
from pipelines.core import counts, metrics
counts.Written("mix").now({"ok": 3}, 3)
assert isinstance(metrics.here().backend, metrics.Nowhere)
assert "ray" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_missing_label_is_a_mistake_of_the_program() -> None:
    with pytest.raises(KeyError):
        Meter(Counted()).add(FRUIT, 1)

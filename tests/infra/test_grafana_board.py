"""deploy/grafana/*.json: what the lists of metrics say, in a form that Grafana takes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pipelines.core import job_metrics
from pipelines.core.metrics import Metric
from scripts import grafana_board, grafana_jobs
from serve import metrics
from serve.watch import InProcess, Watch

BOTH = [(grafana_board, metrics.METRICS), (grafana_jobs, job_metrics.METRICS)]
both = pytest.mark.parametrize(("script", "listed"), BOTH, ids=["judge", "jobs"])


def graphs(script: ModuleType) -> list[dict[str, Any]]:
    return [panel for panel in script.board().content()["panels"] if panel["type"] != "row"]


def queries(script: ModuleType) -> list[str]:
    return [target["expr"] for panel in graphs(script) for target in panel["targets"]]


@both
def test_file_is_up_to_date(script: ModuleType, listed: Sequence[Metric], capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--check"]) == 0, "run `make docs`"
    assert json.loads(script.OUTPUT.read_text(encoding="utf-8")) == script.board().content()


def test_check_notices_an_old_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "board.json"
    assert grafana_board.main(["--check", "--output", str(page)]) == 1
    assert grafana_board.main(["--output", str(page)]) == 0
    assert grafana_board.main(["--check", "--output", str(page)]) == 0
    page.write_text(page.read_text(encoding="utf-8").replace("Failed", "Wrong"), encoding="utf-8")
    assert grafana_board.main(["--check", "--output", str(page)]) == 1


@both
def test_every_metric_has_a_graph_under_both_names(script: ModuleType, listed: Sequence[Metric]) -> None:
    for metric in listed:
        sample = f"{metric.name}_bucket" if metric.kind == "histogram" else metric.name
        patterns = [re.search(r'__name__=~"([^"]*)"', query) for query in queries(script)]
        found = [pattern[1] for pattern in patterns if pattern]
        for name in (sample, f"ray_{sample}"):
            assert any(re.fullmatch(pattern, name) for pattern in found), name


@both
def test_queries_use_only_labels_and_values_that_the_metrics_have(script: ModuleType, listed: Sequence[Metric]) -> None:
    known = {metric.name: metric.labels for metric in listed}
    for query in queries(script):
        for selector in re.findall(r"\{([^}]*openselene[^}]*)\}", query):
            name = re.search(r"\(ray_\)\?(\w+?)(_bucket)?\"", selector)
            assert name, selector
            labels = known[name[1]]
            asked = set(re.findall(r"(\w+)[!=~]+\"", selector))
            asked |= {label for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(", ")}
            assert asked <= {*labels, "__name__", "job", "le"}, query
            exact = re.findall(r"(\w+)=\"([^\"]*)\"", selector)
            assert all(value in labels[label] for label, value in exact), query


def test_queries_match_what_the_service_exports() -> None:
    """Of the metrics counted in the process, each selector of the board finds a sample."""
    registry = CollectorRegistry()
    watch = Watch(InProcess(registry))
    watch.request("/v1/judge/pairwise", 500, 0.1)
    watch.refused("rate")
    watch.waiting(1)
    judgment: dict[str, Any] = {"task": "pairwise", "verdict": "A", "parse_status": "ok", "consistent": False}
    numbers = {"prompt_tokens": 9, "output_tokens": 3, "cached_tokens": 6, "seconds": 0.1, "first_token": 0.1}
    watch.judgment(**judgment, **numbers)
    samples = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    for query in queries(grafana_board):
        for selector in re.findall(r"\{([^}]*openselene[^}]*)\}", query):
            asked = dict(re.findall(r'(\w+)=~?"([^"]*)"', selector))
            name = asked.pop("__name__")
            del asked["job"]
            assert any(
                re.fullmatch(name, re.split(r"[{ ]", line)[0])
                and all(re.search(rf'\b{label}="{value}"', line) for label, value in asked.items())
                for line in samples
            ), selector


@both
def test_panels_have_ids_of_their_own_and_do_not_overlap(script: ModuleType, listed: Sequence[Metric]) -> None:
    placed = script.board().content()["panels"]
    numbers = [panel["id"] for panel in placed]
    assert len(set(numbers)) == len(numbers)
    for one in placed:
        grid = one["gridPos"]
        assert grid["x"] >= 0 and grid["x"] + grid["w"] <= 24 and grid["y"] >= 0 and grid["h"] > 0
    for one, other in combinations([panel["gridPos"] for panel in placed], 2):
        apart_across = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_down = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_across or apart_down, (one, other)


@both
def test_board_is_what_grafana_imports(script: ModuleType, listed: Sequence[Metric]) -> None:
    board = script.board().content()
    assert board["schemaVersion"] >= 36 and board["uid"] and board["title"]
    assert {one["name"] for one in board["templating"]["list"]} == {"datasource", "job"}
    for panel in graphs(script):
        assert panel["title"] and panel["description"] and panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
    for query in queries(script):
        assert query.count("(") == query.count(")") and query.count("{") == query.count("}")


def test_both_boards_and_lists_are_apart() -> None:
    assert len({script.board().content()["uid"] for script, _ in BOTH}) == 2
    names = [metric.name for _, listed in BOTH for metric in listed]
    assert len(set(names)) == len(names)


def test_the_judges_board_shows_vllm_and_ray_serve() -> None:
    found = queries(grafana_board)
    assert any("vllm:" in query for query in found) and any("ray_serve_" in query for query in found)


def test_vllm_still_has_the_metrics_that_are_drawn() -> None:
    """By the names in vLLM's own source, which is read and not imported."""
    from importlib.util import find_spec

    found = find_spec("vllm")
    assert found and found.origin
    source = (Path(found.origin).parent / "v1" / "metrics" / "loggers.py").read_text(encoding="utf-8")
    drawn = {name for query in queries(grafana_board) for name in re.findall(r"vllm:(\w+)", query)}
    assert len(drawn) >= 7
    for name in drawn:
        assert f'"vllm:{name.removesuffix("_total").removesuffix("_bucket")}"' in source, name

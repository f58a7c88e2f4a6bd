"""deploy/grafana/openselene-judge.json: what the list of metrics says, in a form that Grafana takes."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from scripts.grafana_board import OUTPUT, board, main
from serve.metrics import METRICS
from serve.watch import InProcess, Watch

BOARD = board()
GRAPHS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in GRAPHS for target in panel["targets"]]


def test_file_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, "run `make docs`"
    assert json.loads(OUTPUT.read_text(encoding="utf-8")) == BOARD


def test_check_notices_an_old_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "board.json"
    assert main(["--check", "--output", str(page)]) == 1
    assert main(["--output", str(page)]) == 0
    assert main(["--check", "--output", str(page)]) == 0
    page.write_text(page.read_text(encoding="utf-8").replace("Failed", "Wrong"), encoding="utf-8")
    assert main(["--check", "--output", str(page)]) == 1


def test_every_metric_has_a_graph_under_both_names() -> None:
    for metric in METRICS:
        sample = f"{metric.name}_bucket" if metric.kind == "histogram" else metric.name
        patterns = [re.search(r'__name__=~"([^"]*)"', query) for query in QUERIES]
        found = [pattern[1] for pattern in patterns if pattern]
        for name in (sample, f"ray_{sample}"):
            assert any(re.fullmatch(pattern, name) for pattern in found), name


def test_queries_use_only_labels_that_the_metrics_have() -> None:
    known = {metric.name: {*metric.labels, "__name__", "job", "le"} for metric in METRICS}
    for query in QUERIES:
        for selector in re.findall(r"\{([^}]*openselene[^}]*)\}", query):
            name = re.search(r"\(ray_\)\?(\w+?)(_bucket)?\"", selector)
            assert name, selector
            asked = set(re.findall(r"(\w+)=", selector))
            asked |= {label for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(", ")}
            assert asked <= known[name[1]], query


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
    for query in QUERIES:
        for selector in re.findall(r"\{([^}]*openselene[^}]*)\}", query):
            asked = dict(re.findall(r'(\w+)=~?"([^"]*)"', selector))
            name = asked.pop("__name__")
            del asked["job"]
            assert any(
                re.fullmatch(name, re.split(r"[{ ]", line)[0])
                and all(re.search(rf'\b{label}="{value}"', line) for label, value in asked.items())
                for line in samples
            ), selector


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    for one in BOARD["panels"]:
        grid = one["gridPos"]
        assert grid["x"] >= 0 and grid["x"] + grid["w"] <= 24 and grid["y"] >= 0 and grid["h"] > 0
    for one, other in combinations([panel["gridPos"] for panel in BOARD["panels"]], 2):
        apart_across = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_down = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_across or apart_down, (one, other)


def test_board_is_what_grafana_imports() -> None:
    assert BOARD["schemaVersion"] >= 36 and BOARD["uid"] and BOARD["title"]
    assert {one["name"] for one in BOARD["templating"]["list"]} == {"datasource", "job"}
    for panel in GRAPHS:
        assert panel["title"] and panel["description"] and panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for query in QUERIES:
        assert query.count("(") == query.count(")") and query.count("{") == query.count("}")
    assert any("vllm:" in query for query in QUERIES) and any("ray_serve_" in query for query in QUERIES)


def test_vllm_still_has_the_metrics_that_are_drawn() -> None:
    """By the names in vLLM's own source, which is read and not imported."""
    from importlib.util import find_spec

    found = find_spec("vllm")
    assert found and found.origin
    source = (Path(found.origin).parent / "v1" / "metrics" / "loggers.py").read_text(encoding="utf-8")
    drawn = {name for query in QUERIES for name in re.findall(r"vllm:(\w+)", query)}
    assert len(drawn) >= 7
    for name in drawn:
        assert f'"vllm:{name.removesuffix("_total").removesuffix("_bucket")}"' in source, name

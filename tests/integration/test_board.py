"""Every graph of the Grafana board has data: a real server, scraped by a real Prometheus, which answers its queries."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scripts.grafana_board import board
from serve.client import Judge
from tests.integration.prometheus import empty, scraping
from tests.integration.server import Server

pytestmark = pytest.mark.slow
PAIR = {"instruction": "What is 2 + 2?", "responses": ["It is 4.", "It is 5."], "rubric": "The better one is right."}
ONE = {"instruction": "Say hello.", "response": "Hello!", "rubric": "Is it kind?"}


def ask(server: Server) -> None:
    """One request of each kind, and one that is refused."""
    with Judge(server.url, server.key) as judge:
        judge.pairwise(**PAIR, both_orders=True, max_tokens=8, on_critique=lambda piece: None)  # type: ignore[arg-type]
        judge.absolute(**ONE, max_tokens=8)  # type: ignore[arg-type]
        judge.classify(**ONE, allowed=["Yes", "No"], max_tokens=8)  # type: ignore[arg-type]
    chat = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
    assert server.post("/v1/chat/completions", chat).status_code == 200
    assert server.post("/v1/judge/pairwise", PAIR, key="sel_unknown").status_code == 401


def test_every_graph_of_the_judge_and_of_vllm_has_data(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        with scraping(tmp_path, server.url.removeprefix("http://"), server.key) as prometheus:
            # A rate needs two looks: a counter that appears with its first value does not rise in between.
            ask(server)
            prometheus.until("openselene_judgments_total")
            ask(server)
            time.sleep(3)
            assert empty(prometheus, "Judge") == []
            assert empty(prometheus, "vLLM") == []
            assert prometheus.jobs(board()) == ["judge"]
            assert prometheus.query('sum (rate(openselene_judgments_total{task="pairwise"}[60s]))')[0] > 0
    finally:
        server.stop()

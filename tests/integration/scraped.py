"""The metrics port of this process's Ray, as Prometheus would scrape it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import httpx


def scrape() -> str:
    """What every node of the cluster says now."""
    import ray

    pages = []
    for node in ray.nodes():
        if node["Alive"]:
            answer = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=10)
            pages.append(answer.raise_for_status().text)
    return "\n".join(pages)


def total(page: str, name: str, *labels: str) -> float:
    """Sum of the samples of a metric that have all these labels, each as `name="value"`."""
    found = re.findall(rf"^{name}(?:\{{([^}}]*)\}})? (\S+)$", page, re.MULTILINE)
    return sum(float(value) for own, value in found if all(label in own.split(",") for label in labels))


def until(there: Callable[[str], bool], seconds: float = 40) -> str:
    """The page once something is there: processes hand over their numbers every ten seconds. The last page if never."""
    end, page = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        try:
            page = scrape()
        except httpx.HTTPError:  # the node's agent starts after the node
            pass
        else:
            if there(page):
                break
        time.sleep(1)
    return page

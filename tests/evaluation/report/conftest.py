"""Pages of runs judged by rule, read as a browser would."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from pipelines.core.storage import write_json, write_text
from pipelines.evaluation.report import page as report
from pipelines.evaluation.scoring.results import Results, summarise
from tests.evaluation.asking.test_critique_check import checked_rows
from tests.evaluation.asking.test_prompt_formats import ORIGINAL, judge_formats
from tests.evaluation.conftest import base_and_trained, run_maker

LEDGER = {
    "total": {},
    "segments": {
        "ingest": {"s": {"in": 9, "ok": 8, "filtered": 0, "error": 1, "reasons": {"error:<b>json</b>": 1}}},
        "prepare": {
            "s": {"in": 5, "ok": 3, "filtered": 2, "error": 0, "reasons": {"filtered:duplicate": 2}},
            "t": {"in": 3, "ok": 2, "filtered": 1, "error": 0, "reasons": {"filtered:duplicate": 1}},
        },
    },
}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements, their attributes and the visible text; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


# Of a module: tests read them, and a page takes seconds.
@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Results, Page]:
    run = run_maker(tmp_path_factory.mktemp("written"))(base_and_trained(), sample=20)
    write_json(run.run.ledger, LEDGER)
    lines = [json.dumps({"step": n, "loss": 1 / n, "rewards/accuracies": 0.5, "note": "x"}) for n in (1, 2, 3)]
    write_text(run.run.training_log, "\n".join([*lines, '{"step": 4, "lo']))
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    path = report.write_report(found, run.judgments, run.run)
    assert path == run.run.report
    return run, found, Page(path.read_text())


@pytest.fixture(scope="module")
def in_formats(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Page]:
    two_models = base_and_trained()
    names = ["heldout_pairwise", "heldout_classification"]
    run = run_maker(tmp_path_factory.mktemp("formats"))(two_models, names, templates=ORIGINAL)
    formats = judge_formats(run, two_models, ["original", "markdown", "brackets"])
    rows = checked_rows(run.out / "checked", 400, 0.1, tpr=0.9, fpr=0.1)
    found = summarise(run.judgments, run.examples, run.config, 0, formats, {"trained": rows})
    return found, Page(report.write_report(found, run.judgments, run.run).read_text())

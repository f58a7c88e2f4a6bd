"""Records of experiments: written and read again, refused where they are not ours, shown on one inert page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.evaluation.report.plots import Point
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.index import LONGEST
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure

PLOT = "<svg><text>gain</text></svg>"


def experiment(name: str = "ablation", **changes: Any) -> Experiment:
    values = {
        "name": name,
        "title": "Single-source ablation",
        "question": "Which sources help?",
        "rule": "include where the gain is above 0",
        "settings": {"pairs": 64},
        "seeds": [0, 1],
        "figures": [Figure(name="accuracy gain", of="pandalm", value=0.05, ci_low=0.01, ci_high=0.09, n=200, p=0.012)],
        "decisions": [Decision(about="pandalm", verdict="include", why="its gain is above 0")],
        "cost": Cost(seconds=75, trials=2),
        **changes,
    }
    return Experiment.model_validate(values)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    run, one = Run(tmp_path), experiment()
    folder = record.write(run, one, [{"source": "a", "gain": 0.1}, {"source": "b", "p": 0.2}], PLOT)
    assert record.read(folder) == one and record.read_all(run) == [one]
    assert (folder / "table.csv").read_text() == "source,gain,p\na,0.1,\nb,,0.2\n"
    assert record.read_csv(folder / "table.csv")[0] == ["source", "gain", "p"]


def test_the_page_has_every_experiment_with_its_evidence(tmp_path: Path) -> None:
    run = Run(tmp_path)
    record.write(run, experiment("b"), [{"x": i} for i in range(LONGEST + 3)], PLOT)
    record.write(run, experiment("a", judge="stand-in", links={"page": "../a b.html"}), [], PLOT)
    page = Page((run.experiments / "index.html").read_text())
    text = " ".join(page.texts)
    assert page.links[:2] == ["#a", "#b"] and page.tags.count("section") == 2 and page.tags.count("svg") == 2
    assert "[0.01, 0.09]" in text and "its gain is above 0" in text and "1:15" in text and "3 more in the file" in text
    assert text.count("A stand-in judged here") == 1 and "a/../a%20b.html" in page.links


def test_texts_from_data_stay_texts(tmp_path: Path) -> None:
    run, bad = Run(tmp_path), "<script>alert(1)</script>"
    record.write(
        run,
        experiment(title=bad, notes=[bad], settings={"x": bad}, decisions=[Decision(about=bad, verdict=bad, why=bad)]),
        [{bad: bad}],
        PLOT,
    )
    page = Page((run.experiments / "index.html").read_text())
    assert "script" not in page.tags and bad in page.texts
    assert all(link.startswith(("#", "ablation/")) for link in page.links)


def test_what_is_not_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such experiment"):
        record.read(tmp_path)
    place = tmp_path / "experiment.json"
    place.write_text("[")
    with pytest.raises(UserError, match="is not JSON"):
        record.read(tmp_path)
    place.write_text('{"name": "x", "questoin": ""}')
    with pytest.raises(UserError, match="missing key 'title'"):
        record.read(tmp_path)


def test_a_forest_shows_each_series_and_the_line_of_no_effect() -> None:
    points = [Point(0.1, -0.1, 0.3), Point(None, None, None)]
    text = forest({"accuracy": {"alone": points, "left out": points}}, ["a <b>", "c"], "f")
    assert text.startswith("<svg") and "alone" in text and "left out" in text and "a &lt;b&gt;" in text
    assert text == forest({"accuracy": {"alone": points, "left out": points}}, ["a <b>", "c"], "f")


def test_a_table_has_no_formulas_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = Run(tmp_path)
    table = [{"of": "=1+1", "@gain": -0.5, "text": "-0.5"}, {"of": "'@x", "@gain": 0.1, "text": "a"}]
    folder = record.write(run, experiment(), table, PLOT)
    assert (folder / "table.csv").read_text() == "of,'@gain,text\n'=1+1,-0.5,-0.5\n''@x,0.1,a\n"
    assert record.read_csv(folder / "table.csv") == [
        ["of", "@gain", "text"],
        ["=1+1", "-0.5", "-0.5"],
        ["'@x", "0.1", "a"],
    ]


def test_a_record_that_is_withdrawn_is_in_no_index(tmp_path: Path) -> None:
    run = Run(tmp_path)
    record.withdraw(run, "ablation")
    assert not run.experiments.exists()
    folder = record.write(run, experiment(), [{"a": 1}], PLOT)
    (folder / "mine.txt").write_text("x")
    record.withdraw(run, "ablation")
    assert [one.name for one in folder.iterdir()] == ["mine.txt"] and record.read_all(run) == []
    assert "Single-source ablation" not in (run.experiments / "index.html").read_text()

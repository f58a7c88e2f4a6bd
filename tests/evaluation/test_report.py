"""The page: nothing from outside, nothing unescaped, everything that has to be there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipelines.evaluation import plots, report
from pipelines.evaluation.results import summarise
from pipelines.evaluation.summary import terminal_summary
from tests.evaluation.test_critique_check import checked_rows
from tests.evaluation.test_formats import ORIGINAL, judge_formats

EVIL = "</pre><script>alert('{{ 7 * 7 }}')</script><img src=x onerror=alert(1)> & \"quoted\" $\\frac{1}{0}$"
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


@pytest.fixture
def written(make_run: Callable, two_models: dict) -> tuple[Any, dict, Page]:
    run = make_run(two_models, sample=20)
    (run.out / "curated").mkdir()
    (run.out / "curated" / "ledger.json").write_text(json.dumps(LEDGER))
    (run.out / "train").mkdir()
    lines = [json.dumps({"step": n, "loss": 1 / n, "rewards/accuracies": 0.5, "note": "x"}) for n in (1, 2, 3)]
    (run.out / "train" / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "lo']))
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    path = report.write_report(found, run.judgments, run.out)
    assert path == run.out / "benchmark" / "report.html"
    return run, found, Page(path.read_text())


def test_any_two_of_three_models_stand_on_the_page(make_run: Callable, two_models: dict) -> None:
    run = make_run({**two_models, "third": two_models["base"]}, ["heldout_pairwise"])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    page = Page(report.write_report(found, run.judgments, run.out).read_text())
    (other,) = found["other_comparisons"]
    assert "third is worse than trained" in other["tasks"]["pairwise"]["sentence"]
    assert other["tasks"]["pairwise"]["sentence"] in page.text


def test_the_page_asks_nothing_of_the_network(written: tuple[Any, dict, Page]) -> None:
    _, _, page = written
    assert not [tag for tag, _ in page.elements if tag in {"script", "link", "img", "iframe", "object", "image"}]
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        style = attributes.get("style") or ""
        assert not re.search(r"url\((?!#)", style)
    text = (written[0].out / "benchmark" / "report.html").read_text()
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_page_shows_what_it_must(written: tuple[Any, dict, Page]) -> None:
    _, found, page = written
    for model, per in found["models"].items():
        for name, entry in per.items():
            assert f"{entry['value']:.3f}" in page.text
            assert f"[{entry['ci_low']:.3f}, {entry['ci_high']:.3f}]" in page.text
            assert f"{entry['parse_rate']:.1%}" in page.text
            assert name in page.text and model in page.text
    for entry in found["comparison"]["trained"]["tasks"].values():
        assert entry["sentence"] in page.text
    for words in ("sample of 20 of 30 rows", "No overall average", *found["settings"]["protocols"].values()):
        assert words in page.text
    # The headline, a reliability diagram of the pairs, the training and the funnel.
    assert sum(tag == "svg" for tag, _ in page.elements) == 4


def test_the_page_is_the_same_every_time(written: tuple[Any, dict, Page]) -> None:
    run, found, _ = written
    path = run.out / "benchmark" / "report.html"
    before = path.read_bytes()
    report.write_report(found, run.judgments, run.out)
    assert path.read_bytes() == before


def test_ids_are_unique_over_the_whole_page(written: tuple[Any, dict, Page]) -> None:
    ids = [attributes["id"] for _, attributes in written[2].elements if attributes.get("id")]
    assert len(ids) == len(set(ids)) > 20
    text = (written[0].out / "benchmark" / "report.html").read_text()
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', text)) <= set(ids)


def test_nine_examples_three_of_each_kind(written: tuple[Any, dict, Page]) -> None:
    run, _, page = written
    shown = report.examples(run.judgments, seed=0)
    assert [one["kind"] for one in shown] == ["right"] * 3 + ["wrong"] * 3 + ["unparsed"] * 3
    for one in shown:
        assert re.sub(r"\s+", " ", one["instruction"]) in page.text
        if one["kind"] != "unparsed":
            assert (one["predicted"] == one["gold"]) == (one["kind"] == "right")
        else:
            assert one["predicted"] is None
    assert len({one["benchmark"] for one in shown if one["kind"] == "right"}) == 3
    assert {one["model"] for one in shown if one["kind"] == "right"} == {"trained"}


def test_examples_missing_of_one_model_are_taken_from_the_other(make_run: Callable) -> None:
    run = make_run({"base": lambda row: "no idea", "trained": lambda row: f"Result: {row['gold']}"})
    shown = report.examples(run.judgments, seed=0)
    assert [(one["kind"], one["model"]) for one in shown] == [("right", "trained")] * 3 + [("unparsed", "base")] * 3


def test_long_texts_are_cut_and_say_so(make_run: Callable) -> None:
    run = make_run({"base": lambda row: "x" * 10_000}, ["heldout_absolute"])
    raw = report.examples(run.judgments, seed=0)[0]["raw"]
    assert len(raw) < 3000
    assert raw.endswith("(10,000 characters)")


def test_hostile_texts_are_shown_as_text(make_run: Callable, write_benchmark: Callable) -> None:
    record = {"q": EVIL, "a": EVIL, "b": EVIL, "r": EVIL, "label": "A", "kind": EVIL}
    path = write_benchmark(
        [record, {**record, "q": "x"}],
        about=EVIL,
        notes=EVIL,
        license=EVIL,
        fields={
            "instruction": "record.q",
            "context": "record.r",
            "responses": "[record.a, record.b]",
            "rubric": "record.r",
            "reference": "record.r",
            "verdict": "record.label",
        },
        extra={"subset": "record.kind"},
    )
    model = "<script>m</script>$x$"
    rules = {model: lambda row: f"{EVIL}\nResult: A", "other": lambda row: EVIL}
    run = make_run(rules, [path])
    formats = judge_formats(run, rules, ["original", "json"])
    checked = checked_rows(run.out / "checked", 40, 0.1, tpr=0.9, fpr=0.1)
    found = summarise(run.judgments, run.examples, run.config, 0, formats, {model: checked})
    shown = report.examples(run.judgments, seed=0)
    page = Page(report.render_report(found, shown, [], LEDGER))
    assert {tag for tag, _ in page.elements} & {"script", "img"} == set()
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert('{{ 7 * 7 }}')</script>") >= 20
    assert page.text.count(model) >= 12  # in every table, and in the plots of formats and calibration
    assert "error:<b>json</b>" in page.text


def test_the_authors_own_figures_have_a_table(written: tuple[Any, dict, Page]) -> None:
    _, found, page = written
    assert "By the authors' own rules" not in page.text  # no benchmark of the sample has any
    entry = found["models"]["trained"]["heldout_pairwise"]
    entry["sections"] = {"Chat": {"n": 1234, "value": 0.512, "ci_low": 0.402, "ci_high": 0.613}}
    entry["authors"] = {"agreement": 0.251, "balanced_accuracy": {"<b>wice": 0.731, "empty": None}}
    entry["balanced"] = {"n": 1056, "accuracy": 0.667, "balanced_accuracy": 0.668, "kappa": 0.334, "macro_f1": 0.6}
    shown = Page(report.render_report(found, [], [], None)).text
    for words in (
        "section Chat – 0.512 [0.402, 0.613] n = 1,234",
        "authors: agreement – 0.251",
        "authors: balanced accuracy, <b>wice – 0.731",
        "authors: balanced accuracy, empty – –",
        "balanced rows: kappa – 0.334 n = 1,056",
    ):
        assert words in shown


@pytest.fixture
def in_formats(make_run: Callable, two_models: dict) -> tuple[dict, Page]:
    run = make_run(two_models, ["heldout_pairwise", "heldout_classification"], templates=ORIGINAL)
    formats = judge_formats(run, two_models, ["original", "markdown", "brackets"])
    rows = checked_rows(run.out / "checked", 400, 0.1, tpr=0.9, fpr=0.1)
    found = summarise(run.judgments, run.examples, run.config, 0, formats, {"trained": rows})
    return found, Page(report.write_report(found, run.judgments, run.out).read_text())


def test_the_formats_stand_beside_each_other_with_spread_and_worst_case(in_formats: tuple[dict, Page]) -> None:
    found, page = in_formats
    assert "Prompt formats" in page.text and "brackets (ours)" in page.text
    for per in found["robustness"].values():
        entry = per["heldout_pairwise"]
        for one in entry["formats"].values():
            assert f"{one['value']:.3f} [{one['ci_low']:.3f}, {one['ci_high']:.3f}]" in page.text
        assert f"{entry['spread']:.3f}" in page.text
        assert f"{entry['worst_value']:.3f} {entry['worst']}" in page.text
    against = found["robustness"]["trained"]["heldout_pairwise"]["formats"]["markdown"]["against"]
    assert f"{against['difference']:+.3f} [{against['ci_low']:+.3f}, {against['ci_high']:+.3f}]" in page.text


def test_the_terminal_names_the_best_and_the_worst_format(in_formats: tuple[dict, Page], tmp_path: Path) -> None:
    found, _ = in_formats
    entry = found["robustness"]["trained"]["heldout_pairwise"]
    best = entry["formats"][entry["best"]]["value"]
    ends = f"{best:.2f} ({entry['best']}) to {entry['worst_value']:.2f} ({entry['worst']})"
    text = terminal_summary(found, tmp_path, tmp_path / "report.html")
    assert f"heldout_pairwise: trained in 3 prompt formats: {ends}" in text


def test_biases_calibration_and_critiques_are_shown(in_formats: tuple[dict, Page]) -> None:
    found, page = in_formats
    for per in found["bias"].values():
        place, length = (per["heldout_pairwise"][name] for name in ("position", "length"))
        for one in (place["primacy"], place["recency"]):
            assert f"{report.figure(one['value'])} {report.interval(one)}" in page.text
        assert f"{length['difference']['value']:+.3f}" in page.text
    assert "Self-preference is not available for heldout_pairwise" in page.text
    for per in found["models"].values():
        assert f"{per['heldout_pairwise']['calibration']['ece']:.3f}" in page.text
    everything = found["critiques"]["trained"]["all"]
    assert f"{everything['rate']:.1%}" in page.text and f"{everything['corrected']:.1%}" in page.text
    # The headline, one benchmark in formats, and a reliability diagram of the pairs.
    assert sum(tag == "svg" for tag, _ in page.elements) == 3


def test_ids_are_unique_with_all_sections_too(in_formats: tuple[dict, Page]) -> None:
    ids = [attributes["id"] for _, attributes in in_formats[1].elements if attributes.get("id")]
    assert len(ids) == len(set(ids)) > 20


def test_without_formats_and_checks_their_sections_are_not_there(written: tuple[Any, dict, Page]) -> None:
    assert "Prompt formats" not in written[2].text
    assert "Do the critiques support" not in written[2].text


def test_a_run_of_one_model_without_curation_and_training(make_run: Callable, two_models: dict) -> None:
    run = make_run({"base": two_models["base"]}, ["heldout_classification"])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    page = Page(report.write_report(found, run.judgments, run.out).read_text())
    assert sum(tag == "svg" for tag, _ in page.elements) == 1
    assert "From raw rows to pairs" not in page.text
    assert "Order of the two responses" not in page.text


def test_figures_that_are_not_there_are_dashes(make_run: Callable, write_benchmark: Callable) -> None:
    path = write_benchmark([{"q": "x", "a": "1", "b": "2", "label": "A"}])
    run = make_run({"base": lambda row: "?", "trained": lambda row: None}, [path])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    page = Page(report.write_report(found, run.judgments, run.out).read_text())
    assert "no interval" in page.text
    assert "None" not in page.text and "nan" not in page.text
    terminal_summary(found, run.out, run.out / "report.html")


def test_the_funnel_adds_up_over_sources() -> None:
    assert report.funnel_stages(LEDGER) == [("rows read", 9), ("after ingest", 8), ("after prepare", 5)]
    assert report.reasons(LEDGER)[1:] == [("prepare", "filtered:duplicate", 3)]
    assert report.funnel_stages(None) == [] and report.reasons(None) == []


def test_a_training_log_with_a_broken_line_is_still_drawn(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\nnot json\n[1]\n{"loss": 3}\n{"step": 2, "loss": null, "loss_dpo": 1}\n')
    steps, panels = report.training_panels(report.training_log(path)) or ([], {})
    assert steps == [1, 2]
    assert panels == {"loss": {"loss": [2.0, None], "loss_dpo": [None, 1]}}
    assert report.training_panels([]) is None
    assert report.training_log(tmp_path / "none") == []


def test_a_name_in_a_plot_is_not_a_formula() -> None:
    point = {"value": 0.5, "low": 0.4, "high": 0.6}
    text = plots.headline(["a & b"], {"$x$ <1>": [point], "$\\frac$": [point]}, [None])
    assert "$x$ &lt;1&gt;" in text and "$\\frac$" in text and "a &amp; b" in text


def test_plots_take_the_colour_of_the_page() -> None:
    text = plots.funnel([("rows read", 10), ("after x", 4)])
    assert text.startswith("<svg") and "currentColor" in text
    assert "rows read" in text and "#000000" not in text.split("<defs>")[0]


def test_the_terminal_summary_fits_a_screen_and_ends_with_the_places(written: tuple[Any, dict, Page]) -> None:
    run, found, _ = written
    (run.out / "model").mkdir()
    path = run.out / "benchmark" / "report.html"
    lines = terminal_summary(found, run.out, path).splitlines()
    assert len(lines) <= 24
    assert lines[-3:] == [
        f"curated set: {run.out / 'curated'}",
        f"model: {run.out / 'model'}",
        f"report: {path}",
    ]
    assert max(len(line) for line in lines[:-3] if "interval" not in line) <= 100
    text = "\n".join(lines)
    for per in found["models"].values():
        for name, entry in per.items():
            assert f"{name}*" in text
            assert f"{entry['value']:.2f} ({entry['ci_low']:.2f}, {entry['ci_high']:.2f})" in text
    assert "a part of the benchmark only" in text


def test_the_terminal_summary_says_what_is_not_there(make_run: Callable, two_models: dict) -> None:
    run = make_run({"[red]m[/red]": two_models["base"]}, ["heldout_absolute"])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    text = terminal_summary(found, run.out, run.out / "nowhere.html")
    assert "[red]m[/red]" in text
    assert text.splitlines()[-3:] == ["curated set: none yet", "model: none yet", "report: none yet"]

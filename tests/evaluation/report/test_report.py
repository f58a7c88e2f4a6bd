"""The page: nothing from outside, nothing unescaped, everything that has to be there."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.evaluation.report import page as report
from pipelines.evaluation.report import plots, tables
from pipelines.evaluation.report.samples import samples
from pipelines.evaluation.report.terminal import terminal_summary
from pipelines.evaluation.scoring.calibration import Bin
from pipelines.evaluation.scoring.results import Results, summarise
from tests.evaluation.asking.test_critique_check import checked_rows
from tests.evaluation.asking.test_prompt_formats import judge_formats
from tests.evaluation.report.conftest import LEDGER, Page

EVIL = "</pre><script>alert('{{ 7 * 7 }}')</script><img src=x onerror=alert(1)> & \"quoted\" $\\frac{1}{0}$"


def test_any_two_of_three_models_stand_on_the_page(make_run: Callable, two_models: dict) -> None:
    run = make_run({**two_models, "third": two_models["base"]}, ["heldout_pairwise"])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    page = Page(report.write_report(found, run.judgments, run.run).read_text())
    (other,) = found.other_comparisons
    assert "third scores lower than trained" in other.tasks["pairwise"].sentence
    assert other.tasks["pairwise"].sentence in page.text


def test_the_page_asks_nothing_of_the_network(written: tuple[Any, Results, Page]) -> None:
    _, _, page = written
    assert not [tag for tag, _ in page.elements if tag in {"script", "link", "img", "iframe", "object", "image"}]
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        style = attributes.get("style") or ""
        assert not re.search(r"url\((?!#)", style)
    text = (written[0].run.report).read_text()
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_page_shows_what_it_must(written: tuple[Any, Results, Page]) -> None:
    _, found, page = written
    for model, per in found.models.items():
        for name, entry in per.items():
            assert f"{entry.value:.3f}" in page.text
            interval = f"[{entry.ci_low:.3f}, {entry.ci_high:.3f}]" if entry.ci_low is not None else entry.no_interval
            assert interval and interval in page.text
            assert f"{entry.parse_rate:.1%}" in page.text
            assert name in page.text and model in page.text
    for entry in found.comparison["trained"].tasks.values():
        assert entry.sentence in page.text
    for words in ("sample of 20 of 60 rows", "No overall average", *found.settings.protocols.values()):
        assert words in page.text
    # The headline, a reliability diagram of the pairs, the training and the funnel.
    assert sum(tag == "svg" for tag, _ in page.elements) == 5


def test_the_page_is_the_same_every_time(written: tuple[Any, Results, Page]) -> None:
    run, found, _ = written
    path = run.run.report
    before = path.read_bytes()
    report.write_report(found, run.judgments, run.run)
    assert path.read_bytes() == before


def test_ids_are_unique_over_the_whole_page(written: tuple[Any, Results, Page]) -> None:
    ids = [attributes["id"] for _, attributes in written[2].elements if attributes.get("id")]
    assert len(ids) == len(set(ids)) > 20
    text = (written[0].run.report).read_text()
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', text)) <= set(ids)


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
    shown = samples(run.judgments, seed=0)
    page = Page(report.render_report(found, shown, [], LEDGER))
    assert {tag for tag, _ in page.elements} & {"script", "img"} == set()
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert('{{ 7 * 7 }}')</script>") >= 20
    assert page.text.count(model) >= 12  # in every table, and in the plots of formats and calibration
    assert "error:<b>json</b>" in page.text


def test_the_authors_own_figures_have_a_table(written: tuple[Any, Results, Page]) -> None:
    _, found, page = written
    assert "Official metrics" not in page.text  # no benchmark of the sample has any
    changed = found.to_json()
    entry = changed["models"]["trained"]["heldout_pairwise"]
    entry["sections"] = {"Chat": {"n": 1234, "value": 0.512, "ci_low": 0.402, "ci_high": 0.613}}
    entry["authors"] = {"agreement": 0.251, "balanced_accuracy": {"<b>wice": 0.731, "empty": None}}
    entry["balanced"] = {"n": 1056, "accuracy": 0.667, "balanced_accuracy": 0.668, "kappa": 0.334, "macro_f1": 0.6}
    shown = Page(report.render_report(Results.from_json(changed), [], [], None)).text
    for words in (
        "section Chat – 0.512 [0.402, 0.613] n = 1,234",
        "authors: agreement – 0.251",
        "authors: balanced accuracy, <b>wice – 0.731",
        "authors: balanced accuracy, empty – –",
        "balanced rows: kappa – 0.334 n = 1,056",
    ):
        assert words in shown


def test_the_formats_stand_beside_each_other_with_spread_and_worst_case(in_formats: tuple[Results, Page]) -> None:
    found, page = in_formats
    assert "Prompt formats" in page.text and "brackets (ours)" in page.text
    for per in found.robustness.values():
        entry = per["heldout_pairwise"]
        for one in entry.formats.values():
            assert f"{one.value:.3f} [{one.ci_low:.3f}, {one.ci_high:.3f}]" in page.text
        assert f"{entry.spread:.3f}" in page.text
        assert f"{entry.worst_value:.3f} {entry.worst}" in page.text
    against = found.robustness["trained"]["heldout_pairwise"].formats["markdown"].against
    assert f"{against.difference:+.3f} [{against.ci_low:+.3f}, {against.ci_high:+.3f}]" in page.text


def test_biases_calibration_and_critiques_are_shown(in_formats: tuple[Results, Page]) -> None:
    found, page = in_formats
    for per in found.bias.values():
        place, length = per["heldout_pairwise"].position, per["heldout_pairwise"].length
        assert place and length
        for one in (place.primacy, place.recency):
            assert f"{report.figure(one.value)} {report.interval(one)}" in page.text
        assert report.figure(length.difference.value, True) in page.text
    assert "Self-preference is not available for heldout_pairwise" in page.text
    for per in found.models.values():
        assert f"{per['heldout_pairwise'].calibration.ece:.3f}" in page.text
    everything = found.critiques["trained"].all
    assert f"{everything.rate:.1%}" in page.text and f"{everything.corrected:.1%}" in page.text
    # The headline, one benchmark in formats, and a reliability diagram of the pairs.
    assert sum(tag == "svg" for tag, _ in page.elements) == 3


def test_ids_are_unique_with_all_sections_too(in_formats: tuple[Results, Page]) -> None:
    ids = [attributes["id"] for _, attributes in in_formats[1].elements if attributes.get("id")]
    assert len(ids) == len(set(ids)) > 20


def test_without_formats_and_checks_their_sections_are_not_there(written: tuple[Any, Results, Page]) -> None:
    assert "Prompt formats" not in written[2].text
    assert "Do the critiques support" not in written[2].text


def test_a_run_of_one_model_without_curation_and_training(make_run: Callable, two_models: dict) -> None:
    run = make_run({"base": two_models["base"]}, ["heldout_classification"])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    page = Page(report.write_report(found, run.judgments, run.run).read_text())
    assert sum(tag == "svg" for tag, _ in page.elements) == 1
    assert "From raw rows to pairs" not in page.text
    assert "Order of the two responses" not in page.text


def test_figures_that_are_not_there_are_dashes(make_run: Callable, write_benchmark: Callable) -> None:
    path = write_benchmark([{"q": "x", "a": "1", "b": "2", "label": "A"}])
    run = make_run({"base": lambda row: "?", "trained": lambda row: None}, [path])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    page = Page(report.write_report(found, run.judgments, run.run).read_text())
    assert "no interval" in page.text
    assert "None" not in page.text and "nan" not in page.text
    terminal_summary(found, run.run, run.run.report)


def test_correlations_have_a_chart_and_a_chance_line_of_their_own(
    written: tuple[Any, Results, Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written[1]
    drawn: dict[str, Any] = {}

    def headline(labels: Any, models: Any, baseline: Any, name: str, axis: str) -> str:
        drawn[axis] = (labels, models, baseline)
        return name

    monkeypatch.setattr(plots, "headline", headline)
    assert report.headline_plots(found) == ["headline0", "headline1"]
    first = found.models["base"]
    assert drawn["accuracy"][0] == ["heldout_pairwise*", "heldout_classification*"]
    assert drawn["accuracy"][2] == [first[name].baseline for name in ("heldout_pairwise", "heldout_classification")]
    assert (drawn["pearson"][0], drawn["pearson"][2]) == (["heldout_absolute*"], [0.0])
    entry = first["heldout_absolute"]
    assert drawn["pearson"][1]["base"] == [(entry.value, entry.ci_low, entry.ci_high)]


def test_a_judge_that_was_never_read_says_so_in_its_cell(make_run: Callable) -> None:
    run = make_run({"base": lambda row: "I like A.\n\nBut who knows?", "trained": lambda row: "Result: A"})
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    text = Page(report.write_report(found, run.judgments, run.run).read_text()).text
    assert "0.000 0% of its verdicts could be read" in text
    assert "A packaged sample , not a benchmark: heldout_pairwise, heldout_absolute, heldout_classification" in text
    assert text.index("A packaged sample") < text.index("trained against base")
    assert "How unread answers end" in text
    assert "heldout_pairwise 1 base 120 of 120 unread But who knows?" in text
    assert "better" not in text[: text.index("Benchmarks")]


PREFERS = {"available": True, "n": 40, "difference": {"value": 0.125, "ci_low": 0.025, "ci_high": 0.225}}


def test_self_preference_is_shown_where_it_is_known_and_its_reason_where_no_model_s_is(
    written: tuple[Any, Results, Page],
) -> None:
    changed = written[1].to_json()
    of_pairs = PREFERS | {"chosen": 0.625, "right": 0.5, "own_over_better": 0.25, "other_over_better": 0.125}
    of_scores = PREFERS | {"others": 60}
    changed["bias"]["trained"]["heldout_pairwise"]["self_preference"] = of_pairs
    text = Page(report.render_report(Results.from_json(changed), [], [], None)).text
    sentence = (
        "trained on heldout_pairwise: chooses its own response in 62.5% of 40 judgments, and it is right in 50.0%; "
        "wrongly its own in 25.0% of those where the other is right, wrongly the other in 12.5% of those where its own "
        "is"
    )
    assert f"{sentence}: +0.125 [+0.025, +0.225]." in text
    assert "base on heldout_pairwise: chooses" not in text
    reason = changed["bias"]["base"]["heldout_absolute"]["self_preference"]["why"]
    assert f"Self-preference is not available for heldout_absolute: {reason}." in text
    changed["bias"]["base"]["heldout_absolute"]["self_preference"] = of_scores
    text = Page(report.render_report(Results.from_json(changed), [], [], None)).text
    assert (
        "base on heldout_absolute: scores of its own 40 responses against those of 60 others with the same gold score: "
        "+0.125 [+0.025, +0.225]."
    ) in text
    assert "Self-preference is not available" not in text


def test_a_difference_is_coloured_only_where_it_is_more_than_chance(written: tuple[Any, Results, Page]) -> None:
    changed = written[1].to_json()
    differences = changed["comparison"]["trained"]["benchmarks"]
    for entry, shown in zip(differences.values(), ("higher", "lower", ""), strict=True):
        entry |= {"ci_low": 0.001, "ci_high": 0.3, "shown": shown}
    page = Page(report.render_report(Results.from_json(changed), [], [], None))
    classes = [attributes.get("class") for tag, attributes in page.elements if tag == "td"]
    assert (classes.count("better"), classes.count("worse"), classes.count("")) == (1, 1, 1)


def test_numbers_and_dashes() -> None:
    assert [report.figure(value) for value in (None, 0.0, -0.12345)] == ["–", "0.000", "-0.123"]
    assert [report.figure(value, True) for value in (None, 0.5)] == ["–", "+0.500"]
    none, some = (SimpleNamespace(ci_low=low, ci_high=high) for low, high in ((None, None), (-0.1, 0.25)))
    assert report.interval(none) == "no interval"
    assert (report.interval(some), report.interval(some, True)) == ("[-0.100, 0.250]", "[-0.100, +0.250]")


def test_the_share_right_weighs_bins_by_their_judgments() -> None:
    bins = [
        Bin(low=0, high=0.1, n=1, confidence=0.05, accuracy=1.0),
        Bin(low=0.9, high=1, n=3, confidence=1, accuracy=0),
    ]
    assert tables.share_right(bins) == 0.25
    assert tables.share_right([]) is None

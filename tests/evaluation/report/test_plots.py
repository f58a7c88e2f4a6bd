"""Plots: names as they are, the colours of the page, baselines."""

from __future__ import annotations

from pipelines.evaluation.report import plots


def test_a_name_in_a_plot_is_not_a_formula() -> None:
    point = plots.Point(0.5, 0.4, 0.6)
    text = plots.headline(["a & b"], {"$x$ <1>": [point], "$\\frac$": [point]}, [None])
    assert "$x$ &lt;1&gt;" in text and "$\\frac$" in text and "a &amp; b" in text


def test_plots_take_the_colour_of_the_page() -> None:
    text = plots.funnel([("rows read", 10), ("after x", 4)])
    assert text.startswith("<svg") and "currentColor" in text
    assert "rows read" in text and "#000000" not in text.split("<defs>")[0]


def test_a_baseline_is_a_line_of_its_own_row_and_named_once() -> None:
    points = {"m": [plots.Point(0.5, 0.4, 0.6)] * 3}
    plain, one, two = (
        plots.headline(list("abc"), points, line) for line in ([None] * 3, [None, 0.7, None], [0.7, 0.2, None])
    )
    lines = [text.count("stroke-dasharray") for text in (plain, one, two)]
    assert lines[1] > lines[0] and lines[2] == lines[1] + 1  # the legend has a line too
    assert [text.count("one verdict everywhere") for text in (plain, one, two)] == [0, 1, 1]

"""The audit of critiques: the sample, measures known by hand, people's answers and their agreement, what follows."""

from __future__ import annotations

import asyncio
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.engines.llm.ask import Answer
from pipelines.experiments.audit import findings, job
from pipelines.experiments.audit.agreement import Kappa, agreement, alpha, kappas, said_of, units
from pipelines.experiments.audit.answers import Answers
from pipelines.experiments.audit.blind import ArguedSide
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.audit.measures import grounding, jaccard, measure, plain, states, style_leak
from pipelines.experiments.audit.sample import as_shown, draw, for_people, identity, shown_order
from pipelines.experiments.records import record
from pipelines.experiments.records.record import Cost, Experiment, Figure
from tests.experiments.audit_rows import pair, write

NO_CHECKER = AuditConfig(blind=False)


def given(side: str = "A", substance: str = "4", better: str = "1") -> dict[str, str]:
    return {"side_1": side, "side_2": side, "substance_1": substance, "substance_2": substance, "better": better}


def test_the_sample_is_drawn_by_hash_from_pairs_with_critiques(tmp_path: Path) -> None:
    rows = [pair(n, format="judgment_only" if n % 2 else "cot") for n in range(30)]
    write(tmp_path, rows)
    run = Run(tmp_path)
    some = job.drawn(run, AuditConfig(rows=5))
    more = job.drawn(run, AuditConfig(rows=10))
    ids = {row["row_id"] for row in some}
    assert len(some) == 5 and len(more) == 10 and ids < {row["row_id"] for row in more}
    assert all(int(row["row_id"][-3:]) % 2 == 0 for row in more)
    few, many = for_people(more, 3, 0), for_people(more, 6, 0)
    assert [row["row_id"] for row in many[:3]] == [row["row_id"] for row in few]
    assert job.drawn(replace(run, seed=1), AuditConfig(rows=5)) != some
    assert identity(replace(run, seed=1)) != identity(run) == identity(Run(tmp_path))


def test_without_critiques_there_is_nothing_to_audit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no curated pairs to audit"):
        job.validate(Run(tmp_path), NO_CHECKER)
    write(tmp_path, [pair(0, format="judgment_only")])
    with pytest.raises(UserError, match="no pair has critiques"):
        draw(Run(tmp_path), 5, tmp_path / "work")


def test_a_pair_as_people_see_it_does_not_say_which_critique_is_which() -> None:
    rows = [pair(n) for n in range(60)]
    shown = [as_shown(row, 0) for row in rows]
    assert set(shown[0]) == {
        *("id", "task", "instruction", "context", "responses", "reference", "rubric", "allowed", "critiques"),
    }
    first = sum(one["critiques"][0] == row["chosen_critique"] for one, row in zip(shown, rows, strict=True))
    assert 15 < first < 45


def test_measures_are_those_known_by_hand() -> None:
    lines = {(line["row_id"], line["side"]): line for line in measure([pair(0), pair(1)])}
    chosen, rejected = lines["row-000", "chosen"], lines["row-000", "rejected"]
    assert chosen["words"] == 14 and rejected["words"] == 9
    assert chosen["quotes"] and not rejected["quotes"]
    assert rejected["grounded"] == 0.0 and rejected["form"] == 1.0
    # naming, apples, ripen, late, autumn, right, case, 0, shows: four of these are the response's
    assert chosen["grounded"] == pytest.approx(4 / 9)
    assert 0 < chosen["form"] < 1 and chosen["overlap"] == rejected["overlap"] == 0.0
    assert not chosen["states_verdict"]


def test_a_stated_verdict_is_seen_and_its_words_count_for_nothing() -> None:
    said = "It names a fruit.\n"
    row = pair(0, chosen_critique=f"{said}Response A is better.", rejected_critique=f"{said}B is better")
    chosen, rejected = measure([row])
    assert chosen["states_verdict"] and rejected["states_verdict"]
    other, _ = measure([pair(0, chosen_critique=f"{said}Response B is better.")])
    assert not other["states_verdict"]
    assert chosen["overlap"] == 1.0
    assert "response a" not in plain("Response A is better, a score of 4.").lower() and "4" not in plain("a score of 4")
    assert jaccard(frozenset(), frozenset()) == 1.0


@pytest.mark.parametrize(
    ("task", "verdict", "text", "expected"),
    [
        ("pairwise", "A", "In all, answer A reads as the stronger one. It is short.", True),
        ("pairwise", "A", "The better response is A.", True),
        ("pairwise", "A", "A fruit is named, and that is better than a stone.", False),
        ("absolute", "4", "It earns a score of 4 for that.", True),
        ("absolute", "4", "I give 4 out of 5.", True),
        ("absolute", "4", "It has 4 lines.", False),
        ("classification", "No", "No, the claim is not there.", True),
        ("classification", "No", "There is no such claim.", False),
    ],
)
def test_a_verdict_in_a_sentence_is_told_from_the_same_word_elsewhere(
    task: str, verdict: str, text: str, expected: bool
) -> None:
    allowed = {"pairwise": ["A", "B"], "absolute": ["1", "2", "3", "4", "5"], "classification": ["Yes", "No"]}[task]
    assert states(text, {"task": task, "allowed": allowed}, verdict) is expected


def test_a_critique_without_content_has_no_share() -> None:
    assert grounding("", pair(0)) == {"grounded": None, "quotes": False}


def test_a_style_that_tells_the_side_is_found_and_its_absence_too() -> None:
    rows = [pair(n) for n in range(40)]
    told = style_leak(rows, 0)
    assert told["auc"] > 0.95 and told["low"] > 0.5
    draw = np.random.default_rng(0)
    words = ["clear", "wrong", "short", "good", "odd", "long", "plain", "full"]
    same = [
        pair(n, **{f"{side}_critique": " ".join(draw.choice(words, 12)) for side in ("chosen", "rejected")})
        for n in range(60)
    ]
    free = style_leak(same, 0)
    assert free["low"] < 0.5 < free["high"]
    assert style_leak(rows[:5], 0) == {"auc": None, "low": None, "high": None, "n": 10}


def test_the_checker_is_asked_without_the_verdict_and_its_answer_is_kept() -> None:
    prompts: list[str] = []

    async def ask(prompt: str, **settings: Any) -> Answer:
        prompts.append(prompt)
        assert settings["choices"] == ["A", "B"]
        return Answer("B", 7, 1, 0.1)

    row = pair(0, context=None, reference=None, rubric=None)
    asyncio.run(ArguedSide().run(row, ask))
    assert (row["chosen_argued"], row["rejected_argued"], row["blind_tokens"]) == ("B", "B", 16)
    assert row["chosen_critique"] in prompts[0] and row["rejected_critique"] in prompts[1]
    lines = [job.with_checker(line, row) for line in measure([row])]
    assert [line["blind"] for line in lines] == [False, True]
    failed = {**row, "chosen_argued": None, "rejected_argued": None}
    assert [job.with_checker(line, failed)["blind"] for line in measure([row])] == [None, None]


def test_answers_are_replaced_by_later_ones_and_kept_for_each_annotator(tmp_path: Path) -> None:
    place = tmp_path / "answers.sqlite"
    answers = Answers(place, "f")
    answers.save("Ann", "row-1", given(), 3.5)
    answers.save("Ann", "row-1", given(substance="2"), 1.0)
    answers.save("Bo", "row-1", given(better="equal"), 2.0)
    assert answers.of("Ann") == {"row-1": given(substance="2")} and answers.of("Cy") == {}
    answers.close()
    again = Answers(place, "f")
    assert [(line["annotator"], line["better"]) for line in again.table()] == [("Ann", "1"), ("Bo", "equal")]
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == ["answers.sqlite"]
    with pytest.raises(UserError, match="holds answers about other pairs"):
        Answers(place, "g")


def lines_of(answers: dict[str, list[str]], question: str) -> list[dict[str, Any]]:
    return [
        {"annotator": name, "pair": f"p{place}", question: value}
        for name, values in answers.items()
        for place, value in enumerate(values)
        if value
    ]


def test_alpha_is_that_of_krippendorff_s_own_example() -> None:
    # Krippendorff (2011), "Computing Krippendorff's alpha-reliability", the example with missing data.
    data = np.array(
        [
            [np.nan] * 5 + [3, 4, 1, 2, 1, 1, 3, 3, np.nan, 3],
            [1, np.nan, 2, 1, 3, 3, 4, 3] + [np.nan] * 7,
            [np.nan, np.nan, 2, 1, 3, 4, 4, np.nan, 2, 1, 1, 3, 3, np.nan, 4],
        ]
    )
    assert alpha(data, ordered=False) == pytest.approx(0.691, abs=5e-4)
    assert alpha(data, ordered=True) == pytest.approx(0.807, abs=5e-4)
    assert alpha(np.array([[1.0, 1.0], [1.0, 1.0]]), ordered=False) is None


def test_agreement_counts_what_two_or_more_have_answered() -> None:
    table = lines_of({"Ann": ["1", "2", "1", "equal"], "Bo": ["1", "2", "2", ""]}, "better")
    found = {one.question: one for one in agreement(table, 0)}["which is better"]
    assert (found.units, found.annotators, found.kappa) == (3, 2, [])
    assert found.same == pytest.approx(2 / 3)
    assert found.low is not None and found.alpha is not None and found.low <= found.alpha
    both = units([{"annotator": "Ann", "pair": "p", **given()}], "side")
    assert both == {"p side_1": {"Ann": "A"}, "p side_2": {"Ann": "A"}}
    assert [one.alpha for one in agreement([], 0)] == [None, None, None]


def test_kappa_needs_ten_common_units_and_some_variety() -> None:
    draw = np.random.default_rng(0)
    one = draw.integers(0, 2, 12).astype(float)
    assert kappas(["a", "b"], np.array([one, one]), ordered=False) == [Kappa(annotators=("a", "b"), kappa=1.0)]
    assert kappas(["a", "b"], np.array([one[:9], one[:9]]), ordered=False) == []
    assert kappas(["a", "b"], np.zeros((2, 12)), ordered=False) == []
    commas = kappas(["a", "a, b", "b, c", "c"], np.array([one] * 4), ordered=False)
    assert len({two.annotators for two in commas}) == 6


def test_what_people_say_of_a_place_is_said_of_the_side_that_stood_there() -> None:
    rows = {row["row_id"]: row for row in (pair(n) for n in range(8))}
    right = {"chosen": "A", "rejected": "B"}
    table = []
    for name, row in rows.items():
        first, second = shown_order(row, 0)
        values = {"side_1": right[first], "side_2": right[second], "substance_1": "5", "substance_2": "1"}
        table.append({"annotator": "Ann", "pair": name, **values, "better": "1" if first == "chosen" else "2"})
    said = said_of(table, rows, 0)
    assert all(line["recovered"] for line in said)
    chosen, rejected = findings.people_by_side(said)
    assert (chosen["preferred"], rejected["preferred"], chosen["answers"]) == (1.0, 0.0, 8)
    assert said_of([{"annotator": "x", "pair": "gone"}], rows, 0) == []


def test_differences_are_paired_within_a_row() -> None:
    lines = measure([pair(n) for n in range(10)])
    found = {one["measure"]: one for one in findings.by_side(lines)}
    words = found["words"]
    assert words["difference"] == words["chosen"] - words["rejected"] and words["low"] > 0
    assert found["overlap"]["difference"] is None and "blind" not in found


def test_measures_are_correlated_with_gains_of_four_sources_or_more(tmp_path: Path) -> None:
    sources: dict[str, dict[str, float | None]] = {f"s{n}": {"words": float(n), "form": 1.0} for n in range(6)}
    gains = {f"s{n}": n * n / 100 for n in range(6)}
    found = findings.with_gain(sources, gains)
    assert found["words"]["rho"] == pytest.approx(1.0) and found["words"]["p"] < 0.05 and found["words"]["n"] == 6
    assert found["form"]["rho"] is None
    assert findings.with_gain(sources, {"s0": 1.0, "s1": 2.0, "s2": 3.0}) == {}
    assert findings.spearman(pd.Series(range(40)), pd.Series(range(40)))["p"] < 1e-6


def test_gains_are_read_from_the_record_of_an_experiment(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert findings.gains_of(run, AuditConfig()) == {}
    assert findings.gains_of(run, AuditConfig(gains={"s": 0.5})) == {"s": 0.5}
    figures = [Figure(name="mean gain, alone", of="s", value=0.25), Figure(name="gain, alone", of="s", value=0.75)]
    figures += [Figure(name="accuracy", of="s", value=9.0), Figure(name="mean gain, alone", of="t", value=None)]
    fixed: dict[str, Any] = {"title": "t", "question": "q", "rule": "r", "settings": {}, "seeds": [0], "decisions": []}
    record.write(run, Experiment(name="ablation", figures=figures, cost=Cost(seconds=1), **fixed), [], "<svg></svg>")
    assert findings.gains_of(run, AuditConfig()) == {"s": 0.25}
    assert findings.gains_of(run, AuditConfig(gains_named="gain")) == {"s": 0.5}


def test_the_products_without_a_checker_and_with_answers_that_come_later(tmp_path: Path) -> None:
    rows = [pair(n, chosen_critique="<img src=x onerror=alert(1)> the figs" if n == 0 else None) for n in range(25)]
    rows = [row if row["chosen_critique"] else pair(n) for n, row in enumerate(rows)]
    write(tmp_path, rows)
    run, config = Run(tmp_path), replace_config(people=12)
    page = job.run(run, config)
    assert "No person has answered yet" in page.read_text() and "<img" not in page.read_text()
    kept = record.read(run.audit)
    assert ("style", "leaks the side") in {(one.about, one.verdict) for one in kept.decisions}
    assert kept.judge == "none" and any("0 sources have both" in note for note in kept.notes)
    before = page.stat().st_mtime_ns
    assert job.run(run, config).stat().st_mtime_ns == before
    sample = job.drawn(run, config)
    answers = Answers(job.answers_place(run, config), identity(run))
    for name in ("Ann", "Bo"):
        for number, row in enumerate(for_people(sample, config.people, 0)):
            better = "equal" if name == "Bo" and number == 3 else "12"[number % 2]
            answers.save(name, row["row_id"], given("AB"[number % 2], "1234"[number % 4], better), 2.0)
    answers.close()
    text = job.run(run, config).read_text()
    assert "2 annotators answered about 12 of the 12 pairs" in text and "Krippendorff" in text
    found = json.loads((run.audit / "audit.json").read_text())
    by_question = {one["question"]: one for one in found["agreements"]}
    assert by_question["substance"]["alpha"] == 1.0 and by_question["which is better"]["same"] == pytest.approx(11 / 12)
    assert len(list(csv.DictReader((run.audit / "measures.csv").open()))) == 50
    assert any("nobody" in line or "answers of people" in line for line in job.describe(run, config))


def test_a_smaller_sample_counts_the_answers_about_it_alone_and_says_how_many_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [pair(n) for n in range(25)])
    run, config = Run(tmp_path), replace_config(rows=20, people=15)
    shown = for_people(job.drawn(run, config), config.people, 0)
    answers = Answers(job.answers_place(run, config), identity(run))
    for number, row in enumerate(shown):
        answers.save("Ann", row["row_id"], given("AB"[number % 2], "15"[number % 2]), 1.0)
        # About the first three, that are shown always, both say the same; about all others, they do not.
        answers.save("Bo", row["row_id"], given("AB"[number % 2], "15"[(number + (number > 2)) % 2]), 1.0)
    answers.close()

    def audited(**changes: Any) -> tuple[str, dict[str, Any], list[str]]:
        text = job.run(run, replace_config(rows=20, **changes)).read_text()
        return text, json.loads((run.audit / "audit.json").read_text()), record.read(run.audit).notes

    text, found, notes = audited(people=15)
    assert found["outside"] == 0 and "Left out" not in text and not any("Left out" in one for one in notes)
    text, found, notes = audited(people=3)
    assert "2 annotators answered about 3 of the 3 pairs" in text
    assert "Left out: 24 answers about pairs" in text and any(one.startswith("Left out: 24") for one in notes)
    assert (found["answered"], found["answers"], found["outside"]) == (3, 6, 24)
    substance = next(one for one in found["agreements"] if one["question"] == "substance")
    assert (substance["units"], substance["same"]) == (6, 1.0)
    assert [one["answers"] for one in found["people"]] == [6, 6]
    assert found["with_people"]["words"]["n"] == 6


def test_a_sample_of_which_nothing_is_answered_does_not_say_that_nobody_ever_did(tmp_path: Path) -> None:
    write(tmp_path, [pair(n) for n in range(6)])
    run, config = Run(tmp_path), replace_config(people=1)
    answers = Answers(job.answers_place(run, config), identity(run))
    answers.save("Ann", for_people(job.drawn(run, config), 2, 0)[1]["row_id"], given(), 1.0)
    answers.close()
    text = job.run(run, config).read_text()
    assert "No person has answered about the 1 pairs" in text and "Left out: 1 answer about" in text
    assert json.loads((run.audit / "audit.json").read_text())["agreements"] == []


def test_products_name_the_two_of_each_kappa(tmp_path: Path) -> None:
    write(tmp_path, [pair(n) for n in range(12)])
    run = Run(tmp_path)
    answers = Answers(job.answers_place(run, NO_CHECKER), identity(run))
    for name in ("a", "a, b", "b, c", "c"):
        for number, row in enumerate(job.drawn(run, NO_CHECKER)):
            answers.save(name, row["row_id"], given(better="12"[number % 2]), 1.0)
    answers.close()
    assert job.run(run, NO_CHECKER).read_text().count("<bdi>a, b</bdi> and <bdi>c</bdi>") == 1
    better = json.loads((run.audit / "audit.json").read_text())["agreements"][2]
    assert {"annotators": ["a, b", "c"], "kappa": 1.0} in better["kappa"] and len(better["kappa"]) == 6


def replace_config(**changes: Any) -> AuditConfig:
    return NO_CHECKER.model_copy(update=changes)

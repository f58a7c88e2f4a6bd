"""CRAFT-MD's workbooks, made here as the real ones are: instructions first, sheets per model, a third expert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from pipelines.core.errors import UserError
from pipelines.evaluation.asking.benchmark_rows import benchmark_examples
from pipelines.evaluation.benchmarks.craft_md import decided, records
from pipelines.evaluation.scoring.results import summarise

SHORT = ["Q1", "Q2", "Q3"]
LONG = ["Q1: One most likely diagnosis?", "Q2: All key info?", "Q3: Medical terms?"]
NAMES = {
    "d1": "validation_clinicalllm_patientai_d1",
    "d2": "validation_clinicalllm_patientai_d2",
    "d3": "validation_clinicallm_patientai_tiebreak_d3",
}
Answers = dict[str, tuple[Any, Any, Any]]


def workbook(path: Path, sheets: dict[str, Answers], questions: list[str], above: int = 5) -> Path:
    """One sheet per model: lines of instructions, the header, a row per case and empty rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for model, cases in sheets.items():
        sheet = book.create_sheet(model)
        for number in range(above):
            sheet.append(["Instructions: answer yes or no." if number == 0 else None, "case"])
        sheet.append(["case_id", "case_vignette", "question", "multi-turn conversation", *questions, None])
        for case, answers in cases.items():
            sheet.append([case, f"vignette of {case}", "Which?", f"{model} talks to {case}", *answers])
        for _ in range(3):
            sheet.append([None] * 7)
    book.save(path)
    return path


FIRST: dict[str, Answers] = {"GPT-4": {"c1": ("Yes", "No", "No"), "c2": ("Yes", "Yes", "No")}, "LLaMA2": {}}
SECOND: dict[str, Answers] = {"GPT-4": {"c2": ("No", "Yes", "Yes")}, "LLaMA2": {"c1": ("No", "No", "No")}}
THIRD: dict[str, Answers] = {"GPT-4": {"c2": ("No", None, "Yes")}, "LLaMA2": {}}


@pytest.fixture
def books(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "benchmarks" / "craft_md"
    folder.mkdir(parents=True)
    return [
        workbook(folder / f"{NAMES['d1']}.xlsx", FIRST, SHORT),
        workbook(folder / f"{NAMES['d2']}.xlsx", SECOND, LONG, above=7),
        workbook(folder / f"{NAMES['d3']}.xlsx", THIRD, SHORT),
    ]


def test_conversations_of_both_experts_are_merged_over_all_sheets(books: list[Path]) -> None:
    found = {where: value for where, value, _ in records(books)}
    verdicts = {where: value["verdict"] for where, value in found.items()}
    assert verdicts == {
        "GPT-4 c1 diagnosis": "Yes",  # one expert
        "GPT-4 c1 history": "No",
        "GPT-4 c1 terminology": "No",
        "GPT-4 c2 diagnosis": "No",  # the third one broke the tie
        "GPT-4 c2 history": "Yes",  # both agree
        "GPT-4 c2 terminology": "Yes",
        "LLaMA2 c1 diagnosis": "No",  # the same case with another model is another conversation
        "LLaMA2 c1 history": "No",
        "LLaMA2 c1 terminology": "No",
    }
    assert found["GPT-4 c2 diagnosis"]["votes"] == ["Yes", "No", "No"]
    assert found["LLaMA2 c1 history"]["conversation"] == "LLaMA2 talks to c1"


@pytest.mark.parametrize(
    ("votes", "verdict"),
    [
        (["Yes", "Yes", None], "Yes"),
        (["No", None, None], "No"),
        ([None, "No", "Yes"], "No"),  # there is no tie to break
        (["Yes", "No", "No"], "No"),
        (["Yes", "No", None], None),
        ([None, None, None], None),
    ],
)
def test_the_third_expert_decides_where_the_two_differ(votes: list[str | None], verdict: str | None) -> None:
    assert decided(votes) == verdict


def test_a_tie_that_nobody_broke_is_a_row_without_verdict(books: list[Path], tmp_path: Path) -> None:
    workbook(books[2], {"GPT-4": {"c2": ("No", None, None)}}, SHORT)
    rows = benchmark_examples(["craft_md"], tmp_path).to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["filtered:null_verdict"] + ["ok"] * 3
    assert {row["found"] for row in rows} == {9}


def header(*cells: str | None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        book = openpyxl.Workbook()
        book.active.append(list(cells))
        book.active.append(["c1", "vignette", "talk", "Yes", "No", "No"])
        book.save(path)

    return write


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b"PK no workbook"), "not a readable xlsx file"),
        (header("id", "case_vignette"), "no row has the cell case_id"),
        (header("case_id", "case_vignette", "multi-turn conversation", "Q1", "Q3"), "no column for the history"),
        (lambda path: workbook(path, {"GPT-4": {"c1": ("Yes", "Maybe", "No")}}, SHORT), "'Maybe' is not an answer"),
        (header("case_id", "multi-turn conversation", "case_vignette", *SHORT), "the text of c1 differs"),
    ],
)
def test_a_malformed_workbook_is_one_clear_line_that_names_it(
    books: list[Path], damage: Callable[[Path], None], words: str
) -> None:
    damage(books[1])
    if words.startswith("the text"):
        workbook(books[0], {"Sheet": {"c1": ("Yes", "No", "No")}}, SHORT)
    with pytest.raises(UserError, match=words) as caught:
        list(records(books))
    assert NAMES["d2"] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_case_that_is_twice_in_a_sheet_is_refused(books: list[Path]) -> None:
    book = openpyxl.load_workbook(books[0])
    book["GPT-4"].append(["c1", "vignette of c1", "Which?", "GPT-4 talks to c1", "No", "No", "No"])
    book.save(books[0])
    with pytest.raises(UserError, match=r"sheet GPT-4, row \d+: c1 appears twice"):
        list(records(books))


def test_a_conversation_without_text_is_refused(books: list[Path]) -> None:
    book = openpyxl.load_workbook(books[1])
    book["GPT-4"]["D9"] = " "
    book.save(books[1])
    with pytest.raises(UserError, match=r"row 9: c2 has no conversation"):
        list(records(books))


def test_a_workbook_that_is_missing_is_named(books: list[Path], tmp_path: Path) -> None:
    books[2].unlink()
    with pytest.raises(UserError, match="tiebreak_d3"):
        benchmark_examples(["craft_md"], tmp_path)
    with pytest.raises(UserError, match="three workbooks are needed, 2 are named"):
        list(records(books[:2]))


def test_every_question_shows_what_a_constant_answer_would_score(
    books: list[Path], tmp_path: Path, make_run: Callable[..., Any]
) -> None:
    """CRAFT-MD: majority class, balanced accuracy and Cohen's kappa with each question's accuracy."""
    run = make_run({"base": lambda row: "Result: No"}, ["craft_md"], tmp_path)
    entry = summarise(run.judgments, run.examples, run.config, seed=0).to_json()["models"]["base"]["craft_md"]
    assert entry["value"] == pytest.approx(6 / 9, abs=1e-6)
    parts = {
        name: [part[key] for key in ("n", "value", "majority_class", "balanced_accuracy", "kappa")]
        for name, part in entry["subsets"].items()
    }
    two_thirds = pytest.approx(2 / 3, abs=1e-6)
    assert parts == {
        "diagnosis": [3, two_thirds, two_thirds, 0.5, 0],
        "history": [3, two_thirds, two_thirds, 0.5, 0],
        "terminology": [3, two_thirds, two_thirds, 0.5, 0],
    }

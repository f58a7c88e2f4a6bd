"""The packaged sources load, and a wrong name or file is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.core.errors import UserError
from pipelines.curation.registry import SOURCES, check_years, load_source, load_sources
from pipelines.datasets.spec import DatasetSpec

# The sets of the paper's run, as far as they are known (docs/fidelity.md).
PAPER_RUN = [
    "lmsys_chatbot_arena",
    "finegrained_rlhf",
    "helpsteer",
    "helpsteer2",
    "beavertails",
    "ragtruth",
    "prm800k",
    "halueval",
    "seahorse",
    "wikibio_gpt3",
    "commitpackft",
    "feedback_collection",
    "preference_collection",
    "offsetbias",
    "ultrafeedback",
    "codeultrafeedback",
]
MINE = """
name: mine
task: classification
files: [mine.csv]
license: CC0-1.0
published: 2024
allowed: ["Yes", "No"]
fields: {instruction: record.q, responses: "[record.a]", verdict: record.v}
"""


@pytest.mark.parametrize("name", SOURCES.names())
def test_every_packaged_source_loads_under_its_file_name(name: str) -> None:
    source = load_source(name)
    assert source.name == name
    assert source.about
    assert source.published is not None or source.fields.published


def test_the_sources_of_the_papers_run_are_there() -> None:
    assert set(PAPER_RUN) <= set(SOURCES.names())
    assert {source.task for source in load_sources(PAPER_RUN)} == {"pairwise", "absolute", "classification"}


def test_what_was_never_seen_says_so() -> None:
    for source in load_sources(PAPER_RUN):
        if source.name not in ("finegrained_rlhf",):
            assert source.to_confirm or (source.hub and source.hub.to_confirm), source.name


def test_a_users_own_file_is_loaded_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    assert load_source(str(path)).allowed == ["Yes", "No"]


def test_an_unknown_name_tells_the_nearest_and_all() -> None:
    with pytest.raises(UserError) as caught:
        load_source("pandalmm")
    assert str(caught.value).startswith("no source 'pandalmm' (did you mean 'pandalm'?")
    assert all(name in str(caught.value) for name in SOURCES.names())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("- a", "the source is not a mapping of keys"),
        ("name: [", "not valid YAML"),
        (MINE.replace("published", "publised"), "unknown key 'publised' (did you mean 'published'?)"),
        (MINE.replace("license: CC0-1.0\n", ""), "missing key 'license'"),
        (MINE.replace("record.v", "'record.v | no_such'"), "fields.verdict: not an expression"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_source(str(path))
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_sources_may_not_share_a_name(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(MINE.replace("name: mine", "name: pandalm"))
    with pytest.raises(UserError, match="both named 'pandalm'"):
        load_sources(["pandalm", str(path)])


def test_a_run_without_sources_is_told_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"curation\.sources: no source is named \(known: .*sample_pairwise"):
        load_sources([])


@pytest.mark.parametrize(
    ("published", "field", "min_year", "says"),
    [
        (None, None, 2023, r"source 'mine': `published` is missing, .*clean\.min_year, which is 2023, to null"),
        (2019, None, 2023, r"source 'mine': `published` is 2019"),
        (None, "record.year", 2023, None),
        (2023, None, 2023, None),
        (None, None, None, None),
    ],
)
def test_a_source_that_the_year_would_empty_is_refused_at_once(
    published: int | None, field: str | None, min_year: int | None, says: str | None
) -> None:
    raw = {**yaml.safe_load(MINE), "published": published}
    raw["fields"] = {**raw["fields"], "published": field}
    sources = [DatasetSpec.model_validate(raw)]
    if says is None:
        check_years(sources, min_year)
    else:
        with pytest.raises(UserError, match=says):
            check_years(sources, min_year)

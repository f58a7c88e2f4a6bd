"""The data map: rows drawn by hash, laid out the same in any order, named by their words, shown as text."""

from __future__ import annotations

import base64
import json
import re
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import Config, load_config
from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.experiments.data_map import job as data_map
from pipelines.experiments.data_map.config import DataMapConfig
from pipelines.experiments.data_map.embed import EMBEDDING, Embed, map_text
from pipelines.experiments.data_map.layout import layout
from pipelines.experiments.data_map.page import hover, render_page
from pipelines.experiments.data_map.topics import by_size, find_topics, terms

# Half a minute: loading the embedding model and compiling the layout's kernels.
pytestmark = pytest.mark.integration

LOCAL = Path(__file__).parents[2] / "ray_jobs" / "configs" / "local.yaml"
TEXT, TEXTS = pa.string(), pa.list_(pa.string())
SCHEMA = pa.schema([*((name, TEXTS if name == "responses" else TEXT) for name in data_map.DRAWN), EMBEDDING])
MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(2)> <b>%{x}</b>"
# Two kinds of packaged rows that share few words and no form.
KINDS = {"capital": "pairwise", "graded_sums": "absolute"}


def config_of(folder: Path, *overrides: str) -> Config:
    return load_config(LOCAL, [f"out_dir={folder}", *overrides])


def rows_of(kinds: list[str], dimensions: int = 8) -> list[Row]:
    """Rows whose embeddings are near their kind's own axis, and whose words are the kind's."""
    noise = np.random.default_rng(0).normal(scale=0.05, size=(len(kinds), dimensions))
    axes = sorted(set(kinds))
    rows: list[Row] = []
    for place, kind in enumerate(kinds):
        vector = noise[place] + np.eye(dimensions)[axes.index(kind)]
        row: Row = {"row_id": f"{place:03}", "source": kind, "task": "pairwise", "verdict": "A", "status": "ok"}
        row |= {"instruction": f"{kind} about {kind} things", "context": None, "responses": ["yes", None]}
        rows.append({**row, EMBEDDING.name: (vector / np.linalg.norm(vector)).tolist()})
    return rows


def table_of(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def curated(out: Path, rows: list[Row]) -> Path:
    folder = out / "curated" / "data"
    folder.mkdir(parents=True)
    pq.write_table(table_of(rows).drop_columns([EMBEDDING.name]), folder / "part-0.parquet")
    return folder


def sample_rows() -> list[Row]:
    """About forty rows of the packaged sample set, of two kinds."""
    rows = []
    for kind, task in KINDS.items():
        lines = (resources.files("pipelines.data.sample") / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
        lines += (resources.files("pipelines.data.sample") / f"heldout_{task}.jsonl").read_text("utf-8").splitlines()
        found = [raw for line in lines if (raw := json.loads(line))["family"] == kind and not raw["planted"]][:20]
        for raw in found:
            texts = [raw[name] for name in ("response_a", "response_b", "response") if raw.get(name)]
            row = {"row_id": f"{kind}{len(rows):03}", "source": kind, "task": task, "verdict": str(raw["label"])}
            row |= {"instruction": raw["instruction"], "context": raw["context"], "responses": texts, "status": "ok"}
            rows.append(row)
    return rows


@pytest.fixture(scope="module")
def embedded() -> list[Row]:
    rows = sample_rows()
    Embed(DataMapConfig()).apply_batch(rows)
    return rows


def test_rows_of_the_same_kind_lie_closer_than_others(embedded: list[Row]) -> None:
    assert len(embedded) > 25
    vectors = np.array([row[EMBEDDING.name] for row in embedded])
    kinds = np.array([row["source"] for row in embedded])
    same = (kinds[:, None] == kinds[None, :]) & ~np.eye(len(kinds), dtype=bool)
    likeness = vectors @ vectors.T
    assert likeness[same].mean() > 2 * likeness[kinds[:, None] != kinds[None, :]].mean()
    points = data_map.place(table_of(embedded), DataMapConfig(topics=2), seed=0)
    places = np.array([(row["x"], row["y"]) for row in points])
    distance = np.linalg.norm(places[:, None] - places[None, :], axis=-1)
    np.fill_diagonal(distance, np.inf)
    kinds = np.array([row["source"] for row in points])
    assert (kinds[distance.argmin(axis=1)] == kinds).mean() > 0.9
    # Two topics are the two kinds.
    assert len({(row["source"], row["topic"]) for row in points}) == 2


def test_an_embedding_has_length_one_and_does_not_depend_on_its_neighbours(embedded: list[Row]) -> None:
    assert {len(row[EMBEDDING.name]) for row in embedded} == {384}
    assert np.linalg.norm(embedded[0][EMBEDDING.name]) == pytest.approx(1, abs=1e-5)
    again = sample_rows()[-3:]
    Embed(DataMapConfig()).apply_batch(again)
    assert [row[EMBEDDING.name] for row in again] == [row[EMBEDDING.name] for row in embedded[-3:]]


def test_special_tokens_in_a_text_are_text() -> None:
    stage = Embed(DataMapConfig())
    stage.setup()
    plain, marked = stage.embed("red"), stage.embed("red [SEP] [PAD]")
    assert np.dot(plain, marked) < 0.95
    assert marked != stage.embed("red [SEP]")


def test_a_row_is_embedded_by_what_was_asked_about_what_and_what_was_answered() -> None:
    row = {"instruction": "Shorten.", "context": "Long.", "responses": ["Lo", None, "L"]}
    assert map_text(row) == "Shorten.\n\nLong.\n\nLo\n\nL"
    assert map_text({"instruction": None, "context": None, "responses": None}) == ""


def test_any_order_of_rows_and_blocks_gives_the_same_file(tmp_path: Path) -> None:
    rows = rows_of(["poem", "sum", "city"] * 12)
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    cut = pa.concat_tables([table_of(shuffled[:7]), table_of(shuffled[7:])])
    made = []
    for place, table in enumerate((table_of(rows), cut)):
        out = tmp_path / str(place)
        data_map.write(data_map.place(table, DataMapConfig(), seed=3), out, "note")
        made.append([(out / name).read_bytes() for name in ("map.parquet", "map.png", "map.html")])
    assert made[0] == made[1]
    found = pq.read_table(tmp_path / "0" / "map.parquet")
    assert found.schema == data_map.MAP
    assert found["row_id"].to_pylist() == sorted(row["row_id"] for row in rows)
    other = data_map.place(table_of(rows), DataMapConfig(), seed=4)
    assert [row["x"] for row in other] != found["x"].to_pylist()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_tiny_set_has_a_map(tmp_path: Path, count: int) -> None:
    points = data_map.place(table_of(rows_of(["poem"] * count)), DataMapConfig(), seed=0)
    data_map.write(points, tmp_path, "note")
    assert np.isfinite([(row["x"], row["y"]) for row in points]).all()
    assert {row["topic"] for row in points} == {"1: poem, things"}
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_equal_rows_share_a_place_and_do_not_drift_off() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    places = layout(np.concatenate([vectors, np.tile(vectors[:1], (30, 1))]), 5, 0)
    assert (places[40:] == places[0]).all()
    assert (places[:40] == layout(vectors, 5, 0)).all()


def test_topics_are_named_by_the_words_that_tell_them_apart() -> None:
    texts = ["write a poem with rhyme", "a poem in rhyme, write", "write a sum of numbers", "numbers: write the sum"]
    found = terms(texts, np.array([0, 0, 1, 1]))
    # By hand: tf 1/3 each; 'write' is in all rows (f = 4, log(1 + 6/4)), the others in two (log(1 + 6/2)).
    assert found == [["poem", "rhyme", "write"], ["numbers", "sum", "write"]]


def test_a_long_row_does_not_name_its_topic() -> None:
    texts = ["poem rhyme", "poem verse", "poem " + "spam " * 200, "sum"]
    assert terms(texts, np.array([0, 0, 0, 1]))[0][0] == "poem"


def test_texts_without_a_word_are_a_topic_too() -> None:
    assert terms(["1 + 1", "?"], np.array([0, 1])) == [["no words"], ["no words"]]
    assert terms(["poem", "?"], np.array([0, 1])) == [["poem"], ["no words"]]


def test_topics_are_numbered_by_size_and_then_by_their_first_row() -> None:
    assert by_size(np.array([5, 2, 2, 7, 9, 9])).tolist() == [2, 0, 0, 3, 1, 1]
    rows = rows_of(["poem"] * 9 + ["sum"] * 6)
    vectors = np.array([row[EMBEDDING.name] for row in rows], np.float32)
    topics = find_topics(vectors, [row["instruction"] for row in rows], 2, 0)
    assert topics == ["1: poem, things"] * 9 + ["2: sum, things"] * 6


def test_markup_in_data_is_shown_as_text_and_nothing_is_fetched() -> None:
    row = {"source": MARKUP, "task": "pairwise", "verdict": "<i>A</i>", "topic": "1: a", "instruction": MARKUP}
    page = render_page([{**row, "row_id": "0", "x": 0.0, "y": 0.0}], f"title {MARKUP}", MARKUP)
    assert "alert(" in page and "<script>alert" not in page and "<img" not in page
    tags = re.findall(r"<[^<>]*>", hover(row))
    assert set(tags) == {"<b>", "</b>", "<br>"}  # ours
    assert not re.search(r"<(?:script|link|img)[^>]*\b(?:src|href)=", page)
    assert "default-src 'none'" in page


def test_hover_shows_source_task_verdict_and_the_beginning() -> None:
    row = {
        "source": "s",
        "task": "absolute",
        "verdict": "4",
        "topic": "1: a",
        "instruction": "Say  it.\n" + "so " * 200,
    }
    lines = hover(row).split("<br>")
    assert lines[:3] == ["<b>s · absolute · verdict 4</b>", "topic 1: a", ""]
    assert lines[3].startswith("Say it. so so") and lines[-1].endswith("…") and len(lines) < 9
    assert "None" not in hover({**row, "instruction": None})


def test_the_page_holds_every_point_in_each_view() -> None:
    points = data_map.place(table_of(rows_of(["poem", "sum"] * 8)), DataMapConfig(topics=2), seed=0)
    page = render_page(points, "title", "note")
    xs = [np.frombuffer(base64.b64decode(text), "f4") for text in _coordinates(page, "x")]
    assert sorted(np.concatenate(xs).tolist()) == sorted([row["x"] for row in points] * 3)


def _coordinates(page: str, axis: str) -> list[str]:
    return [
        text.encode().decode("unicode_escape")
        for text in re.findall(rf'"{axis}":{{"dtype":"f4","bdata":"([^"]*)"', page)
    ]


def test_rows_are_drawn_by_hash_whatever_their_order(tmp_path: Path) -> None:
    rows = rows_of(["poem"] * 30)
    first, second = curated(tmp_path / "a", rows), curated(tmp_path / "b", rows[::-1])
    drawn = data_map.draw(first, 10, seed=0)
    assert drawn == data_map.draw(second, 10, seed=0) == sorted(drawn)
    assert set(drawn) < set(data_map.draw(first, 20, seed=0))
    assert drawn != data_map.draw(first, 10, seed=1)
    rows_of_map = data_map.copy_rows(first, drawn, tmp_path / "drawn")
    found = pq.read_table(rows_of_map.folder)
    assert sorted(found["row_id"].to_pylist()) == drawn and tuple(found.column_names) == data_map.DRAWN


def test_missing_pairs_and_missing_packages_are_one_clear_line(tmp_path: Path, monkeypatch: Any) -> None:
    config = config_of(tmp_path)
    with pytest.raises(UserError, match=r"curated/data: no curated pairs to map \(run ray_jobs/curate.py first\)"):
        data_map.validate(config.run)
    curated(tmp_path, rows_of(["poem"]))
    data_map.validate(config.run)
    monkeypatch.setattr(data_map.util, "find_spec", lambda name: None if name == "umap" else find_spec(name))
    with pytest.raises(UserError, match=r"the map needs umap-learn \(pip install 'openselene\[map\]'\)"):
        data_map.validate(config.run)

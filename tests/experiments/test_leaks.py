"""Leaks of benchmarks into training sets: any record's texts, four ways to be alike, what is counted and kept out."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import Config, load_config
from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.stage import apply_stages, to_table
from pipelines.curation.config import DecontaminateConfig
from pipelines.curation.near_duplicates import shingles
from pipelines.experiments.leaks import alike, boilerplate, evidence, job, report
from pipelines.experiments.leaks.config import EmbeddingsConfig, LeaksConfig
from pipelines.experiments.leaks.hits import HITS, SHOWN, KeepOut, Overlaps, bands, beside
from pipelines.experiments.leaks.sets import SET_ROW
from pipelines.experiments.records import record

from .leak_rows import EDITED, PROMPT, SHARED, row, search, texts_file, words

LOCAL = Path(__file__).parents[2] / "ray_jobs" / "configs" / "local.yaml"


def kinds(row: dict[str, Any]) -> list[str]:
    return sorted(one["kind"] for name in ("overlaps", "near") for one in row[name])


def test_an_equal_prompt_a_long_run_and_an_edited_one_are_leaks_of_three_kinds(tmp_path: Path) -> None:
    texts = texts_file(tmp_path, ours=PROMPT, other="A text that nobody has of course in any set at all")
    equal, inside, edited, free = search(
        texts,
        row(PROMPT.upper()),
        row(f"{words('before')} {PROMPT}. {words('after')}"),
        row(EDITED),
        row("one two " * 9),
    )
    assert kinds(equal) == ["exact", "near_duplicate"] and equal["status"] == "filtered:leak:ours:exact"
    assert equal["overlaps"][0]["theirs"] == PROMPT and equal["overlaps"][0]["score"] == 1.0
    assert kinds(inside) == ["coverage"]
    assert inside["overlaps"][0]["shared"].removesuffix(" ...") == " ".join(PROMPT.lower().split()[:30])
    assert kinds(edited) == ["near_duplicate"] and edited["status"] == "filtered:leak:ours:near_duplicate"
    assert kinds(free) == [] and free["status"] == "ok"


def test_similarity_is_that_of_the_shingles(tmp_path: Path) -> None:
    (found,) = search(texts_file(tmp_path, ours=PROMPT), row(EDITED), threshold=0.3)
    mine, theirs = shingles(EDITED, 3), shingles(PROMPT, 3)
    assert found["near"][0]["score"] == pytest.approx(len(mine & theirs) / len(mine | theirs))
    (found,) = search(texts_file(tmp_path, ours=PROMPT), row(EDITED), threshold=0.9)
    assert found["near"] == []


def test_bands_depend_on_the_text_alone() -> None:
    one, two = bands([PROMPT, EDITED], 3)
    assert np.array_equal(bands([EDITED], 3)[0], two) and not np.array_equal(one, two)
    assert len(bands([], 3)) == 0


def test_a_long_text_is_shown_from_shortly_before_what_it_shares() -> None:
    text = f"{'word ' * 400}{PROMPT}"
    shown = beside(text, PROMPT.lower())
    assert len(shown) < len(text) and shown.startswith("… ") and PROMPT in shown[: SHOWN // 4 + len(PROMPT) + 2]
    assert beside(PROMPT, "") == PROMPT


class Words:
    """Embeds a text as which of three words it has; unlike the model it is quick, and known by hand."""

    model = True

    def embed(self, text: str) -> list[float]:
        vector = np.array([word in text for word in ("red", "green", "blue")], float)
        return (vector / max(np.linalg.norm(vector), 1e-9)).tolist()


def test_the_nearest_benchmark_text_by_cosine_is_a_hit_of_its_own_kind(tmp_path: Path) -> None:
    texts = {"a": "the red one", "b": "the red and green ones"}
    vectors = [Words().embed(text) for text in texts.values()]
    columns = {"row_id": ["0", "1"], "source": [*texts], "instruction": [*texts.values()], "embedding": vectors}
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "rows" / "part.parquet")
    stage = alike.Alike(tmp_path / "rows", EmbeddingsConfig(threshold=0.8), 1.0, 0)
    stage.model = Words()  # type: ignore[assignment]
    near, far, both = row("a red thing"), row("a blue thing"), row("a blue thing", "green, then red")
    stage.apply_batch([near, far, both])
    assert [(one["benchmark"], one["kind"], one["score"]) for one in near["alike"]] == [("a", "embedding", 1.0)]
    assert far["alike"] == [] and far["embedded"]
    assert [(one["benchmark"], one["ours"]) for one in both["alike"]] == [("b", "green, then red")]
    none = alike.Alike(tmp_path / "rows", EmbeddingsConfig(), 0.0, 0)
    none.model = Words()  # type: ignore[assignment]
    none.apply_batch([near])
    assert near["alike"] == [] and not near["embedded"]


def products(folder: Path) -> tuple[dict[str, Any], Path]:
    """A report of three rows with a text, of which one is a benchmark's, one without, and one unreadable record."""
    texts = texts_file(folder, ours=PROMPT, other="A text that nobody has of course in any set at all")
    said = [row(text, name=f"0000.00000000{n}") for n, text in enumerate([PROMPT, "one two " * 9, EDITED])]
    rows = search(texts, *said, row(name="0000.000000004"))
    schema = pa.schema([*SET_ROW, pa.field("overlaps", HITS), pa.field("near", HITS)])
    (folder / "rows").mkdir()
    (folder / "read").mkdir()
    pq.write_table(to_table(rows, schema), folder / "rows" / "a.parquet")
    broken = {**row(name="0000.000000003"), "status": "error:invalid_json"}
    read = [{**one, "status": "ok"} for one in rows]
    pq.write_table(to_table([*read, broken], SET_ROW), folder / "read" / "a.parquet")
    found = report.summarise(folder / "rows", folder / "read", texts, ["overlaps", "near"], 1)
    config = LeaksConfig(embeddings=EmbeddingsConfig(enabled=False))
    report.write(folder / "out", folder / "rows", found, config)
    return found, folder / "out"


def test_the_report_counts_rows_by_benchmark_kind_and_file_and_the_clean_set_is_what_is_left(tmp_path: Path) -> None:
    found, out = products(tmp_path)
    assert (found["rows"], found["kept_out"], found["errors"], found["clean"]) == (5, 2, 1, 2)
    assert found["found"]["other"] == {}
    counts = {kind: (one["rows"], one["texts"]) for kind, one in found["found"]["ours"].items()}
    assert counts == {"exact": (1, 1), "near_duplicate": (2, 1)}
    assert [len(one["examples"]) for one in found["found"]["ours"].values()] == [1, 1]
    assert found["files"] == [{"file": "a.jsonl", "rows": 5, "leaks": 2, "errors": 1, "without_text": 1}]
    (clean,) = (out / "clean").iterdir()
    assert clean.name == "0000-a.jsonl"
    assert [json.loads(line) for line in clean.read_text().splitlines()] == [{"texts": ["one two " * 9]}, {"texts": []}]
    assert "1 rows have no text of 4 words" in (out / "report.html").read_text() and found["without_text"] == 1
    assert json.loads((out / "leaks.json").read_text())["settings"]["ngram"] == SHARED.ngram
    assert pq.read_table(out / "hits.parquet")["kind"].to_pylist() == ["exact", "near_duplicate", "near_duplicate"]


def test_texts_of_a_set_stay_texts_on_the_page(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script> one two three four five six seven eight nine"
    texts = texts_file(tmp_path, ours=bad)
    (found,) = search(texts, row(bad))
    (tmp_path / "rows").mkdir()
    table = to_table([found], pa.schema([*SET_ROW, pa.field("overlaps", HITS), pa.field("near", HITS)]))
    pq.write_table(table, tmp_path / "rows" / "a.parquet")
    read = tmp_path / "rows"
    result = report.summarise(read, read, texts, ["overlaps", "near"], 5)
    report.write(tmp_path / "out", read, result, LeaksConfig(embeddings=EmbeddingsConfig(enabled=False)))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "default-src 'none'" in page


def test_the_record_says_what_was_kept_out_and_what_was_not_looked_at(tmp_path: Path) -> None:
    found, _ = products(tmp_path)
    run = Run(tmp_path / "run")
    settings = report.settings_of(LeaksConfig())
    evidence.write(run, found, settings, 12.5)
    read = record.read(run.leaks)
    assert [(one.about, one.verdict) for one in read.decisions] == [("a.jsonl", "keep 2 rows out")]
    assert {(one.of, one.value) for one in read.figures} >= {("ours", 2.0), ("ours", 1.0)}
    assert any("0 of 5 rows were looked at" in note for note in read.notes)
    assert any("1 rows have no text of 4 words" in note for note in read.notes)
    assert storage.read_text(run.leaks / "plot.svg").startswith("<svg")


def test_the_plan_names_the_sets_and_refuses_what_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n")
    raw: dict[str, Any] = {"out_dir": tmp_path / "out", "evaluation": {"benchmarks": ["heldout_pairwise"]}}
    config = Config.model_validate({**raw, "leaks": {"sets": str(path)}})
    lines = job.describe(config.run, config.leaks, ["heldout_pairwise"])
    assert "a.jsonl" in lines[0] and "near duplicates" in "\n".join(lines)
    (tmp_path / "b.txt").write_text("x")
    other = LeaksConfig(sets=[str(tmp_path / "b.txt")])
    with pytest.raises(UserError, match="cannot tell the format"):
        job.validate(config.run, other, ["heldout_pairwise"])

    def missing() -> Path:
        raise UserError("the embeddings need a package", fix="pip install it")

    monkeypatch.setattr(job, "model_folder", missing)
    with pytest.raises(UserError, match=r"leaks\.embeddings\.enabled=false"):
        job.validate(config.run, config.leaks, ["heldout_pairwise"])


def test_what_curation_asks_of_its_sample_is_not_what_a_leak_is(tmp_path: Path) -> None:
    config = load_config(LOCAL, [f"out_dir={tmp_path}"])
    assert config.curation.clean.decontaminate.ngram == 13 and config.leaks.overlaps == DecontaminateConfig()
    prompts = [" ".join(f"{name}{n}" for n in range(size)) for size, name in zip(range(8, 12), "abcd", strict=True)]
    stage = Overlaps(texts_file(tmp_path, **dict(zip("abcd", prompts, strict=True))), config.leaks.overlaps)
    for name, prompt in zip("abcd", prompts, strict=True):
        found = row(f"{words('judge')} {prompt} {words('answer')}")
        stage.apply_batch([found])
        assert [one["benchmark"] for one in found["overlaps"]] == [name]


def test_without_any_search_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    off = {"enabled": False}
    config = LeaksConfig.model_validate(
        {"sets": str(tmp_path / "a.jsonl"), "overlaps": off, "near": off, "embeddings": off}
    )
    with pytest.raises(UserError, match="leaks: every search is off"):
        job.validate(Run(tmp_path / "out"), config, ["heldout_pairwise"])


TEMPLATE = "Here is a task for you which somebody has written down; read it with care and answer it as well as you can"
QUOTING = f"{words('essay')} {TEMPLATE} {words('more')}"


def told_apart(folder: Path, texts: Path, rows: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Status and kinds of rows, by raw_id, after the set's boilerplate was counted."""
    place = Path(tempfile.mkdtemp(dir=folder))
    half = len(rows) // 2
    for name, part in (("a", rows[:half]), ("b", rows[half:])):
        pq.write_table(to_table(part, SET_ROW), place / f"{name}.parquet")
        boilerplate.note(place / f"{name}.parquet", place / "seen" / f"{name}.parquet", texts, SHARED)
    boilerplate.count(place / "seen", place / "runs.parquet")
    found = [dict(one) for one in rows]
    stages = [Overlaps(texts, SHARED, place / "runs.parquet"), KeepOut(LeaksConfig().keep_out, ["overlaps"])]
    apply_stages(stages, found)
    found.sort(key=lambda one: str(one["raw_id"]))
    return [(one["status"], sorted(hit["kind"] for hit in one["overlaps"])) for one in found]


def numbered(*rows: list[str]) -> list[dict[str, Any]]:
    return [row(*texts, name=f"0000.{number:09d}") for number, texts in enumerate(rows)]


def test_a_template_around_every_prompt_of_a_set_is_its_boilerplate_and_no_leak(tmp_path: Path) -> None:
    texts = texts_file(tmp_path, quoting=QUOTING)
    inside = numbered(*([f"{TEMPLATE} Name the hat number {n}"] for n in range(20)))
    assert told_apart(tmp_path, texts, inside) == [("ok", ["boilerplate"])] * 20
    message = numbered(*([TEMPLATE, f"Name the hat number {n}"] for n in range(20)))
    assert told_apart(tmp_path, texts, message) == [("ok", ["boilerplate"])] * 20
    # Ten rows are no custom, nor are copies of one.
    few, copies = inside[:10], numbered(*([TEMPLATE, "Name the hat"] for _ in range(20)))
    assert {status for status, _ in told_apart(tmp_path, texts, few)} == {"filtered:leak:quoting:coverage"}
    assert {status for status, _ in told_apart(tmp_path, texts, copies)} == {"filtered:leak:quoting:coverage"}


def test_boilerplate_depends_on_no_order(tmp_path: Path) -> None:
    texts = texts_file(tmp_path, quoting=QUOTING)
    rows = numbered(*([f"{TEMPLATE} Name the hat number {n}"] for n in range(11)), [words("clean")], [QUOTING])
    assert told_apart(tmp_path, texts, rows[::-1]) == told_apart(tmp_path, texts, rows)


def test_a_leaked_prompt_with_many_responses_or_beside_a_template_stays_a_leak(tmp_path: Path) -> None:
    texts = texts_file(tmp_path, ours=PROMPT, quoting=QUOTING)
    judged = numbered(*([f"Judge this. {PROMPT} {words(f'answer{n}x')}"] for n in range(20)))
    assert told_apart(tmp_path, texts, judged) == [("filtered:leak:ours:coverage", ["coverage"])] * 20
    rows = numbered(*([f"{TEMPLATE} Name the hat number {n}"] for n in range(20)), [f"{TEMPLATE} {PROMPT}"])
    assert told_apart(tmp_path, texts, rows)[20] == ("filtered:leak:ours:coverage", ["boilerplate", "coverage"])
    # A part of the same text that the others have not, and the whole of it, are leaks beside the template.
    part = " ".join(QUOTING.split()[:30])
    rows = numbered(
        *([f"{TEMPLATE} Name the hat number {n}"] for n in range(20)), [TEMPLATE, part], [TEMPLATE, QUOTING]
    )
    found = told_apart(tmp_path, texts, rows)
    assert found[20] == ("filtered:leak:quoting:coverage", ["coverage"])
    assert found[21] == ("filtered:leak:quoting:exact", ["exact"])


def test_a_short_prompt_inside_a_longer_text_is_a_run_and_a_phrase_is_none(tmp_path: Path) -> None:
    asked, phrase, three = "Explain quantum tunnelling to a child", "Tell me a fun fact", "Hi, how are you"
    greetings = [("chats", f"{phrase} I am guest number {n}") for n in range(10)]
    own = [("ours", asked), ("other", asked), ("ours", phrase), ("ours", three)]
    names, said = zip(*own, *greetings, strict=True)
    pq.write_table(pa.table({"benchmark": list(names), "text": list(said)}), tmp_path / "texts.parquet")
    inside = f"{words('judge')} {asked}. {words('answer')}"
    rows = [row(inside), row(f"User: {asked}"), row(f"{words('a')} {phrase} {three}"), row(asked)]
    long, short, free, equal = search(tmp_path / "texts.parquet", *rows)
    for found in (long, short):
        assert [(one["benchmark"], one["kind"]) for one in found["overlaps"]] == [("other", "run"), ("ours", "run")]
        assert found["overlaps"][0]["shared"] == asked.lower() and found["status"].startswith("filtered:leak")
    assert free["overlaps"] == [] and free["status"] == "ok"
    assert {one["kind"] for one in equal["overlaps"]} == {"exact"}


def test_a_prompt_that_another_text_quotes_too_and_a_part_beside_a_template_stay_leaks(tmp_path: Path) -> None:
    texts = texts_file(tmp_path, ours=PROMPT, longer=f"{words('x')} {PROMPT} {words('y')}")
    judged = numbered(*([f"Judge this. {PROMPT} {words(f'answer{n}x')}"] for n in range(20)))
    expected = ("filtered:leak:ours:coverage", ["boilerplate", "coverage"])
    assert told_apart(tmp_path, texts, judged) == [expected] * 20
    around = [[f"{TEMPLATE} Name the hat number {n}"] for n in range(20)]
    part = " ".join(QUOTING.split()[:30])
    found = told_apart(tmp_path, texts_file(tmp_path, quoting=QUOTING), numbered(*around, [f"{TEMPLATE} {part}"]))
    assert found[20] == ("filtered:leak:quoting:coverage", ["coverage"])

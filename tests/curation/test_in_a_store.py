"""Pieces of the rooms with their places in a store (fsspec's memory): the same results as on a disk."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.config import load_config
from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.ray_internals import SUBMITTED
from pipelines.core.records import EXAMPLE
from pipelines.core.stage import to_table
from pipelines.core.storage import Place, Url, place
from pipelines.curation import near_duplicates as near
from pipelines.curation.config import NearDuplicatesConfig
from pipelines.curation.duplicates import find_duplicates
from pipelines.datasets.readers import contents, data_files, read_raw
from pipelines.datasets.spec import DatasetSpec, adapt
from pipelines.engines import models
from pipelines.judge_job.publish import check_output
from pipelines.training import metrics
from pipelines.training.callbacks import EventFiles

WORDS = [f"word{number}" for number in range(500)]


@pytest.fixture
def memory() -> Url:
    """An empty place."""
    found = place(f"memory://rooms/{uuid.uuid4().hex}")
    assert isinstance(found, Url)
    return found


def rows() -> pa.Table:
    """Six rows: two with equal content, two that are nearly alike."""
    draw, made = random.Random(0), []
    for at in range(6):
        text = " ".join(draw.choices(WORDS, k=150))
        row: dict[str, Any] = {"raw_id": f"s:0000.{at:09d}", "source": "s", "task": "classification", "status": "ok"}
        row |= {"instruction": text, "responses": ["yes"], "verdict": "Yes", "allowed": ["Yes", "No"]}
        made.append(row | {"content_hash": f"{at if at != 1 else 0}"})
    made[3]["instruction"] = f"{made[2]['instruction']} word1"
    return to_table(made, EXAMPLE)


def duplicates_in(folder: Place) -> list[list[dict[str, Any]]]:
    """What the searches for exact and near duplicates list."""
    storage.write_table(folder / "rows" / "0.parquet", rows())
    find_duplicates(folder / "rows", folder / "exact.parquet", ["s"])
    near.sign(folder / "rows" / "0.parquet", folder / "signed" / "0.parquet", ngram=5)
    files = (folder / "signed", folder / "rows", folder / "exact.parquet", folder / "near.parquet")
    near.match(*files, NearDuplicatesConfig(), ["s"])
    return [storage.read_table(folder / name).to_pylist() for name in ("exact.parquet", "near.parquet")]


def test_duplicates_are_those_of_a_disk(memory: Url, tmp_path: Path) -> None:
    found = duplicates_in(memory)
    assert found == duplicates_in(tmp_path)
    assert [len(listed) for listed in found] == [1, 1]


@pytest.mark.parametrize("packed", [False, True])
def test_sources_are_read_from_a_data_root_in_a_store(memory: Url, tmp_path: Path, packed: bool) -> None:
    import gzip

    lines = "".join(json.dumps({"q": f"row {number}", "n": "1"}) + "\n" for number in range(5)).encode()
    for root in (memory, tmp_path):
        for name in ("a.jsonl", "b.jsonl"):
            storage.write_bytes(root / "deep" / name, gzip.compress(lines, mtime=0) if packed else lines)
    fields = {"instruction": "record.q", "responses": "[record.q]", "verdict": "record.n"}
    named = {"name": "mine", "task": "absolute", "license": "MIT", "allowed": "1..5", "fields": fields}
    spec = DatasetSpec.model_validate({**named, "files": ["deep/*.jsonl"]})
    read = [[row for raw in read_raw(spec, root) for row in adapt(spec, raw)] for root in (memory, tmp_path)]
    assert read[0] == read[1] and len(read[0]) == 10
    assert contents(spec, memory) == contents(spec, tmp_path)
    assert data_files(str(memory)) == [f"{memory}/deep/a.jsonl", f"{memory}/deep/b.jsonl"]
    gone = DatasetSpec.model_validate({**named, "files": ["none/*.jsonl"]})
    with pytest.raises(UserError, match="no such file"):
        list(read_raw(gone, memory))


def test_a_model_is_copied_once_for_each_content(
    memory: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENSELENE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"no model there: there is no config\.json"):
        models.resolve(str(memory / "judge"))
    for name in ("config.json", "model.safetensors"):
        storage.write_text(memory / "judge" / name, name)
    own = models.resolve(str(memory / "judge"))
    assert models.resolve(str(memory / "judge")) == own and Path(own).name == "judge"
    assert models.identity(str(memory / "judge")) == storage.content_digest(Path(own))
    assert models.everywhere(str(memory / "judge"), "train.model") == str(memory / "judge")
    storage.write_text(memory / "judge" / "model.safetensors", "model.SAFETENSORS")
    assert models.resolve(str(memory / "judge")) != own


def test_logs_are_written_and_read(memory: Url, tmp_path: Path) -> None:
    log = metrics.Log(memory / "metrics.jsonl")
    log.append({"step": 1, "elapsed": 1.0})
    log.flush()
    assert metrics.read(memory / "metrics.jsonl") == [{"step": 1, "elapsed": 1.0}]
    assert metrics.Log(memory / "metrics.jsonl").rewind(1) == 1.0
    events = EventFiles(memory / "tensorboard", tmp_path / "events")
    (tmp_path / "events" / "run").mkdir(parents=True)
    (tmp_path / "events" / "run" / "file").write_text("x")

    class First:
        is_world_process_zero = True

    events.on_save(None, First(), None)  # type: ignore[arg-type]
    assert storage.read_text(memory / "tensorboard" / "run" / "file") == "x"
    assert EventFiles(tmp_path, tmp_path / "events").folder == tmp_path  # a disk needs no copy


def test_a_folder_of_judgments_must_hold_nothing_else(memory: Url) -> None:
    check_output(memory / "out", [memory / "in" / "a.jsonl"])
    with pytest.raises(UserError, match="holds the input"):
        check_output(memory, [memory / "in" / "a.jsonl"])
    storage.write_text(memory / "out" / "x", "")
    with pytest.raises(UserError, match="holds files that are no judgments"):
        check_output(memory / "out", [])


def test_a_config_keeps_urls_as_they_are() -> None:
    config = load_config("local", ["out_dir=s3://bucket/run", "data_root=gs://bucket/a", "train.reference=s3://b/r"])
    assert [str(one) for one in (config.out_dir, config.data_root, config.train.reference)] == [
        "s3://bucket/run",
        "gs://bucket/a",
        "s3://b/r",
    ]
    assert str(config.run.pairs) == "s3://bucket/run/curated/data"
    assert config.model_dump(mode="json")["out_dir"] == "s3://bucket/run"


def test_a_submitted_job_takes_no_relative_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SUBMITTED, "{}")
    with pytest.raises(UserError, match="'out/x' would be in the job's copy of the code"):
        load_config("local", ["out_dir=out/x"])
    for named in (str(tmp_path), "s3://bucket/run"):
        assert str(load_config("local", [f"out_dir={named}"]).out_dir) == named


def test_the_sign_of_a_submitted_job_is_ray_s_own() -> None:
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    assert SUBMITTED == RAY_JOB_CONFIG_JSON_ENV_VAR

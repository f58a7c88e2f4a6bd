"""run.json: an entry for each job of a folder, whatever became of it, and none lost to another."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import outcome
from pipelines.config import Config, load_config
from pipelines.core import step, storage
from pipelines.core.errors import TooManyErrors, UserError
from pipelines.core.storage import place
from pipelines.run_log import facts
from pipelines.run_log.log import logged, read

LEDGER = {"a": {"in": 3, "ok": 2, "filtered": 1, "error": 0, "reasons": {}}}


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(facts.COMMIT, "abc")


def config_in(folder: Any) -> Config:
    return load_config("local", [f"out_dir={folder}", "seed=3"])


def run(config: Config, job: str = "curate", raises: BaseException | None = None, *steps: str) -> dict[str, Any]:
    """The entry of a job that does some steps and ends."""
    try:
        with logged(config, job, outcome):
            for name in steps:
                result = {"rows": 3, "seconds": 1.5, "tokens": 7, "ledger": LEDGER}
                step.once(config.run.work / name, {"x": 1}, lambda _, result=result: result)
            if raises:
                raise raises
    except BaseException as exc:
        assert exc is raises
    return read(config.run.log)[-1]


def test_an_entry_has_all_that_tells_what_the_job_was(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    entry = run(config, "curate", None, "prepare", "mix")
    assert (entry["job"], entry["exit_code"], entry["error"], entry["commit"]) == ("curate", 0, None, "abc")
    assert entry["started"] <= entry["ended"] and entry["seconds"] >= 0
    assert entry["config"] == config.model_dump(mode="json")
    assert entry["versions"] == facts.versions()
    assert entry["nodes"] == [] and entry["cost"]["dollars"] == 0
    assert entry["tokens"] == 14
    first = entry["steps"][0]
    assert first.pop("seconds_in_this_job") >= 0
    assert first == {
        "step": "work/prepare",
        "state": "done",
        "rows": 3,
        "seconds": 1.5,
        "tokens": 7,
        "ok": 2,
        "filtered": 1,
        "error": 0,
    }


def test_several_jobs_in_a_folder_each_have_an_entry_the_newest_last(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    for job in ("curate", "train", "train"):
        run(config, job)
    entries = read(config.run.log)
    assert [entry["job"] for entry in entries] == ["curate", "train", "train"]
    assert len({entry["id"] for entry in entries}) == 3


@pytest.mark.parametrize(
    ("raises", "code", "error"),
    [
        (UserError("no such model", where="train.model"), 2, "train.model: no such model"),
        (TooManyErrors("too many\nof them"), 1, "too many of them"),
        (ZeroDivisionError("by zero\nmore"), 1, "ZeroDivisionError: by zero more"),
        (KeyboardInterrupt(), 130, "stopped"),
        (SystemExit(15), 15, "ended with 15"),
    ],
)
def test_a_job_that_fails_has_its_exit_code_and_one_line(
    tmp_path: Path, raises: BaseException, code: int, error: str
) -> None:
    entry = run(config_in(tmp_path), "curate", raises, "prepare")
    assert (entry["exit_code"], entry["error"]) == (code, error)
    assert entry["ended"] and [one["step"] for one in entry["steps"]] == ["work/prepare"]


def test_a_step_that_was_cut_off_and_one_that_was_done_before_say_so(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    run(config, "curate", None, "prepare")

    def fail(_: Any) -> None:
        raise ValueError

    with pytest.raises(ValueError), logged(config, "curate", outcome):
        step.once(config.run.work / "prepare", {"x": 1}, fail)
        step.once(config.run.work / "mix", {"x": 1}, fail)
    before, cut_off = read(config.run.log)[-1]["steps"]
    assert (before["step"], before["state"], before["rows"]) == ("work/prepare", "done before", 3)
    assert "seconds_in_this_job" not in before
    assert (cut_off["step"], cut_off["state"]) == ("work/mix", "not finished")
    assert read(config.run.log)[-1]["tokens"] == 0  # those of the step were another job's


def test_a_step_of_this_job_stays_so_when_it_is_asked_for_again(tmp_path: Path) -> None:
    entry = run(config_in(tmp_path), "curate", None, "prepare", "prepare")
    assert [one["state"] for one in entry["steps"]] == ["done"]


def test_a_killed_job_leaves_an_entry_without_an_end(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    with logged(config, "curate", outcome):
        (entry,) = read(config.run.log)  # what a kill here would leave
    assert entry["ended"] is None and entry["exit_code"] is None and entry["config"]["seed"] == 3


def test_a_job_whose_entry_cannot_be_written_at_its_end_still_ends_as_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ZeroDivisionError), logged(config_in(tmp_path), "curate", outcome):
        monkeypatch.setattr(storage, "write_json", full)
        raise ZeroDivisionError
    assert "run.json: not written, No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [1]}', "nonsense"])
def test_a_file_that_is_not_a_log_is_refused_before_any_work(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match="not a log of runs"), logged(config_in(tmp_path), "curate", outcome):
        pytest.fail("worked")
    assert (tmp_path / "run.json").read_text() == text


def test_no_secret_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_TOKEN", "open-sesame-123")
    config = load_config(
        "local", [f"out_dir={tmp_path}", "curation.critique.engine.engine_args={hf_token: sesame-in-a-config}"]
    )
    run(config, "curate", UserError("refused open-sesame-123"))
    text = (tmp_path / "run.json").read_text()
    assert "sesame" not in text and '"hf_token": "***"' in text


def test_in_a_store_the_log_is_an_object() -> None:
    config = config_in(f"memory://log-{uuid.uuid4().hex}/run")
    run(config, "curate", None, "prepare")
    run(config, "train")
    assert [entry["job"] for entry in read(config.run.log)] == ["curate", "train"]
    text = storage.read_text(place(f"{config.out_dir}/run.json"))
    assert json.loads(text)["runs"][0]["steps"][0]["step"] == "work/prepare"

"""A step is done once: another config is refused, a draft is no result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pipelines
from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.step import CLAIM, DONE, JOURNAL, fingerprint, finished, once, require_whole, result_of
from pipelines.core.storage import Place, write_text


def test_a_step_writes_once_and_is_read_afterwards(tmp_path: Path) -> None:
    calls: list[Place] = []

    def write(folder: Place) -> dict[str, int]:
        calls.append(folder)
        return {"rows": 7}

    first = once(tmp_path / "s", {"lr": 1}, write)
    assert first == {"fingerprint": fingerprint({"lr": 1}), "rows": 7}
    assert once(tmp_path / "s", {"lr": 1}, write) == first == finished(tmp_path / "s", {"lr": 1})
    assert calls == [tmp_path / "s"]


def test_the_marker_is_written_last(tmp_path: Path) -> None:
    def write(folder: Place) -> None:
        assert sorted(path.name for path in folder.iterdir()) == [CLAIM]

    once(tmp_path, {}, write)
    assert result_of(tmp_path) == {"fingerprint": fingerprint({})}


def test_a_step_that_failed_is_tried_again_and_was_no_result(tmp_path: Path) -> None:
    def fail(folder: Place) -> None:
        (folder / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        once(tmp_path, {"lr": 1}, fail)
    assert finished(tmp_path, {"lr": 1}) is None
    assert result_of(tmp_path) is None
    with pytest.raises(UserError, match=r"not written to its end \(run curate again\)"):
        require_whole(tmp_path, "run curate again")
    assert once(tmp_path, {"lr": 1}, lambda folder: {"saw": (folder / "half").exists()})["saw"]
    require_whole(tmp_path, "")


def test_a_folder_no_step_has_claimed_is_the_user_s_own(tmp_path: Path) -> None:
    require_whole(tmp_path, "")
    require_whole(tmp_path / "none", "")


@pytest.mark.parametrize("done", [True, False])
def test_folder_of_another_config_is_refused_and_every_changed_key_named(tmp_path: Path, done: bool) -> None:
    once(tmp_path, {"lr": 1, "seed": 0, "gone": {"a": [1]}}, lambda folder: write_text(folder / "rows" / "0", "half"))
    if not done:
        (tmp_path / DONE).unlink()
    with pytest.raises(UserError, match=r"changed: gone, lr, new\).*choose another out_dir"):
        once(tmp_path, {"lr": 2, "seed": 0, "new": 1}, lambda folder: None, resumes=True)
    # Changed back, it is what it was.
    assert once(tmp_path, {"lr": 1, "seed": 0, "gone": {"a": [1]}}, lambda folder: {"n": 1}).get("n", 1) == 1


def test_a_mistake_that_is_corrected_before_anything_was_read_locks_nothing(tmp_path: Path) -> None:
    def refuse(folder: Place) -> None:
        write_text(folder / JOURNAL / "note", "a worker began")
        raise UserError("no such model")

    with pytest.raises(UserError, match="no such model"):
        once(tmp_path, {"model": "typo"}, refuse, resumes=True)
    assert once(tmp_path, {"model": "right"}, lambda folder: {"n": 1}, resumes=True)["n"] == 1
    assert once(tmp_path, {"model": "right"}, lambda folder: {"n": 2}, resumes=True)["n"] == 1


def test_a_draft_that_nobody_resumes_is_no_reason_to_refuse(tmp_path: Path) -> None:
    def fail(folder: Place) -> None:
        write_text(folder / "rows" / "0", "half")
        raise UserError("the mapping is wrong")

    with pytest.raises(UserError, match="mapping"):
        once(tmp_path, {"source": "wrong"}, fail)
    assert once(tmp_path, {"source": "right"}, lambda folder: {"n": 1})["n"] == 1
    with pytest.raises(UserError, match=r"changed: source\)"):  # now it is a result
        once(tmp_path, {"source": "wrong"}, fail)


def test_a_result_depends_on_the_version_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once(tmp_path, {"lr": 1}, lambda folder: None)
    monkeypatch.setattr(step, "__version__", "99")
    with pytest.raises(UserError, match=r"changed: openselene\)"):
        once(tmp_path, {"lr": 1}, lambda folder: None)
    monkeypatch.undo()
    assert finished(tmp_path, {"lr": 1}) is not None


def test_keys_in_another_order_are_the_same_config(tmp_path: Path) -> None:
    once(tmp_path, {"a": 1, "b": [2, 3]}, lambda folder: {"n": 1})
    assert once(tmp_path, {"b": (2, 3), "a": 1}, lambda folder: {"n": 2})["n"] == 1


def test_the_claim_says_what_the_result_depends_on(tmp_path: Path) -> None:
    once(tmp_path, {"lr": 1}, lambda folder: None)
    assert json.loads((tmp_path / CLAIM).read_text())["depends"] == {"openselene": pipelines.__version__, "lr": 1}

"""The shared command line: exit codes, one clear line, no traceback for a user's mistake."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.errors import LedgerError, UserError, WorkersFailed

GOOD = "out_dir: out\ncuration: {sources: []}\nevaluation: {benchmarks: []}\n"
Job = Callable[[Config], None]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`out` is where the test runs, and two processes of the suite may be at it at once."""
    monkeypatch.chdir(tmp_path)


def run(folder: Path, *arguments: str, text: str | None = GOOD, job: Job = lambda config: None) -> Result:
    path = folder / "config.yaml"
    if text is not None:
        path.write_text(text)
    app = command(job, lambda config: ["the plan"], "About the job.\n\nMore.")
    return CliRunner().invoke(app, ["--config", str(path), *arguments])


def only_line(result: Result) -> str:
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    return str(lines[0])


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        (None, None, "config.yaml: no such file"),
        ("a: [", None, "config.yaml: not valid YAML at line"),
        ("- a", None, "not a mapping"),
        (GOOD + "trian: {}\n", None, "unknown key 'trian' (did you mean 'train'?)"),
        (GOOD, "train.alpa=2", "unknown key 'train.alpa' (did you mean 'train.alpha'?)"),
        (GOOD, "train.alpha=much", "key 'train.alpha'"),
        (GOOD, "train.alpha", "'train.alpha' is not key.path=value"),
        (GOOD, "curation.critique.engine.engine_args={trust_remote_code: true}", "never allowed"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(tmp_path, text, override, message) -> None:
    result = run(tmp_path, *([override] if override else []), text=text)
    assert result.exit_code == 2
    assert message in only_line(result)


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_folder_that_cannot_be_made_is_one_line_before_any_work(tmp_path, flags: list[str]) -> None:
    (tmp_path / "file").write_text("")
    result = run(tmp_path, f"out_dir={tmp_path / 'file' / 'out'}", *flags, job=lambda config: pytest.fail("ran"))
    assert result.exit_code == 2
    assert f"file/out: cannot be made, because {tmp_path / 'file'} is a file" in only_line(result)


def test_a_data_root_that_is_not_there_is_one_line(tmp_path) -> None:
    result = run(tmp_path, f"data_root={tmp_path / 'gone'}", job=lambda config: pytest.fail("ran"))
    assert result.exit_code == 2
    assert f"data_root {tmp_path / 'gone'}: no such folder" in only_line(result)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_a_disk_that_refuses_is_one_line(tmp_path, number: int) -> None:
    def job(config: Config) -> None:
        try:
            raise OSError(number, os.strerror(number), "out/work/rows")
        except OSError as exc:
            raise RuntimeError("a task failed") from exc

    result = run(tmp_path, job=job)
    assert result.exit_code == 2
    assert only_line(result).endswith(f"out/work/rows: {os.strerror(number)}")


def test_a_later_override_replaces_an_earlier_one(tmp_path) -> None:
    seen: list[Config] = []
    assert run(tmp_path, "seed.x=1", "seed=2", job=seen.append).exit_code == 0
    assert seen[0].seed == 2


def test_dry_run_prints_config_and_plan_and_runs_nothing(tmp_path) -> None:
    def job(config: Config) -> None:
        raise AssertionError("must not run")

    result = run(tmp_path, "--dry-run", "train.beta=0.5", job=job)
    assert result.exit_code == 0
    assert "beta: 0.5" in result.stdout and "the plan" in result.stdout


def test_only_and_skip_choose_sources(tmp_path) -> None:
    seen: list[Config] = []
    named = "curation.sources=[a, b, c]"
    assert run(tmp_path, named, "--only", "a", "--only", "b", "--skip", "a", job=seen.append).exit_code == 0
    assert seen[0].curation.sources == ["b"]
    wrong = run(tmp_path, named, "--skip", "d")
    assert wrong.exit_code == 2 and "'d' is not a source of this config" in only_line(wrong)


def test_unbalanced_ledger_is_exit_code_1(tmp_path) -> None:
    def job(config: Config) -> None:
        raise LedgerError("3 rows in, 2 out")

    result = run(tmp_path, job=job)
    assert result.exit_code == 1
    assert "3 rows in, 2 out" in only_line(result)


def test_mistake_found_by_a_worker_is_still_one_line(tmp_path) -> None:
    def job(config: Config) -> None:
        try:
            raise UserError("no such model", where="train.model")
        except UserError as exc:
            raise RuntimeError("a worker failed") from exc

    result = run(tmp_path, job=job)
    assert result.exit_code == 2
    assert "train.model: no such model" in only_line(result)


def last_line(folder: Path, error: Exception, code: int) -> str:
    """What stands last in the log of a job that an exception ends."""

    def job(config: Config) -> None:
        raise error

    result = run(folder, f"out_dir={folder / 'out'}", job=job)
    assert result.exit_code == code
    (entry,) = json.loads((folder / "out" / "run.json").read_text())["runs"]
    line = result.stderr.strip().splitlines()[-1]
    assert line == f"error: {entry['error']}"  # the same in the log of jobs
    return line.removeprefix("error: ")


def test_unknown_failure_keeps_its_traceback_and_ends_with_one_line(tmp_path) -> None:
    def job(config: Config) -> None:
        raise KeyError("no\nsuch") from ZeroDivisionError("division by\nzero")

    result = run(tmp_path, job=job)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.strip().splitlines()[-1] == "error: ZeroDivisionError: division by zero"


def test_what_ray_wraps_around_an_exception_of_a_task_is_not_what_is_said(tmp_path) -> None:
    from ray.exceptions import RayTaskError

    text = "\x1b[36mray::task()\x1b[39m (pid=1)\n  File x\nValueError: no\nmore"
    wrapped = RayTaskError("task", text, ValueError("no\nmore")).as_instanceof_cause()
    assert last_line(tmp_path, wrapped, 1) == "ValueError: no more"


def test_a_mistake_that_ray_wraps_is_a_mistake(tmp_path) -> None:
    from ray.exceptions import RayTaskError
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    mistake = UserError("needs 16 GiB", where="the engine of model 'x' cannot start", fix="lower max_model_len")
    line = "the engine of model 'x' cannot start: needs 16 GiB (lower max_model_len)"
    task = RayTaskError("task", "ray::task()\nTraceback", mistake).as_instanceof_cause()
    for number, wrapped in enumerate((task, WorkerGroupError("[Rank 1]", {1: task}), ControllerError(task))):
        (tmp_path / str(number)).mkdir()
        assert last_line(tmp_path / str(number), wrapped, 2) == line


def test_an_actor_that_ray_could_not_start_ends_with_its_exception(tmp_path) -> None:
    from ray.exceptions import ActorDiedError, RayTaskError

    text = "\x1b[36mray::Actor.__init__()\x1b[39m (pid=1)\nTraceback (most recent call last):\n x\nOSError: no weights"
    died = ActorDiedError(RayTaskError("__init__", text, OSError("no weights")))
    assert last_line(tmp_path, died, 1) == "OSError: no weights"


def test_a_node_that_died_is_one_line(tmp_path) -> None:
    from ray.exceptions import OutOfMemoryError

    died = OutOfMemoryError("Task was killed due to the node running low on memory.\nMemory on the node: 31 of 32 GB.")
    assert last_line(tmp_path, died, 1).startswith("OutOfMemoryError: Task was killed due to the node running low")


def test_workers_that_failed_leave_their_traceback_above_the_line(tmp_path) -> None:
    def job(config: Config) -> None:
        raise WorkersFailed("segment 's': no worker finishes anything: RuntimeError: CUDA error\nTraceback\n  File x")

    result = run(tmp_path, job=job)
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines() == [
        "Traceback", "  File x", "error: segment 's': no worker finishes anything: RuntimeError: CUDA error",
    ]  # fmt: skip


def test_stop_by_the_user_says_how_to_go_on(tmp_path) -> None:
    def job(config: Config) -> None:
        raise KeyboardInterrupt

    result = run(tmp_path, job=job)
    assert result.exit_code == 130
    assert "same command again" in only_line(result)


def test_relative_paths_become_absolute(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Config] = []
    assert run(tmp_path, job=seen.append).exit_code == 0
    assert seen[0].out_dir == tmp_path / "out"


def test_every_job_leaves_an_entry_in_run_json(tmp_path: Path) -> None:
    def curate(config: Config) -> None:
        raise UserError("no such model", where="train.model")

    assert run(tmp_path, f"out_dir={tmp_path / 'out'}").exit_code == 0
    assert run(tmp_path, f"out_dir={tmp_path / 'out'}", job=curate).exit_code == 2
    assert run(tmp_path, f"out_dir={tmp_path / 'out'}", "--dry-run").exit_code == 0
    done, failed = json.loads((tmp_path / "out" / "run.json").read_text())["runs"]
    assert (done["exit_code"], failed["exit_code"]) == (0, 2)
    assert failed["job"] == "curate" and failed["error"] == "train.model: no such model"


def test_an_option_of_files_takes_all_that_a_shell_makes_of_a_pattern(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    (tmp_path / "config.yaml").write_text(GOOD)
    app = command(lambda config: seen.append(config.leaks.sets), lambda config: [], "About.", files="leaks.sets")
    options = ["--config", str(tmp_path / "config.yaml"), "--sets", "a.jsonl", "b.jsonl", "seed=3", "--sets", "c d.csv"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.stderr
    assert [[Path(one).name for one in found] for found in seen] == [["a.jsonl", "c d.csv", "b.jsonl"]]


def test_other_jobs_do_not_have_it(tmp_path: Path) -> None:
    assert run(tmp_path, "--sets", "a.jsonl").exit_code == 2
    assert "--sets" not in run(tmp_path, "--help").stdout

"""The shared command line: exit codes, one clear line, no traceback for a user's mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.core.cli import _run
from pipelines.core.config import Config
from pipelines.core.errors import LedgerError, UserError

GOOD = "out_dir: out\ncuration: {sources: []}\nevaluation: {benchmarks: []}\n"


def run(tmp_path: Path, text: str | None = GOOD, overrides: tuple[str, ...] = (), job=None, dry: bool = False) -> int:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    return _run(job or (lambda config: None), lambda config: ["the plan"], path, list(overrides), dry)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (None, (), "config.yaml: no such file"),
        ("a: [", (), "config.yaml: not valid YAML at line"),
        ("- a", (), "not a mapping"),
        (GOOD + "trian: {}\n", (), "unknown key 'trian' (did you mean 'train'?)"),
        (GOOD, ("train.alpa=2",), "unknown key 'train.alpa' (did you mean 'train.alpha'?)"),
        (GOOD, ("train.alpha=much",), "key 'train.alpha'"),
        (GOOD, ("train.alpha",), "'train.alpha' is not key.path=value"),
        (GOOD, ("seed.x=1", "seed=2"), None),
        (GOOD, ("curation.critique.engine.engine_args={trust_remote_code: true}",), "never allowed"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(tmp_path, capsys, text, overrides, message) -> None:
    code = run(tmp_path, text, overrides)
    if message is None:
        assert code == 0
    else:
        assert code == 2
        assert message in last_line(capsys)


def test_dry_run_prints_config_and_plan_and_runs_nothing(tmp_path, capsys) -> None:
    def job(config: Config) -> None:
        raise AssertionError("must not run")

    assert run(tmp_path, job=job, dry=True, overrides=("train.beta=0.5",)) == 0
    out = capsys.readouterr().out
    assert "beta: 0.5" in out and "the plan" in out


def test_unbalanced_ledger_is_exit_code_1(tmp_path, capsys) -> None:
    def job(config: Config) -> None:
        raise LedgerError("3 rows in, 2 out")

    assert run(tmp_path, job=job) == 1
    assert "3 rows in, 2 out" in last_line(capsys)


def test_mistake_found_by_a_worker_is_still_one_line(tmp_path, capsys) -> None:
    def job(config: Config) -> None:
        try:
            raise UserError("no such model", where="train.model")
        except UserError as exc:
            raise RuntimeError("a worker failed") from exc

    assert run(tmp_path, job=job) == 2
    assert "train.model: no such model" in last_line(capsys)


def test_unknown_failure_keeps_its_traceback(tmp_path) -> None:
    def job(config: Config) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, job=job)


def test_stop_by_the_user_says_how_to_go_on(tmp_path, capsys) -> None:
    def job(config: Config) -> None:
        raise KeyboardInterrupt

    assert run(tmp_path, job=job) == 130
    assert "same command again" in last_line(capsys)


def test_relative_paths_become_absolute(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Config] = []
    assert run(tmp_path, job=seen.append) == 0
    assert seen[0].out_dir == tmp_path / "out"

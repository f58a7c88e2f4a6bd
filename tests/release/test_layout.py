"""The model's folder: what is in it, what is not, and an adapter merged into its base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from pipelines.core.errors import UserError
from pipelines.release import layout
from tests.training.tiny import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def test_the_folder_is_the_model_greedy_and_without_traces_of_a_machine(model: Path, tmp_path: Path) -> None:
    given = Path(shutil.copytree(model, tmp_path / "given"))
    config = json.loads((given / "config.json").read_text())
    (given / "config.json").write_text(json.dumps({**config, "_name_or_path": "/home/me/secret"}))
    (given / "notes.txt").write_text("mine")
    (given / "code.py").write_text("print('run me')")
    (given / "LICENSE").write_text("the licence")
    layout.write_model(str(given), tmp_path / "out", "as trained", str(given))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "LICENSE"} <= names
    assert not {"notes.txt", "code.py"} & names
    assert (tmp_path / "out/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert all("/home/me" not in path.read_text() for path in (tmp_path / "out").glob("*.json"))
    said = GenerationConfig.from_pretrained(tmp_path / "out")
    assert said.do_sample is False and 2 in said.eos_token_id  # <|im_end|>


def test_weights_are_written_in_the_type_that_is_asked_for(model: Path, tmp_path: Path) -> None:
    layout.write_model(str(model), tmp_path / "out", "bfloat16", str(model))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_a_model_with_code_of_its_own_is_refused(model: Path, tmp_path: Path) -> None:
    given = Path(shutil.copytree(model, tmp_path / "given"))
    config = json.loads((given / "config.json").read_text())
    (given / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "code.Model"}}))
    with pytest.raises(UserError, match="auto_map"):
        layout.write_model(str(given), tmp_path / "out", "as trained", str(given))


def test_a_model_without_a_chat_template_is_refused(model: Path, tmp_path: Path) -> None:
    given = Path(shutil.copytree(model, tmp_path / "given"))
    (given / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        layout.write_model(str(given), tmp_path / "out", "as trained", str(given))


def test_an_adapter_is_merged_and_computes_the_same(model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    torch.manual_seed(0)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        wanted, plain = adapted(ids).logits, AutoModelForCausalLM.from_pretrained(model)(ids).logits
    assert layout.is_adapter(str(tmp_path / "adapter")) and not layout.is_adapter(str(model))
    layout.merge_into(str(tmp_path / "adapter"), str(model), tmp_path / "merged")
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
    assert torch.allclose(found, wanted, atol=1e-5) and not torch.allclose(found, plain, atol=1e-2)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template

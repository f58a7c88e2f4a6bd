"""The model's folder in the Hugging Face layout: safetensors, tokenizer, chat template, generation config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.storage import Place
from pipelines.engines.models import HUB_ID, build_once, cache, quiet_transformers, resolve

ADAPTER = "adapter_config.json"
INDEX = "model.safetensors.index.json"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
# Of the machine where the model was saved, and of no use to anybody else.
LOCAL_KEYS = ("_name_or_path", "name_or_path", "is_local", "local_files_only", "gguf_file")
NOTICES = ("LICENSE", "LICENSE.txt", "NOTICE", "NOTICE.txt", "USE_POLICY.md")


def merge_into(adapter: str, base: str, out: Place) -> None:
    """Write the whole model that a LoRA adapter and its base are, merged in float32.

    Args:
        adapter: folder of the adapter.
        base: the model that it was trained on.
        out: folder to write.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, base = resolve_adapter(adapter), resolve(base)
    with quiet_transformers(), storage.local_folder(out, last="config.json") as local:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        whole: Any = PeftModel.from_pretrained(model, source).merge_and_unload()
        whole.save_pretrained(local)
        has_tokenizer = storage.exists(Path(source) / "tokenizer_config.json")
        AutoTokenizer.from_pretrained(source if has_tokenizer else base).save_pretrained(local)


def resolve_adapter(adapter: str) -> str:
    """Path of an adapter's folder on this machine: `resolve` wants a whole model."""
    place = storage.place(adapter)
    if isinstance(place, Path):
        return str(place)
    folder = cache() / "adapters" / storage.state_of(place)
    return str(build_once(folder, lambda draft: storage.download(place, draft)))


def is_adapter(model: str) -> bool:
    """Whether a model's folder holds a LoRA adapter and no whole model."""
    return storage.exists(storage.place(model) / ADAPTER) and not storage.exists(storage.place(model) / "config.json")


def write_model(source: str, out: Place, dtype: str, base: str) -> None:
    """Fill a folder with all that transformers and vLLM need, and nothing else.

    Args:
        source: folder of a whole model.
        out: folder to write.
        dtype: of the weights: a type of torch, or `as trained`.
        base: the base model, whose licence files go with it.

    Raises:
        UserError: the model needs code of its own, or has no usable chat template.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.judging.chat import end_of_turn

    given = Path(resolve(source))
    if not storage.exists(given):
        raise UserError("is a model of the hub: it is released already", where=f"release.model {source}")
    refuse_own_code(given)
    tokenizer = AutoTokenizer.from_pretrained(given)
    end = end_of_turn(tokenizer)  # an unusable chat template is refused here
    with quiet_transformers(), storage.local_folder(out, last="config.json") as local:
        weights = [path.name for path in storage.files(given) if path.name == INDEX or path.suffix == ".safetensors"]
        if dtype == "as trained" and weights:
            for name in ("config.json", *weights):
                storage.download(given / name, local)
        else:
            kind = "auto" if dtype == "as trained" else dtype
            AutoModelForCausalLM.from_pretrained(given, dtype=kind).save_pretrained(local)
        for name in TOKENIZER:
            if storage.exists(given / name):
                storage.download(given / name, local)
        if not storage.exists(local / "chat_template.jinja"):  # an older layout has it in tokenizer_config.json
            tokenizer.save_pretrained(local)
        for name in ("config.json", "tokenizer_config.json"):
            _clean(local / name)
        _generation(given, local, end)
        for path in licence_files(base):
            storage.download(path, local)


def refuse_own_code(folder: Path) -> None:
    """Refuse a model that only loads with code of its own.

    Raises:
        UserError: its config names such code.
    """
    config = storage.read_json(folder / "config.json")
    if "auto_map" in config:
        raise UserError(
            "the model needs code of its own (auto_map), which nobody should have to trust", where=str(folder)
        )


def _clean(file: Path) -> None:
    if storage.exists(file):
        storage.write_json(
            file, {key: value for key, value in storage.read_json(file).items() if key not in LOCAL_KEYS}
        )


def _generation(given: Path, local: Path, end: int) -> None:
    """A judge answers greedily, and stops at the end of its turn."""
    from transformers import GenerationConfig

    named = storage.exists(given / "generation_config.json")
    config = GenerationConfig.from_pretrained(given) if named else GenerationConfig()
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    config.eos_token_id = sorted({stop for stop in (*stops, end) if stop is not None})
    config.do_sample, config.temperature, config.top_p, config.top_k = False, None, None, None
    config.save_pretrained(local)


def licence_files(base: str) -> list[Path]:
    """The base model's licence files: most licences ask that they go along."""
    source = resolve(base)
    if HUB_ID.fullmatch(source):
        found = [_from_hub(source, name) for name in NOTICES]
        return [path for path in found if path is not None]
    return [Path(source) / name for name in NOTICES if storage.exists(Path(source) / name)]


def _from_hub(repository: str, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, ValueError):  # no such file, no network
        return None

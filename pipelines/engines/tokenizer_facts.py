"""What counting tokens needs of a model, kept in the cache: a worker that counts need not import transformers."""

from __future__ import annotations

import functools
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core import storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.engines.models import HUB_ID, build_once, cache, resolve
from pipelines.judging.count_tokens import PROBES, Facts, TokenCounter, find_facts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What decides how a tokenizer counts, apart from the libraries that read it.
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
LIBRARIES = ("transformers", "tokenizers", "fastokens")


def token_counter(model: str) -> TokenCounter:
    """Counter of a model's tokens; the tokenizer of a local folder is loaded once per machine.

    Args:
        model: as for `resolve`.
    """
    source = resolve(model)
    load = partial(_load, source)
    return TokenCounter(find_facts(load()) if HUB_ID.fullmatch(source) else _kept(Path(source)), load)


@functools.cache  # once a process, however many batches ask
def shared_counter(model: str) -> TokenCounter:
    """The process's own counter of a model's tokens."""
    return token_counter(model)


def require_chat(model: str, where: str, *, trained: bool = False) -> None:
    """Check in the driver that a model's chat template is usable.

    Args:
        model: as for `resolve`.
        where: the config key, for the message.
        trained: it will be trained on, not only asked.

    Raises:
        UserError: it is not, and why.
    """
    try:
        facts = token_counter(model).facts
    except UserError as unusable:
        raise UserError(unusable.what, where=f"{where} ({model})", fix=unusable.fix) from None
    except (OSError, ValueError) as exc:
        first_line = str(exc).strip().split("\n", 1)[0]
        raise UserError(f"cannot load the tokenizer: {first_line}", where=f"{where} ({model})") from None
    if trained and facts.problem:
        raise UserError(facts.problem, where=f"{where} ({model})", fix="train another model")


def _load(source: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    return tokenizer


def _kept(folder: Path) -> Facts:
    contents = {path.name: storage.content_digest(path) for path in storage.files(folder) if path.name in FILES}
    versions = {name: metadata.version(name) for name in LIBRARIES}
    key = digest("tokenizer facts", contents, versions, PROBES, Facts._fields)

    def build(draft: Path) -> None:
        storage.write_json(draft / "facts.json", find_facts(_load(str(folder)))._asdict())

    found: dict[str, Any] = storage.read_json(build_once(cache() / "tokenizers" / key, build) / "facts.json")
    return Facts(**found)

"""The model that training started from: its public name and its licence."""

from __future__ import annotations

from pathlib import Path

from pipelines.core.errors import UserError
from pipelines.engines.models import EMBEDDED, HUB_ID, resolve
from pipelines.release.config import ReleaseConfig

EMBEDDED_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDED_LICENCE = "apache-2.0"


def public_name(model: str) -> str:
    """The name under which others know a model: its hub id, or the last part of its folder's path."""
    if model == EMBEDDED:
        return EMBEDDED_ID
    return model if HUB_ID.fullmatch(resolve(model)) else Path(model).name


def licence_of(model: str, config: ReleaseConfig) -> str:
    """Licence of the base model: the config's word, else that of its own card.

    Raises:
        UserError: neither says it.
    """
    if config.base_license:
        return config.base_license
    if model == EMBEDDED:
        return EMBEDDED_LICENCE
    found = _of_card(resolve(model))
    if not found:
        what = f"the licence of the base model {public_name(model)} is not known: its card names none"
        raise UserError(what, where="release.base_license", fix="name it, such as release.base_license=apache-2.0")
    return found


def _of_card(source: str) -> str | None:
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        card = ModelCard.load(source if HUB_ID.fullmatch(source) else Path(source) / "README.md")
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError):  # no card, no network
        return None
    named = card.data.get("license_name") if card.data.license == "other" else card.data.license
    return str(named) if named else None

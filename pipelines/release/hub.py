"""Push a release to the Hugging Face hub, privately unless told otherwise."""

from __future__ import annotations

from pathlib import Path

from pipelines.core import storage
from pipelines.core.errors import UserError, one_line
from pipelines.core.progress import say
from pipelines.core.storage import Place
from pipelines.release.config import ReleaseConfig


def require_token() -> None:
    """Check that there is a token, before any work.

    Raises:
        UserError: there is none.
    """
    from huggingface_hub import get_token

    if not get_token():
        fix = "set HF_TOKEN, or leave release.hub.repo out: the folder is then ready to be pushed by hand"
        raise UserError("there is no token of the hub", where="release.hub.repo", fix=fix)


def push(config: ReleaseConfig, model: Place, gguf: Place | None, data: Place) -> None:
    """Create the repositories that do not exist, and upload the folders.

    Raises:
        UserError: the hub refuses.
    """
    repo = config.hub.repo
    assert repo is not None
    _upload(config, repo, "model", model)
    if gguf is not None:
        _upload(config, f"{repo}-GGUF", "model", gguf)
    if config.hub.data:
        _upload(config, f"{repo}-data", "dataset", data)


def _upload(config: ReleaseConfig, repo: str, kind: str, folder: Place) -> None:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        # One that exists keeps its visibility.
        api.create_repo(repo, repo_type=kind, private=config.hub.private, exist_ok=True)
        with storage.scratch() as scratch:
            local = folder if isinstance(folder, Path) else storage.download(folder, scratch)
            found = api.upload_folder(
                repo_id=repo, repo_type=kind, folder_path=local, commit_message=f"Release {config.name}"
            )
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as exc:
        raise UserError(
            one_line(exc), where=f"release.hub.repo {repo}", fix="check token, name and connection"
        ) from exc
    say(f"release: pushed {found.commit_url}")

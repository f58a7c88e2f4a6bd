"""Compare the verdicts of two running judge services. Run it on a probe set before traffic moves to a new version.

The probe set is NDJSON, as `/v1/judge/batch` takes it. The key is OPENSELENE_API_KEY. Exit code 1: more verdicts turned
than --most, or a line was not judged.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import application, exit_code
from pipelines.core.errors import UserError


def main(
    old: Annotated[str, typer.Argument(metavar="OLD_URL", help="The service that has the traffic.")],
    new: Annotated[str, typer.Argument(metavar="NEW_URL", help="The one that is to have it.")],
    probe: Annotated[Path, typer.Argument(metavar="FILE", help="Probe set, one request a line.")],
    most: Annotated[float, typer.Option(min=0, max=1, help="Largest share of turned verdicts that is allowed.")] = 0.02,
) -> None:
    def work() -> None:
        from serve.client import Judge, JudgeError
        from serve.flips import flips

        try:
            lines = [json.loads(line) for line in probe.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as exc:
            raise UserError(f"not a probe set: {exc}", where=str(probe)) from None
        try:
            with Judge(old) as before, Judge(new) as after:
                found = flips(before, after, lines)
        except JudgeError as exc:
            raise UserError(str(exc), where="judge service") from None
        print(json.dumps(asdict(found), indent=1, default=dict))
        if found.lost or found.share is None or found.share > most:
            sys.exit(1)

    sys.exit(exit_code(work))


app = application(main, __doc__)

if __name__ == "__main__":
    app()

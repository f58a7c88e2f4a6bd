"""Pin a judge, or fail where another turns its verdicts. Both are known by their digests.

Exit code 0: within the bound, or pinned with certify.write=true. 1: beyond it, or a question without an answer.
2: there is no pin, or the questions are others.
"""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.release import drift


def certify(config: Config) -> None:
    """Ask the judge the questions of the probe set: -> OUT/certify/pin, or OUT/work/certify/drift.json.

    Raises:
        UserError: there is no pin, or the questions are others.
        Drifted: too many verdicts are turned.
    """
    describe(config)  # what can be refused is refused before Ray starts
    connect(config.ray, config.out_dir)
    drift.certify(config.run, config.evaluation, config.certify)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return drift.describe(config.run, config.evaluation, config.certify)


app = command(certify, describe, __doc__)

if __name__ == "__main__":
    app()

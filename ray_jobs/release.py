"""Turn the trained judge into a release. Model, GGUF files, cards, checksums, and the certificate of its parity."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.release import job


def release(config: Config) -> None:
    """Do what is left of the release: OUT/model, OUT/benchmark -> OUT/release.

    Raises:
        UserError: it is refused, and why.
    """
    job.checked(config.run, config.train, config.release)
    connect(config.ray, config.out_dir)
    job.release(config.run, config.train, config.evaluation, config.release)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.train, config.evaluation, config.release)


app = command(release, describe, __doc__)

if __name__ == "__main__":
    app()

"""Training job: fine-tune the judge on curated pairs with DPO+NLL (§2.4 of arXiv 2501.17195)."""

from __future__ import annotations

from pipelines.core.cli import command
from pipelines.core.cluster import connect
from pipelines.core.config import Config
from pipelines.training import settings


def train(config: Config) -> None:
    """Run the job, or what is left of it: OUT/curated/data -> OUT/model."""
    from pipelines.training.train import train as fit

    connect(config.ray)
    fit(config.train, config.out_dir / "curated" / "data", config.out_dir, config.seed)


def plan(config: Config) -> list[str]:
    """What the job would do."""
    t = config.train
    settings.check(t)
    if t.engine == "trl":
        batches = f"{settings.accumulation(t)} × {t.micro_batch_size} on each worker"
    else:
        batches = f"in bins of at most {t.bin_tokens} tokens on each worker"
    return [
        f"train {t.model} with {t.engine} on {t.workers} worker(s), DeepSpeed {'on' if t.deepspeed else 'off'}",
        f"  lr {t.learning_rate}, alpha {t.alpha}, beta {t.beta}, {t.epochs} epoch(s), {t.precision}",
        f"  batch {t.batch_size}: {batches}",
        f"  {config.out_dir / 'curated' / 'data'} -> {config.out_dir / 'model'}",
    ]


if __name__ == "__main__":
    command(train, plan, __doc__ or "")

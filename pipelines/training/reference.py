"""The frozen model's log-probabilities of every pair, computed once by a Ray Data job and kept for all runs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import PooledStage
from pipelines.core.storage import Place
from pipelines.training import settings
from pipelines.training.config import TrainConfig

ROWS_PER_BLOCK = 64


class ReferenceScores(PooledStage):
    """Adds the reference's log-probabilities of both completions.

    The other rows of a bin change a row's result in the last bits only: matrix products of another shape round
    differently.
    """

    name = "reference"
    reads = ("prompt_ids", "chosen_ids", "rejected_ids")
    adds = (pa.field("ref_chosen_logp", pa.float64()), pa.field("ref_rejected_logp", pa.float64()))
    rows_per_batch = ROWS_PER_BLOCK

    def __init__(self, config: TrainConfig, model: str) -> None:
        self.config, self.folder = config, model
        self.actors = (1, config.workers)
        self.num_cpus, self.num_gpus = config.cpus_per_worker, config.gpus_per_worker
        self.placement = config.placement

    def depends(self) -> dict[str, Any]:
        """The frozen model, and what its arithmetic depends on."""
        from pipelines.engines.models import identity

        dtype = settings.reference_dtype(self.config)
        return {
            "model": identity(self.folder),
            "precision": settings.precision(self.config),
            "attention": settings.attention(self.config),
            **({} if dtype == "float32" else {"weights": dtype, "autocast": settings.autocast(self.config)}),
        }

    def setup(self) -> None:
        """Load the model as training computes with it: the same attention, the same precision."""
        import torch

        from pipelines.training.worker import load_model, quiet

        quiet()
        torch.set_num_threads(settings.threads(self.config))
        self.device = torch.device("cuda" if self.num_gpus else "cpu")
        dtype = getattr(torch, settings.reference_dtype(self.config))
        self.model = load_model(self.folder, self.config, dtype).to(self.device).eval()

    def apply_batch(self, rows: list[Row]) -> None:
        """Score the rows in packed bins."""
        import torch

        from pipelines.engines.packed.packing import on_device, pack
        from pipelines.engines.packed.planning import pair_item, plan_bins

        if not rows:
            return
        items = [pair_item(*(row[name] for name in self.reads)) for row in rows]
        half = settings.autocast(self.config)
        for chosen in plan_bins(items, 1, self.config.bin_tokens)[0]:
            packed = on_device(pack([rows[i] for i in chosen]), self.device)
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                values = self.model(packed).log_probs.view(-1, 2).tolist()
            for i, (good, bad) in zip(chosen, values, strict=True):
                rows[i]["ref_chosen_logp"], rows[i]["ref_rejected_logp"] = good, bad


def reference_log_probs(config: TrainConfig, model: str, encoded: Rows, folder: Place) -> Rows:
    """Compute the log-probabilities, or reuse those that are there.

    Args:
        config: the training config.
        model: folder or hub id of the frozen model.
        encoded: the encoded pairs.
        folder: where the result is kept, for every run on these pairs.

    Returns:
        The encoded pairs with `ref_chosen_logp` and `ref_rejected_logp`.

    Raises:
        UserError: the folder holds the log-probabilities of other pairs or another model, or one is not finite.
    """
    stages = [ReferenceScores(config, model)]
    segment = Segment(folder.name, stages, rows_per_block=ROWS_PER_BLOCK, max_error_share=0.0)
    rows = segment.run(folder.parent, encoded)
    refuse_infinite(rows.folder)
    return rows


def refuse_infinite(rows: Place) -> None:
    """Refuse a reference that rules a completion out: the loss would be infinite.

    Raises:
        UserError: naming the first such rows.
    """
    finite = pc.is_finite(pc.field("ref_chosen_logp")) & pc.is_finite(pc.field("ref_rejected_logp"))
    bad = storage.read_table(rows, ["row_id"], keep=~finite)
    if bad.num_rows:
        named = ", ".join(bad["row_id"].to_pylist()[:5])
        raise UserError(f"{bad.num_rows} pair(s) have no finite reference log-probability: {named}", where=str(rows))

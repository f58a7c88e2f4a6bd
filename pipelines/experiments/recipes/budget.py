"""As many tokens for one recipe as for another: rows are left out by hash until a budget is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.determinism import unit
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.training.config import TrainConfig
from pipelines.training.pairs import encode_pairs, is_held_out
from pipelines.training.rounds import Material
from pipelines.training.train import source_of

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
SIZES = pa.schema([("row_id", pa.string()), ("tokens", pa.int64())])


@dataclass(frozen=True)
class Sizes:
    """Tokens of the rows that would be trained on; those held out are none of them.

    Attributes:
        tokens: row_id -> tokens of prompt and completions, the prompt of a pair once.
        fingerprint: of the rows.
    """

    tokens: dict[str, int]
    fingerprint: str

    @property
    def total(self) -> int:
        """Of all rows."""
        return sum(self.tokens.values())

    def within(self, budget: int, seed: int) -> set[str]:
        """As many rows as the budget holds, in the order of their hash: the same order for every recipe."""
        kept: set[str] = set()
        left = budget
        for row_id in sorted(self.tokens, key=lambda name: unit(seed, "tokens of a recipe", name)):
            left -= self.tokens[row_id]
            if left < 0:
                break
            kept.add(row_id)
        return kept


def sizes_of(config: TrainConfig, given: Material, model: str, run: Run) -> Sizes:
    """Encode what a recipe would train on, and count; done once.

    Args:
        config: of the recipe.
        given: what it has made of the pairs.
        model: that of the tokenizer, by a name that every node knows.
        run: of the recipe.
    """
    source = source_of(given.pairs, model)

    def write(folder: Place) -> step.Result:
        work = folder / "encoded"
        encoded, _ = encode_pairs(given.pairs, work, model, source, paired=config.recipe == "dpo_nll")
        storage.write_table(folder / "tokens.parquet", count(encoded.folder, config.holdout, run.seed))
        storage.remove(work)
        return {}

    depends = {**source, "made_from": given.made_from, "holdout": config.holdout, "seed": run.seed}
    result = step.once(run.work / "counted", depends, write)
    table = storage.read_table(run.work / "counted" / "tokens.parquet")
    tokens = dict(zip(table["row_id"].to_pylist(), table["tokens"].to_pylist(), strict=True))
    return Sizes(tokens, result["fingerprint"])


def count(encoded: Place, holdout: float, seed: int) -> pa.Table:
    """row_id and tokens of the encoded rows that are not held out."""
    found: list[tuple[str, int]] = []
    for batch in storage.read_batches(encoded, ["row_id", "group", *IDS]):
        parts = zip(*(pc.list_value_length(batch[name]).to_pylist() for name in IDS), strict=True)
        about = zip(batch["row_id"].to_pylist(), batch["group"].to_pylist(), parts, strict=True)
        found += [(row_id, sum(part)) for row_id, group, part in about if not is_held_out(group, holdout, seed)]
    return pa.table({"row_id": [row_id for row_id, _ in found], "tokens": [tokens for _, tokens in found]}, SIZES)


def cut(given: Material, sizes: Sizes, budget: int, run: Run) -> Material:
    """What is left of a recipe's rows within a budget, with all that is held out; done once.

    Args:
        given: what the recipe has made of the pairs.
        sizes: of its rows.
        budget: in tokens.
        run: of the recipe.
    """
    folder = run.work / "cut"

    def write(folder: Place) -> step.Result:
        kept = sizes.within(budget, run.seed)
        gone = pa.array(sorted(sizes.tokens.keys() - kept), pa.string())
        storage.write_ordered(storage.fresh(folder / "data"), without(given.pairs, gone), schema_of(given.pairs))
        return {"rows": len(kept), "tokens": sum(sizes.tokens[row_id] for row_id in kept)}

    depends = {"rows": sizes.fingerprint, "made_from": given.made_from, "tokens": budget, "seed": run.seed}
    result = step.once(folder, depends, write)
    return Material(folder / "data", result["fingerprint"], given.model)


def schema_of(pairs: Place) -> pa.Schema:
    """The columns that training reads, as far as the pairs have them."""
    wanted = ("row_id", "group_id", "format", "status", "prompt", "chosen", "rejected")
    return pa.schema([field for field in storage.folder_schema(pairs) if field.name in wanted])


def without(pairs: Place, gone: pa.Array) -> Iterator[pa.RecordBatch]:
    """The rows of some pairs but those with these ids."""
    schema = schema_of(pairs)
    for batch in storage.read_batches(pairs, schema.names):
        rest = batch.filter(pc.invert(pc.is_in(batch["row_id"], gone)))
        yield pa.RecordBatch.from_arrays([rest[name] for name in schema.names], schema=schema)

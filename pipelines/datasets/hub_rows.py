"""Rows of a dataset of the Hugging Face hub, streamed: nothing is kept on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from pipelines.core.errors import UserError, one_line
from pipelines.datasets.json_records import Read
from pipelines.datasets.part import Part
from pipelines.datasets.spec import Hub


def hub_stream(hub: Hub) -> Any:
    """The rows of a dataset of the hub, one by one, as the library `datasets` streams them.

    Raises:
        Exception: it is not installed, or finds no such dataset, network or right; there are a dozen types.
    """
    import datasets

    return datasets.load_dataset(hub.id, hub.config, split=hub.split, revision=hub.revision, streaming=True)


def shards(stream: Any, part: Part) -> Iterator[Any]:
    """What a part of a hub dataset has of its stream, in order."""
    each = (stream.shard(num_shards=stream.num_shards, index=index) for index in range(part.start, part.end))
    return chain.from_iterable(each)


def read_hub(hub: Hub, files: list[str], part: Part | None = None) -> Read:
    """(where, value, problem) of each row of a hub dataset.

    Args:
        hub: the dataset.
        files: its local form, for the message.
        part: its shards; None for all.

    Raises:
        UserError: it cannot be read.
    """
    where = f"hub dataset {hub.id}"
    missing = f"; its local form, {', '.join(files)}, is not under data_root either" if files else ""
    try:
        stream = hub_stream(hub)
        for index, value in enumerate(shards(stream, part) if part else stream, start=part.first if part else 0):
            yield f"{hub.split} row {index}", value, None
    except ImportError:
        raise UserError("needs the package datasets", where=where, fix="pip install datasets") from None
    except Exception as exc:  # offline, unknown id, no access, bad config: datasets raises a dozen types
        fix = "check the id and the network, or download its files and name them with `files`"
        why = f"{type(exc).__name__}: {one_line(exc)}"
        raise UserError(f"cannot be read ({why}){missing}", where=where, fix=fix) from None

"""Rows of Arrow batches as Python's values, each as its writer meant it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.core.errors import one_line

Widen = Callable[[Any], Any]


def decoded(batch: pa.RecordBatch) -> Iterator[tuple[Any, str | None]]:
    """(row, problem) of a batch: a row may hold bytes that are no text, or a date that Python does not have."""
    widen = {field.name: found for field in batch.schema if (found := _widen(field.type))}
    try:
        rows = batch.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError):  # raised before the first row: find those at fault
        for index in range(batch.num_rows):
            yield from _alone(batch.slice(index, 1), widen)
    else:
        yield from ((_widened(row, widen), None) for row in rows)


def _alone(batch: pa.RecordBatch, widen: dict[str, Widen]) -> Iterator[tuple[Any, str | None]]:
    try:
        yield _widened(batch.to_pylist(maps_as_pydicts="strict")[0], widen), None
    except UnicodeDecodeError:
        yield "", "invalid_utf8"
    except (ValueError, OverflowError, KeyError) as exc:
        yield "", f"unreadable_value:{one_line(exc)}"


def _widened(row: dict[str, Any], widen: dict[str, Widen]) -> dict[str, Any]:
    return {name: widen[name](value) if name in widen else value for name, value in row.items()} if widen else row


def _widen(kind: pa.DataType) -> Widen | None:
    """What makes 3.3 of a 32-bit 3.3, where Python's wider number would be 3.299999952316284; None: nothing to do."""
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        narrow = np.float32 if pa.types.is_float32(kind) else np.float16
        return lambda value: None if value is None else float(str(narrow(value)))
    if pa.types.is_map(kind):
        return _each(_widen(kind.item_type), lambda value, inner: {key: inner(one) for key, one in value.items()})
    if pa.types.is_struct(kind):
        fields = {field.name: found for field in kind if (found := _widen(field.type))}
        return (lambda value: None if value is None else _widened(value, fields)) if fields else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _each(_widen(kind.value_type), lambda value, inner: [inner(one) for one in value])
    return None


def _each(inner: Widen | None, apply: Callable[[Any, Widen], Any]) -> Widen | None:
    return None if inner is None else lambda value: None if value is None else apply(value, inner)

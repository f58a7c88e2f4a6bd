"""Places on a plane: rows with similar embeddings lie close together (UMAP, arXiv 1802.03426)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEW = 20  # rows below which there is no structure to begin with: start at random


def layout(vectors: NDArray[np.float32], neighbours: int, seed: int) -> NDArray[np.float32]:
    """Coordinates (N, 2) of embeddings (N, D); the same rows and the same seed give the same ones.

    Args:
        vectors: at least one; equal ones get the same place.
        neighbours: rows that are kept close to each row; at most all others.
        seed: of the start and of the negative samples.
    """
    # Equal rows would be each other's only neighbours, and drift off as an island.
    distinct, place = np.unique(vectors, axis=0, return_inverse=True)
    return _plane(distinct, neighbours, seed)[place]


def _plane(vectors: NDArray[np.float32], neighbours: int, seed: int) -> NDArray[np.float32]:
    if len(vectors) < 3:  # no neighbourhoods: side by side
        return np.array([[place, 0] for place in range(len(vectors))], dtype=np.float32)
    from umap import UMAP

    plane = UMAP(
        n_neighbors=max(min(neighbours, len(vectors) - 1), 2),
        metric="cosine",
        init="random" if len(vectors) < FEW else "pca",
        random_state=seed,
        n_jobs=1,  # with more threads the order of the updates is a matter of chance
    )
    return np.asarray(plane.fit_transform(vectors), dtype=np.float32)

"""Topics of a map: k-means on the embeddings, named by class-based TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAST = 5  # rows a topic should have: a small set gets fewer topics
TERMS = 3  # words of a topic's name
MOST_CHARACTERS = 1500  # of a row that are read for words: about what is embedded
WORD = r"(?u)\b[^\W\d_]{3,}\b"


def find_topics(vectors: NDArray[np.float32], texts: Sequence[str], most: int, seed: int) -> list[str]:
    """The topic of each row, as its number and three words: '1: poem, rhyme, verse'; 1 is the largest.

    Args:
        vectors: embeddings (N, D), in an order that does not depend on the run.
        texts: what the rows ask.
        most: topics at most.
        seed: of the starting points.
    """
    groups = by_size(cluster(vectors, most, seed))
    names = [f"{number}: {', '.join(found)}" for number, found in enumerate(terms(texts, groups), start=1)]
    return [names[group] for group in groups]


def cluster(vectors: NDArray[np.float32], most: int, seed: int) -> NDArray[np.int64]:
    """The group of each row by k-means; at most `most` of them, and about LEAST rows in each."""
    from sklearn.cluster import KMeans

    count = min(most, max(len(vectors) // LEAST, 1), len(np.unique(vectors, axis=0)))
    return KMeans(count, n_init=10, random_state=seed).fit_predict(vectors).astype(np.int64)


def by_size(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same groups numbered from 0, the largest first, and of equal ones the one that comes first."""
    _, first, inverse, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    place = np.empty(len(counts), dtype=np.int64)
    place[np.lexsort((first, -counts))] = np.arange(len(counts))
    return place[inverse]


def terms(texts: Sequence[str], groups: NDArray[np.int64]) -> list[list[str]]:
    """The words that tell each group from the others, best first.

    Class-based TF-IDF (Grootendorst 2022, arXiv 2203.05794): a group is one document, a word's weight in it is
    tf · log(1 + A / f) with A the mean words of a group and f the word's count over all. A row counts a word once,
    so that one long row does not name its group.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    size = int(groups.max()) + 1
    vectorizer = CountVectorizer(token_pattern=WORD, stop_words="english", binary=True, dtype=np.int64)
    try:
        words = vectorizer.fit_transform([text[:MOST_CHARACTERS] for text in texts])
    except ValueError:  # not one word in all of them
        return [["no words"]] * size
    member = csr_matrix((np.ones(len(groups), dtype=np.int64), (groups, np.arange(len(groups)))))
    counts = (member @ words).toarray().astype(np.float64)  # (groups, vocabulary)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    weight = share * np.log1p(counts.sum() / size / counts.sum(axis=0))
    vocabulary = vectorizer.get_feature_names_out()  # sorted, so that equal weights come in the alphabet's order
    best = np.argsort(-weight, axis=1, kind="stable")[:, :TERMS]
    return [[str(vocabulary[i]) for i in row if weight[group, i] > 0] or ["no words"] for group, row in enumerate(best)]

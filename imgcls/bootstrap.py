"""The bootstrap over examples: what a metric might have been on another draw of the data."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Weights of this many examples are drawn at a time.
CHUNK = 1_000_000


class Ranking(NamedTuple):
    """Scores in falling order.

    Attributes:
      examples: int `[M]`, whose score it is.
      positive: bool `[M]`.
      ends: int `[G]`, the last place of each run of equal scores.
    """

    examples: np.ndarray
    positive: np.ndarray
    ends: np.ndarray


def rank(scores: np.ndarray, positive: np.ndarray) -> Ranking:
    """The ranking of one class's scores `[N]`, or of all classes' `[N, K]` in one list."""
    columns = scores.size // len(scores)
    order = np.argsort(-scores, axis=None)
    ordered = scores.ravel()[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return Ranking(order // columns, positive.ravel()[order], ends)


def areas(ranking: Ranking, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and area under the ROC curve where each example counts several times.

    As scikit-learn's `average_precision_score` and `roc_auc_score` with `sample_weight`.

    Args:
      ranking: of N examples.
      weights: int `[R, N]`, R ways to count them.

    Returns:
      Two float `[R]`, NaN without positives or, of the second, without negatives.
    """
    weights = weights[:, ranking.examples]
    hits = np.cumsum(weights * ranking.positive, axis=1)[:, ranking.ends].astype(np.float64)
    taken = np.cumsum(weights, axis=1)[:, ranking.ends].astype(np.float64)
    positives, negatives = hits[:, -1], taken[:, -1] - hits[:, -1]
    gained = np.diff(hits, axis=1, prepend=0)
    missed = np.diff(taken - hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore"):
        precision = np.sum(gained * hits / np.maximum(taken, 1), axis=1) / positives
        roc = np.sum(missed * (hits - gained / 2), axis=1) / (positives * negatives)
    return precision, roc


def draw(examples: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """How often each example is drawn, with replacement: int32 `[r, N]`, until all replicates are.

    Args:
      examples: N, as many as are drawn.
      replicates: their number.
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    size = max(CHUNK // examples, 1)
    for first in range(0, replicates, size):
        drawn = [rng.integers(0, examples, examples) for _ in range(min(size, replicates - first))]
        yield np.stack([np.bincount(d, minlength=examples) for d in drawn]).astype(np.int32)


def defined_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the classes where a metric is defined (not NaN): `[K, R]` -> `[R]`."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.sum(values, axis=0, where=defined) / defined.sum(axis=0)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of a metric's values `[R]`, of those replicates where it is defined."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)

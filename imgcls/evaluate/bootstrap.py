"""The bootstrap over examples: what a metric might have been on another draw of the data."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Weights of this many examples are drawn at a time.
CHUNK = 1_000_000


class Ranking(NamedTuple):
    """Scores in falling order, in runs: of equal scores, or of negatives alone.

    Attributes:
      examples: int `[M]`, whose score it is.
      starts: int `[S]`, the first place of each run.
      positives: int `[P]`, those of `examples` that are positive, in the same order.
      held: int `[H]`, the runs that hold any.
      firsts: int `[H]`, the first place of each of these among `positives`.
    """

    examples: np.ndarray
    starts: np.ndarray
    positives: np.ndarray
    held: np.ndarray
    firsts: np.ndarray


def rank(scores: np.ndarray, positive: np.ndarray) -> Ranking:
    """The ranking of one class's scores `[N]`, or of all classes' `[N, K]` in one list."""
    columns = scores.size // len(scores)
    order = np.argsort(-scores, axis=None)
    ordered, positive = scores.ravel()[order], positive.ravel()[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    mixed = np.logical_or.reduceat(positive, starts)
    # Both areas change at positives alone, so that runs of negatives need not be told apart.
    starts = starts[np.append(True, mixed[1:] | mixed[:-1])]
    run_of = np.searchsorted(starts, np.flatnonzero(positive), side="right") - 1
    held, firsts = np.unique(run_of, return_index=True)
    examples = order // columns
    return Ranking(examples, starts, examples[positive], held, firsts)


def areas(ranking: Ranking, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and area under the ROC curve where each example counts several times.

    As scikit-learn's `average_precision_score` and `roc_auc_score` with `sample_weight`.

    Args:
      ranking: of N examples.
      weights: int `[N, R]`, R ways to count them.

    Returns:
      Two float `[R]`, NaN without positives or, of the second, without negatives.
    """
    taken = np.add.reduceat(weights[ranking.examples], ranking.starts).astype(np.float64)
    gained = np.zeros_like(taken)
    gained[ranking.held] = np.add.reduceat(weights[ranking.positives], ranking.firsts)
    hits, whole = np.cumsum(gained, axis=0), np.cumsum(taken, axis=0)
    positives, negatives = hits[-1], whole[-1] - hits[-1]
    with np.errstate(invalid="ignore"):
        precision = np.sum(gained * hits / np.maximum(whole, 1), axis=0) / positives
        roc = np.sum((taken - gained) * (hits - gained / 2), axis=0) / (positives * negatives)
    return precision, roc


def draw(examples: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """How often each example is drawn, with replacement: int32 `[N, r]`, until all replicates are.

    Args:
      examples: N, as many as are drawn.
      replicates: their number.
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    size = max(CHUNK // examples, 1)
    for first in range(0, replicates, size):
        drawn = [rng.integers(0, examples, examples) for _ in range(min(size, replicates - first))]
        counts = [np.bincount(d, minlength=examples).astype(np.int32) for d in drawn]
        yield np.stack(counts, axis=1)


def defined_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the classes where a metric is defined (not NaN): `[K, R]` -> `[R]`."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.sum(values, axis=0, where=defined) / defined.sum(axis=0)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of a metric's values `[R]`, of those replicates where it is defined."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)

"""Intervals of metrics by the bootstrap: their values on other draws of the examples."""

import collections
from collections.abc import Collection, Iterator

import numpy as np

from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.ranked import Ranking, areas, positives, rank
from imgcls.evaluate.sums import Sums

# Weights of this many examples are drawn at a time.
CHUNK = 1_000_000
# Scores times replicates that the intervals of ranked metrics may cost (about 15 s), and the fewest
# replicates that give one.
RANKED = 200_000_000
FEWEST = 200


def intervals(
    outcomes: Outcomes, sums: Sums, names: Collection[str], replicates: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Returns `{metric: (low, high)}`; 95 % of the bootstrap's values are between them.

    Args:
      outcomes: outcomes after calibration.
      sums: their sums.
      names: metrics to return intervals of.
      replicates: number of draws.
      seed: seed of the draws.
    """
    found: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    left = min(replicates, RANKED // outcomes.scores.size)
    left = left if left >= min(replicates, FEWEST) else 0
    rankings = _rank_classes(outcomes) if left else []
    for weights in draw(len(outcomes), replicates, seed):
        values = sums.measure(weights)
        if left:
            part = weights[:, :left]
            values |= _ranked_metrics(outcomes, rankings, part)
            left -= part.shape[1]
        for name, of_part in values.items():
            found[name].append(of_part)
    joined = {name: np.concatenate(parts) for name, parts in found.items() if name in names}
    return {name: percentiles(v) for name, v in joined.items() if np.isfinite(v).any()}


def draw(examples: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Draws examples with replacement; yields int32 `[N, r]`, how often each is drawn.

    Args:
      examples: N, the number of examples, and of draws in a replicate.
      replicates: number of replicates, over all that is yielded.
      seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    size = max(CHUNK // examples, 1)
    for first in range(0, replicates, size):
        drawn = [rng.integers(0, examples, examples) for _ in range(min(size, replicates - first))]
        counts = [np.bincount(d, minlength=examples).astype(np.int32) for d in drawn]
        yield np.stack(counts, axis=1)


def defined_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the classes for which a metric is defined (not NaN): `[K, R]` -> `[R]`."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.sum(values, axis=0, where=defined) / defined.sum(axis=0)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Returns the middle 95 % of values `[R]`, of those that are defined (not NaN)."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def _rank_classes(outcomes: Outcomes) -> list[Ranking]:
    """Ranks each class, and for multi-label all decisions in one list."""
    rankings = [
        rank(outcomes.scores[:, number], positives(outcomes, number))
        for number in range(len(outcomes.class_names))
    ]
    if outcomes.multi_label:
        rankings.append(rank(outcomes.scores, outcomes.labels > 0.5))
    return rankings


def _ranked_metrics(
    outcomes: Outcomes, rankings: list[Ranking], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the metrics of `Ranked.measure` for R weightings of the examples, `{metric: [R]}`."""
    precision, roc = np.stack([areas(ranking, weights) for ranking in rankings], axis=1)
    number = len(outcomes.class_names)
    found = {"map": defined_mean(precision[:number]), "roc_auc": defined_mean(roc[:number])}
    if outcomes.task == "binary":
        found |= {"auroc": roc[1], "average_precision": precision[1]}
    if outcomes.multi_label:
        found["micro_roc_auc"] = roc[number]
    return found

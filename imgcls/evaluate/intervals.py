"""Bootstrap confidence intervals of metrics."""

import collections
from collections.abc import Collection, Iterator

import numpy as np

from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.ranked import Ranking, areas, positives, rank
from imgcls.evaluate.sums import Sums

# Number of example weights drawn at a time.
CHUNK = 1_000_000
# Upper bound on scores times replicates for the intervals of ranked metrics (about 15 s), and the
# smallest number of replicates that gives an interval.
RANKED = 200_000_000
FEWEST = 200


def intervals(
    outcomes: Outcomes, sums: Sums, names: Collection[str], replicates: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Returns `{metric: (low, high)}`; 95 % of the bootstrap values are between them.

    Args:
      outcomes: outcomes after calibration.
      sums: `Sums` of the outcomes.
      names: metrics to return intervals of.
      replicates: number of bootstrap replicates.
      seed: seed of the bootstrap.
    """
    parts_by_name: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    left = min(replicates, RANKED // outcomes.scores.size)
    left = left if left >= min(replicates, FEWEST) else 0
    rankings = _rank_classes(outcomes) if left else []
    for weights in draw(len(outcomes), replicates, seed):
        values = sums.measure(weights)
        if left:
            part = weights[:, :left]
            values |= _ranked_metrics(outcomes, rankings, part)
            left -= part.shape[1]
        for name, value in values.items():
            parts_by_name[name].append(value)
    joined = {n: np.concatenate(parts) for n, parts in parts_by_name.items() if n in names}
    return {name: percentiles(v) for name, v in joined.items() if np.isfinite(v).any()}


def draw(examples: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Draws examples with replacement; yields int32 `[N, r]`, how often each is drawn.

    Args:
      examples: N, the number of examples and of draws in a replicate.
      replicates: total number of replicates.
      seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    size = max(CHUNK // examples, 1)
    for first in range(0, replicates, size):
        drawn = [rng.integers(0, examples, examples) for _ in range(min(size, replicates - first))]
        counts = [np.bincount(d, minlength=examples).astype(np.int32) for d in drawn]
        yield np.stack(counts, axis=1)


def defined_mean(values: np.ndarray) -> np.ndarray:
    """Averages a metric over the classes for which it is defined (not NaN): `[K, R]` -> `[R]`."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.sum(values, axis=0, where=defined) / defined.sum(axis=0)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Returns the bounds of the middle 95 % of the defined (not NaN) values of `[R]`."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def _rank_classes(outcomes: Outcomes) -> list[Ranking]:
    """Returns the ranking of each class and, for multi-label, of all decisions in one list."""
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
    metrics = {"map": defined_mean(precision[:number]), "roc_auc": defined_mean(roc[:number])}
    if outcomes.task == "binary":
        metrics |= {"auroc": roc[1], "average_precision": precision[1]}
    if outcomes.multi_label:
        metrics["micro_roc_auc"] = roc[number]
    return metrics

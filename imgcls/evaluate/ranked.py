"""Metrics computed from rankings: average precision and the area under the ROC curve."""

import functools
from typing import NamedTuple

import numpy as np

from imgcls.evaluate.outcomes import Outcomes
from imgcls.runs.best import Direction

# Which values of the metrics of `Ranked` are better.
DIRECTIONS: dict[str, Direction] = dict.fromkeys(
    ("map", "roc_auc", "auroc", "average_precision", "micro_roc_auc"), "higher"
)


class Ranked:
    """Ranked metrics of outcomes, each computed when it is first needed.

    Args:
      outcomes: outcomes after calibration.
    """

    def __init__(self, outcomes: Outcomes):
        self._outcomes = outcomes

    @functools.cached_property
    def average_precisions(self) -> list[float | None]:
        """Average precision of each of the K classes; None for a class without examples."""
        from sklearn.metrics import average_precision_score

        return [
            float(average_precision_score(positive, scores)) if positive.any() else None
            for positive, scores in self._classes()
        ]

    @functools.cached_property
    def roc_aucs(self) -> list[float | None]:
        """Area under the ROC curve of each class; None without positives or without negatives."""
        return [_roc_auc(positive, scores) for positive, scores in self._classes()]

    def measure(self, light: bool) -> dict[str, float]:
        """Returns the metrics that are defined, `{metric: value}`.

        Args:
          light: whether to return only the metrics of `measure(light=True)`.
        """
        outcomes, metrics = self._outcomes, {}
        if light and outcomes.task in ("softmax", "sigmoid"):
            return {}
        means = {"map": self.average_precisions} | ({} if light else {"roc_auc": self.roc_aucs})
        for name, values in means.items():
            metrics[name] = _defined_mean(values)
            if None in values:
                # A count, so that nobody takes it for the mean over all classes.
                metrics[f"{name}_classes"] = len(values) - values.count(None)
        if outcomes.task == "binary" and self.roc_aucs[1] is not None:
            metrics["auroc"] = self.roc_aucs[1]
            metrics["average_precision"] = self.average_precisions[1]
        if outcomes.multi_label and not light:
            metrics["micro_roc_auc"] = _roc_auc(
                outcomes.labels.ravel() > 0.5, outcomes.scores.ravel()
            )
        return {name: value for name, value in metrics.items() if value is not None}

    def _classes(self):
        for number in range(len(self._outcomes.class_names)):
            yield positives(self._outcomes, number), self._outcomes.scores[:, number]


class Ranking(NamedTuple):
    """Scores in descending order, grouped in runs of equal scores or of negatives.

    Attributes:
      examples: int `[M]`, example of each score.
      starts: int `[S]`, position of the first score of each run.
      positives: int `[P]`, the elements of `examples` that are positive, in the same order.
      positive_runs: int `[H]`, indices of the runs that contain positives.
      firsts: int `[H]`, position in `positives` of the first element of each of these runs.
    """

    examples: np.ndarray
    starts: np.ndarray
    positives: np.ndarray
    positive_runs: np.ndarray
    firsts: np.ndarray


def positives(outcomes: Outcomes, number: int) -> np.ndarray:
    """Returns whether each example has class `number` as a label, bool `[N]`."""
    labels = outcomes.labels
    return labels[:, number] > 0.5 if outcomes.multi_label else labels == number


def rank(scores: np.ndarray, positive: np.ndarray) -> Ranking:
    """Ranks the scores of one class `[N]`, or those of all classes `[N, K]` in one list."""
    columns = scores.size // len(scores)
    order = np.argsort(-scores, axis=None)
    ordered, positive = scores.ravel()[order], positive.ravel()[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    mixed = np.logical_or.reduceat(positive, starts)
    # Both areas change only at positives, so adjacent runs of negatives are one run.
    starts = starts[np.append(True, mixed[1:] | mixed[:-1])]
    run_of = np.searchsorted(starts, np.flatnonzero(positive), side="right") - 1
    positive_runs, firsts = np.unique(run_of, return_index=True)
    examples = order // columns
    return Ranking(examples, starts, examples[positive], positive_runs, firsts)


def areas(ranking: Ranking, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes average precision and ROC area for R weightings of the examples.

    Equal to scikit-learn's `average_precision_score` and `roc_auc_score` with `sample_weight`.

    Args:
      ranking: ranking of N examples.
      weights: int `[N, R]`, how often each example counts.

    Returns:
      Two float `[R]`; NaN without positives, and for the ROC area also without negatives.
    """
    run_sizes = np.add.reduceat(weights[ranking.examples], ranking.starts).astype(np.float64)
    run_hits = np.zeros_like(run_sizes)
    run_hits[ranking.positive_runs] = np.add.reduceat(weights[ranking.positives], ranking.firsts)
    hits, totals = np.cumsum(run_hits, axis=0), np.cumsum(run_sizes, axis=0)
    positives, negatives = hits[-1], totals[-1] - hits[-1]
    with np.errstate(invalid="ignore"):
        precision = np.sum(run_hits * hits / np.maximum(totals, 1), axis=0) / positives
        below = (run_sizes - run_hits) * (hits - run_hits / 2)
        roc = np.sum(below, axis=0) / (positives * negatives)
    return precision, roc


def _roc_auc(positive: np.ndarray, scores: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores)) if 0 < positive.sum() < positive.size else None


def _defined_mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None

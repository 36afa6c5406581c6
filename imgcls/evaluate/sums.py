"""Metrics computed from sums over the examples, which the bootstrap weights."""

from typing import TYPE_CHECKING

import numpy as np

from imgcls.evaluate.calibration import Calibration, decide
from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.per_example import brier_score, example_nll, top_k_indices
from imgcls.runs.best import Direction

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Bins of the confidence, for the expected calibration error (Guo et al. 2017).
BINS = 15
RATES = ("precision", "recall", "f1")
# Which values of the metrics of `Sums` are better.
DIRECTIONS: dict[str, Direction] = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "top5_accuracy", "exact_match"), "higher"),
    **{f"{a}{rate}": "higher" for a in ("", "macro_", "micro_", "weighted_") for rate in RATES},
    **dict.fromkeys(("loss", "nll", "brier", "ece", "hamming_loss"), "lower"),
}


class Sums:
    """Metrics of outcomes that are computed from sums over the examples.

    Args:
      outcomes: outcomes after calibration.
      calibration: source of the decision thresholds and of the temperature for `nll`.

    Attributes:
      decisions: predicted classes, int `[N]`, or multi-hot uint8 `[N, K]` for multi-label.
      hits, predicted, actual: int `[K]`, numbers of correct predictions, of predictions and of
        labels of each class.
    """

    def __init__(self, outcomes: Outcomes, calibration: Calibration):
        from scipy.sparse import csr_array, hstack

        self._outcomes = outcomes
        self.decisions = decide_outcomes(outcomes, calibration)
        self._means = example_values(outcomes, calibration, self.decisions)
        confidence, correct = confidences(outcomes, self.decisions)
        self._num_confidences = confidence.size
        labels, decisions = (
            _indicators(classes, len(outcomes.class_names))
            for classes in (outcomes.labels, self.decisions)
        )
        parts = (
            labels * decisions,
            decisions,
            labels,
            _gaps(confidence, correct),
            csr_array(np.stack(list(self._means.values()), axis=1)),
        )
        widths = [len(outcomes.class_names)] * 3 + [BINS]
        self._bounds = np.cumsum(widths)
        self._parts = hstack(parts).T.tocsr()
        self.hits, self.predicted, self.actual = (part.sum(0) for part in parts[:3])

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `{metric: [R]}` for R weightings of the examples.

        Args:
          weights: int `[N, R]`, how often each example counts; each column sums to N.
        """
        sums = np.split((self._parts @ weights).T, self._bounds, axis=1)
        hits, predicted, actual, gaps, means = sums
        multi_label = self._outcomes.multi_label
        metrics = averaged_rates(hits, predicted, actual, every_class=multi_label)
        if not multi_label:
            recall, present = hits / np.maximum(actual, 1), actual > 0
            metrics["balanced_accuracy"] = np.sum(recall, 1) / np.sum(present, 1)
            metrics |= {name: metrics[f"macro_{name}"] for name in RATES}
        if self._outcomes.task == "binary":
            positive_rates = rates(hits[:, 1], predicted[:, 1], actual[:, 1])
            metrics |= dict(zip(RATES, positive_rates, strict=True))
        metrics["ece"] = np.sum(np.abs(gaps), axis=1) / self._num_confidences
        return metrics | dict(zip(self._means, means.T / len(weights), strict=True))


def decide_outcomes(outcomes: Outcomes, calibration: Calibration) -> np.ndarray:
    """Returns the predicted classes, int `[N]`, or multi-hot uint8 `[N, K]`; see `decide`."""
    if outcomes.best is not None:
        return outcomes.best[:, 0]
    return decide(outcomes.scores, calibration, outcomes.task)


def example_values(
    outcomes: Outcomes, calibration: Calibration, decisions: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns `{metric: [N]}`, the per-example values of the metrics that are means of them."""
    labels, task, values = outcomes.labels, outcomes.task, {}
    if not outcomes.is_light:
        logits = np.asarray(outcomes.logits, np.float64) / calibration.temperature
        values["nll"] = example_nll(logits, labels, task)
    brier = brier_score(outcomes.scores, labels) if outcomes.brier is None else outcomes.brier
    values["brier"] = np.asarray(brier, np.float64)
    if outcomes.losses is not None:
        values["loss"] = outcomes.losses
    if outcomes.multi_label:
        correct = (labels > 0.5) == (decisions > 0)
        return values | {"exact_match": correct.all(1), "hamming_loss": 1 - correct.mean(1)}
    values["accuracy"] = decisions == labels
    if len(outcomes.class_names) > 5:
        best = outcomes.best if outcomes.best is not None else top_k_indices(outcomes.scores, 5)
        if best.shape[1] < 5:
            raise ValueError(f"top-5 accuracy needs 5 classes per example, got {best.shape[1]}")
        values["top5_accuracy"] = (np.asarray(best) == labels[:, None]).any(1)
    return values


def confidences(outcomes: Outcomes, decisions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `ece` compares: probabilities, and whether the predictions are correct.

    Returns:
      float64 `[N, 1]` and bool `[N, 1]` of the predicted class; for multi-label `[N, K]`, the
      probability of each class and whether the class is a label.
    """
    scores = outcomes.scores.astype(np.float64)
    if outcomes.multi_label:
        return scores, outcomes.labels > 0.5
    return scores.max(1, keepdims=True), (decisions == outcomes.labels)[:, None]


def confidence_bins(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Returns the bin of each probability, from 0 to `bins` - 1.

    Bin i is (i / bins, (i + 1) / bins]; the first bin also contains 0.
    """
    return np.searchsorted(np.arange(1, bins) / bins, np.asarray(confidence, np.float64))


def rates(hits: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns precision, recall and F1 of counts of any shape, with 0 for a ratio 0/0.

    F1 = 2 hits / (predicted + actual), the harmonic mean without its own 0/0.
    """
    ratios = ((hits, predicted), (hits, actual), (2 * hits, predicted + actual))
    return tuple(numerator / np.maximum(total, 1) for numerator, total in ratios)


def averaged_rates(
    hits: np.ndarray, predicted: np.ndarray, actual: np.ndarray, every_class: bool
) -> dict[str, np.ndarray]:
    """Returns `precision`, `recall` and `f1` prefixed `micro_`, `macro_` and `weighted_`: `[...]`.

    Args:
      hits, predicted, actual: counts of each class, `[..., K]`.
      every_class: whether the macro average is over all K classes rather than only those that
        occur among labels or predictions.
    """
    counted = (predicted + actual > 0) | every_class
    averaged = {}
    for prefix, weights in (("macro_", counted), ("weighted_", actual)):
        # With no examples at all, every ratio is 0, and so is their average.
        total = np.maximum(weights.sum(-1), 1)
        for name, rate in zip(RATES, rates(hits, predicted, actual), strict=True):
            averaged[prefix + name] = np.sum(rate * weights, -1) / total
    totals = (count.sum(-1) for count in (hits, predicted, actual))
    return averaged | {f"micro_{n}": r for n, r in zip(RATES, rates(*totals), strict=True)}


def _indicators(classes: np.ndarray, num_classes: int) -> "csr_array":
    """Returns int `[N, K]`, 1 for the classes of each example.

    Args:
      classes: int `[N]`, or multi-hot `[N, K]`.
      num_classes: K.
    """
    from scipy.sparse import csr_array

    if classes.ndim == 2:
        return csr_array((classes > 0.5).astype(np.int64))
    count = len(classes)
    ones, rows = np.ones(count, np.int64), np.arange(count)
    return csr_array((ones, (rows, classes)), shape=(count, num_classes))


def _gaps(confidence: np.ndarray, correct: np.ndarray) -> "csr_array":
    """Returns the sum of correct - confidence of each example in each bin, `[N, BINS]`."""
    from scipy.sparse import csr_array

    count, per_example = confidence.shape
    rows = np.repeat(np.arange(count), per_example)
    values, bins = (correct - confidence).ravel(), confidence_bins(confidence).ravel()
    return csr_array((values, (rows, bins)), shape=(count, BINS))

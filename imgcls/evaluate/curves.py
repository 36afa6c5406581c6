"""Precision-recall and reliability curves."""

import numpy as np

from imgcls.evaluate.calibration import PLAIN
from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.ranked import positives
from imgcls.evaluate.sums import BINS, confidence_bins, confidences, decide_outcomes


def precision_recall(outcomes: Outcomes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns `{class name: (precision, recall)}` by descending threshold.

    Classes without examples are left out.

    Args:
      outcomes: outcomes after calibration.
    """
    from sklearn.metrics import precision_recall_curve

    curves = {}
    for number, name in enumerate(outcomes.class_names):
        positive = positives(outcomes, number)
        if positive.any():
            precision, recall, _ = precision_recall_curve(positive, outcomes.scores[:, number])
            curves[name] = precision[::-1], recall[::-1]
    return curves


def reliability(outcomes: Outcomes, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns accuracy by confidence, in the bins of the metric `ece`.

    Args:
      outcomes: outcomes after calibration.
      bins: number of bins of equal width.

    Returns:
      For the bins that are not empty: mean confidence, float `[b]`; accuracy, float `[b]`; and
      number of predictions, int `[b]`. For multi-label each class of each example is one
      prediction, and it is correct if the class is a label.
    """
    confidence, correct = confidences(outcomes, decide_outcomes(outcomes, PLAIN))
    bins_of = confidence_bins(confidence.ravel(), bins)
    count = np.bincount(bins_of, minlength=bins)
    sums = [np.bincount(bins_of, x.ravel(), bins) for x in (confidence, correct)]
    kept = count > 0
    return sums[0][kept] / count[kept], sums[1][kept] / count[kept], count[kept]

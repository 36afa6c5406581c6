"""Labels that are likely wrong: confident learning on out-of-fold probabilities.

Confident learning (Northcutt et al. 2021, arXiv:1911.00068, the cleanlab library) lists suspects,
and lists many if the classifier is weak. A separate test decides whether there are label errors at
all: whether the labels contradict the classifier more often than correct labels contradict a
calibrated classifier.
"""

import dataclasses
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
# A finding needs all of the following:
# - A likelihood ratio (2 log) of at least `_MIN_RATIO` (p < 0.0002 by chi-square), and of at least
#   `_MIN_RATIO_EACH` per image, since no logistic regression fits perfectly: all 45 pairs of
#   CIFAR-10's classes stay below 0.014 with hand-made features.
# - A balanced accuracy of at least `MIN_ACCURACY[0]` on held-out images, and of at least
#   `MIN_ACCURACY[1]` if the wrong labels are not counted.
# - An estimated share of wrong labels of at least `MIN_SHARE`.
_MIN_RATIO, _MIN_RATIO_EACH = 15.0, 0.015
MIN_ACCURACY = (0.7, 0.8)
MIN_SHARE = 0.003


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A label that is likely wrong.

    Attributes:
      index: row of the image.
      given: number of the given class; in multi-label data, of the class in question.
      better: number of the class that the classifier predicts; in multi-label data the same as
        `given`.
      score: out-of-fold probability of the given label; the lower, the more suspect.
      missing: in multi-label data, whether the label should be added (True) or removed (False).
    """

    index: int
    given: int
    better: int
    score: float
    missing: bool = False


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """Result of the check of labels.

    Attributes:
      suspects: labels that are likely wrong, most suspect first.
      accuracy: balanced accuracy of the classifier on held-out images.
      share: estimated share of wrong labels, those that no calibrated classifier explains.
      ratio: likelihood ratio (2 log) against a share of zero.
      skipped: names of the classes with too few examples to be checked.
      judged: number of images whose labels were checked.
    """

    suspects: list[Suspect]
    accuracy: float
    share: float
    ratio: float
    skipped: list[str]
    judged: int

    @property
    def reliable(self) -> bool:
        """Whether the classifier is good enough to estimate the number of wrong labels."""
        minimum, minimum_of_correct = MIN_ACCURACY
        return self.accuracy >= minimum and self.accuracy + self.share >= minimum_of_correct

    @property
    def significant(self) -> bool:
        """Whether there are more label errors than in a clean dataset."""
        enough = self.reliable and self.share >= MIN_SHARE
        evident = self.ratio >= max(_MIN_RATIO, _MIN_RATIO_EACH * self.judged)
        return bool(self.suspects) and enough and evident


def find_label_errors(
    features: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], seed: int
) -> LabelErrors:
    """Checks every label against a logistic regression that was not trained on it.

    Args:
      features: float `[N, D]`, features of the images.
      labels: int `[N]` or multi-hot `[N, K]`.
      class_names: names of the K classes.
      seed: seed of the cross-validation folds.
    """
    find = _find_single if labels.ndim == 1 else _find_multi
    return find(features, labels, class_names, seed)


def _find_single(features, labels, class_names, seed) -> LabelErrors:
    counts = np.bincount(labels, minlength=len(class_names))
    classes = np.flatnonzero(counts >= FOLDS)
    skipped = [class_names[c] for c in np.flatnonzero((counts < FOLDS) & (counts > 0))]
    rows = np.flatnonzero(np.isin(labels, classes))
    if len(classes) < 2:
        return LabelErrors([], 0.0, 0.0, 0.0, skipped, 0)
    y = np.searchsorted(classes, labels[rows])
    p = _out_of_fold(features[rows], y, seed)
    issues = find_label_issues(y, p, return_indices_ranked_by="self_confidence", n_jobs=1)
    best = classes[p.argmax(1)]
    suspects = [
        Suspect(int(rows[i]), int(labels[rows[i]]), int(best[i]), float(p[i, y[i]])) for i in issues
    ]
    accuracy = float(recall_score(y, p.argmax(1), average="macro"))
    share, ratio = unexplained_share(p, y)
    return LabelErrors(suspects, accuracy, share, ratio, skipped, len(rows))


def _find_multi(features, labels, class_names, seed) -> LabelErrors:
    counts = (labels > 0).sum(0)
    usable = np.minimum(counts, len(labels) - counts) >= FOLDS
    classes = np.flatnonzero(usable)
    skipped = [class_names[c] for c in np.flatnonzero(~usable & (counts > 0))]
    if not len(classes):
        return LabelErrors([], 0.0, 0.0, 0.0, skipped, 0)
    y = (labels[:, classes] > 0).astype(int)
    p = np.stack([_out_of_fold(features, column, seed)[:, 1] for column in y.T], 1)
    lists = [list(np.flatnonzero(row)) for row in y]
    issues, *_ = find_multilabel_issues_per_class(
        lists, p, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    suspects = [
        Suspect(int(i), int(c), int(c), float(p[i, j] if y[i, j] else 1 - p[i, j]), not y[i, j])
        for j, c in enumerate(classes)
        for i in issues[j]
    ]
    suspects.sort(key=lambda s: s.score)
    recalls = [recall_score(y[:, j], p[:, j] > 0.5, average="macro") for j in range(len(classes))]
    decisions = np.stack([1 - p.ravel(), p.ravel()], 1)
    share, ratio = unexplained_share(decisions, y.ravel())
    return LabelErrors(suspects, float(np.mean(recalls)), share, ratio, skipped, len(labels))


def _out_of_fold(features: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Returns probabilities `[N, K]`, each by a classifier trained without the example."""
    # Regularization per example does not depend on the number of examples.
    strength = float(np.clip(100 / len(y), 0.01, 1))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(model, features, y, cv=folds, method="predict_proba"))


def unexplained_share(p: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Estimates the share of labels that contradict even a calibrated classifier.

    It fits the mixture (1 - e) softmax(log(p) / T) + e / K by maximum likelihood. The temperature T
    (Guo et al. 2017, arXiv:1706.04599) models the uncertainty of the classifier, and e the share
    of labels drawn at random. A random label is correct with probability 1 / K, so the share of
    wrong labels is e (1 - 1 / K).

    Args:
      p: out-of-fold probabilities, `[N, K]`.
      y: labels, int `[N]`.

    Returns:
      The estimated share of wrong labels, and the likelihood ratio (2 log) against e = 0.
    """
    classes = p.shape[1]
    logits = np.log(np.maximum(p, 1e-12))

    def given_label(log_temperature: float) -> np.ndarray:
        z = logits / np.exp(log_temperature)
        z = np.exp(z - z.max(1, keepdims=True))
        return z[np.arange(len(y)), y] / z.sum(1)

    def loss(log_temperature: float, e: float = 0.0) -> float:
        return -np.log((1 - e) * given_label(log_temperature) + e / classes + 1e-300).sum()

    # The attributes of the results are dynamic, so scipy has no type for them.
    plain: Any = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    mixtures: list[Any] = [
        minimize(
            lambda v: loss(v[0], 1 / (1 + np.exp(-v[1]))), [plain.x, start], method="Nelder-Mead"
        )
        for start in (-5.0, -3.0)
    ]
    mixed = min(mixtures, key=lambda result: result.fun)
    ratio = max(0.0, 2 * (plain.fun - mixed.fun))
    return float((1 - 1 / classes) / (1 + np.exp(-mixed.x[1]))), float(ratio)

"""Calibration after training: a temperature, and for multi-label a threshold for each class.

It is fitted on a validation split and stored in its checkpoint as `calibration.json`; `predict`
applies it.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from imgcls.core.errors import ConfigError
from imgcls.core.storage import replace_text
from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.per_example import example_nll
from imgcls.runs.load import Checkpoint

FILE = "calibration.json"

# Bounds of the temperature, and standard deviation of the prior of its logarithm: a temperature
# between 1/2 and 2 is within one standard deviation.
TEMPERATURES = (0.05, 20.0)
PRIOR = float(np.log(2))

# Without errors the best temperature is 0; with fewer than these it is mostly noise.
LEAST_ERRORS = 5

# A class with fewer examples on the split keeps the threshold 0.5.
LEAST_POSITIVES = 5

# Parts of the split that are held out in turn.
FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Temperature and thresholds fitted on a split.

    Attributes:
      temperature: divisor of the logits.
      thresholds: float `[K]`; a class is predicted if its probability after the temperature reaches
        its threshold. None if an example has one label: the most probable class is predicted.
      split: name of the split that it was fitted on.
      examples: number of examples that it was fitted on.
      note: why the temperature stays 1; empty if another one was fitted.
    """

    temperature: float = 1.0
    thresholds: np.ndarray | None = None
    split: str = ""
    examples: int = 0
    note: str = ""

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        text = f"temperature {self.temperature:.4g}{note}"
        if self.thresholds is None:
            return text
        fitted, classes = np.sum(self.thresholds != 0.5), len(self.thresholds)
        others = " (0.5 for the others)" if fitted < classes else ""
        return f"{text} and thresholds for {fitted} of {classes} classes{others}"


# The identity: it changes no probability, and its threshold is 0.5.
PLAIN = Calibration()


def fit(outcomes: Outcomes, split: str = "") -> Calibration:
    """Fits a temperature and, for multi-label, thresholds to a split.

    The temperature T minimizes the negative log-likelihood (Guo et al. 2017, arXiv:1706.04599,
    section 4.2), of the softmax or, for any other task, of the sigmoid of each class, plus that of
    a normal prior of log T with mean 0 and standard deviation log 2. It stays 1 if the split has
    fewer than 5 errors, or if temperatures fitted on four fifths of the split do not lower the
    negative log-likelihood of the remaining fifths.

    A threshold maximizes the F1 of its class, see `best_threshold`. It stays 0.5 if the class has
    fewer than 5 examples, or if thresholds fitted on four fifths of the split do not improve the F1
    on the remaining fifths. If the model can't distinguish a class, the F1 is highest when the
    class is always predicted (Lipton et al. 2014, arXiv:1402.1892): a very low threshold is a sign
    of that.

    Args:
      outcomes: outcomes on examples that are used neither for training nor for testing.
      split: name of the split, stored with the result.

    Raises:
      ConfigError: there are no examples.
      TrainingError: a logit is not finite.
    """
    if not len(outcomes):
        raise ConfigError(
            f"calibration: no example of split {split!r} can be read; name a split that has some"
        )
    temperature, note = _fit_temperature(outcomes)
    thresholds = None
    if outcomes.task == "multi_label":
        scores = apply(outcomes, Calibration(temperature)).scores
        classes = zip(scores.T, outcomes.labels.T > 0.5, strict=True)
        thresholds = np.array([_fit_threshold(*class_outcomes) for class_outcomes in classes])
    return Calibration(temperature, thresholds, split, len(outcomes), note)


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the threshold with the highest F1 for one class.

    It is 0.5 between two adjacent scores on both sides of 0.5, otherwise their midpoint, which
    generalizes better than a score itself; of equally good thresholds, the highest. The prior is
    two more examples: a positive just above 0.5 and a negative just below.

    Args:
      scores: probabilities `[N]`.
      labels: bool `[N]`.
    """
    values, group = np.unique(np.append(scores.astype(np.float64), 1.0), return_inverse=True)
    below = np.append(0.0, values[:-1])
    thresholds = np.where((below < 0.5) & (values > 0.5), 0.5, (values + below) / 2)

    def count(weights: np.ndarray) -> np.ndarray:
        """Number of examples above each threshold."""
        return np.bincount(group[:-1], weights, len(values))[::-1].cumsum()[::-1]

    hits = count(labels) + (thresholds <= 0.5)
    predicted = count(np.ones(len(labels))) + (thresholds <= 0.5) + (thresholds < 0.5)
    f1 = 2 * hits / (predicted + labels.sum() + 1)
    return float(thresholds[len(f1) - 1 - np.argmax(f1[::-1])])


def apply(outcomes: Outcomes, calibration: Calibration) -> Outcomes:
    """Returns the outcomes with the probabilities of `logits / temperature` and the same logits.

    Applying it twice is the same as applying it once. At temperature 1 nothing changes.
    """
    if calibration.temperature == 1:
        return outcomes
    logits = outcomes.logits.astype(np.float64) / calibration.temperature
    scores = to_scores(logits, outcomes.task).astype(np.float32)
    return dataclasses.replace(outcomes, scores=scores)


def to_scores(logits: np.ndarray, task: str) -> np.ndarray:
    """Converts logits to probabilities `[N, K]`, like the objective of the task.

    Args:
      logits: `[N, K]`; `[N, 1]` if the task is 'binary'.
      task: see `Outcomes`.
    """
    from scipy.special import expit, softmax

    if task == "softmax":
        return softmax(logits, axis=-1)
    scores = expit(logits)
    return np.concatenate([1 - scores, scores], -1) if task == "binary" else scores


def decide(scores: np.ndarray, calibration: Calibration, task: str) -> np.ndarray:
    """Returns the predicted classes.

    Args:
      scores: probabilities `[N, K]`, after the temperature.
      calibration: source of the thresholds; without thresholds, a class is predicted if its
        probability is above 0.5.
      task: see `Outcomes`.

    Returns:
      int `[N]`, the most probable class (the first of equally probable ones); multi-hot uint8
      `[N, K]` if the task is 'multi_label'.
    """
    if task != "multi_label":
        return np.argmax(scores, axis=-1)
    if calibration.thresholds is None:
        return (scores > 0.5).astype(np.uint8)
    return (scores >= calibration.thresholds).astype(np.uint8)


def save_calibration(checkpoint: Checkpoint, calibration: Calibration, class_names) -> epath.Path:
    """Writes a calibration into a checkpoint; returns the path of the file."""
    path = checkpoint.path / FILE
    fields = dataclasses.asdict(calibration)
    if calibration.thresholds is not None:
        values = map(float, calibration.thresholds)
        fields["thresholds"] = dict(zip(class_names, values, strict=True))
    replace_text(path, json.dumps(fields, indent=2) + "\n")
    return path


def load_calibration(checkpoint: Checkpoint, class_names) -> Calibration:
    """Reads the calibration of a checkpoint; `PLAIN` if it has none.

    Raises:
      ConfigError: the file is not a valid calibration.
    """
    path = checkpoint.path / FILE
    if not path.exists():
        return PLAIN
    try:
        fields = json.loads(path.read_text())
        if fields["thresholds"] is not None:
            fields["thresholds"] = np.array([fields["thresholds"][name] for name in class_names])
        calibration = Calibration(**fields)
        if not calibration.temperature > 0:
            raise ValueError("temperature must be above 0")
    except (ValueError, LookupError, TypeError) as e:
        raise ConfigError(f"{path}: not a calibration ({e}); remove it and calibrate again") from e
    return calibration


def _fit_temperature(outcomes: Outcomes) -> tuple[float, str]:
    """Returns the temperature, and why it is 1 if none was fitted; see `fit`."""
    outcomes.check_finite()
    logits, labels, task = outcomes.logits.astype(np.float64), outcomes.labels, outcomes.task
    errors = decide(outcomes.scores, PLAIN, task) != labels
    if errors.sum() < LEAST_ERRORS:
        plural = "" if errors.sum() == 1 else "s"
        return 1.0, f"{errors.sum()} error{plural}, fewer than {LEAST_ERRORS}"
    gain = 0.0
    for fold in _folds(errors if errors.ndim == 1 else errors.any(1)):
        fitted = _best_temperature(logits[~fold], labels[~fold], task)
        gain += _loss(logits[fold], labels[fold], task) - _loss(
            logits[fold] / fitted, labels[fold], task
        )
    if gain <= 0:
        return 1.0, "no other temperature is better on held-out examples"
    return _best_temperature(logits, labels, task), ""


def _best_temperature(logits: np.ndarray, labels: np.ndarray, task: str) -> float:
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        prior = (log_temperature / PRIOR) ** 2 / 2
        return _loss(logits / np.exp(log_temperature), labels, task) + prior

    result: Any = minimize_scalar(
        loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-5}
    )
    return float(np.exp(result.x))


def _loss(logits: np.ndarray, labels: np.ndarray, task: str) -> float:
    """Negative log-likelihood of all decisions: of the examples, or of each class of each."""
    decisions = 1 if task == "softmax" else logits.shape[1]
    return float(np.sum(example_nll(logits, labels, task))) * decisions


def _fit_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the threshold of one class, see `fit`."""
    if labels.sum() < LEAST_POSITIVES:
        return 0.5
    fitted = np.zeros(len(labels), bool)
    for fold in _folds(labels):
        fitted[fold] = scores[fold] >= best_threshold(scores[~fold], labels[~fold])
    improves = _f1(fitted, labels) > _f1(scores > 0.5, labels)
    return best_threshold(scores, labels) if improves else 0.5


def _f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    return 2 * np.sum(predicted & labels) / max(np.sum(predicted) + np.sum(labels), 1)


def _folds(rare: np.ndarray) -> Iterator[np.ndarray]:
    """Yields bool `[N]` for each fold; each has its share of the examples where `rare` is true."""
    order = np.random.default_rng(0).permutation(len(rare))
    order = order[np.argsort(~rare[order], kind="stable")]
    number = np.empty(len(rare), int)
    number[order] = np.arange(len(rare)) % FOLDS
    for fold in range(min(FOLDS, len(rare))):
        yield number == fold

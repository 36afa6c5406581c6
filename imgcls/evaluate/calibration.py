"""Calibration after training: a temperature, and for multi-label a threshold for each class.

It is fitted on a validation split and stored in its checkpoint as `calibration.json`; `predict`
applies it.
"""

import dataclasses
import json
from typing import Any

import numpy as np
from etils import epath

from imgcls.core.errors import ConfigError
from imgcls.core.storage import replace_text
from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.per_example import example_nll
from imgcls.runs.load import Checkpoint

FILE = "calibration.json"

# Bounds of the temperature. A split without a mistake would have 0.
TEMPERATURES = (0.05, 20.0)

# A class with fewer examples on the split keeps the threshold 0.5.
LEAST_POSITIVES = 5


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Temperature and thresholds fitted on a split.

    Attributes:
      temperature: divisor of the logits.
      thresholds: float `[K]`; a class is predicted if its probability after the temperature reaches
        its threshold. None if an example has one label: the most probable class is predicted.
      split: name of the split that it was fitted on.
      examples: number of examples that it was fitted on.
    """

    temperature: float = 1.0
    thresholds: np.ndarray | None = None
    split: str = ""
    examples: int = 0


# The identity: it changes no probability, and its threshold is 0.5.
PLAIN = Calibration()


def fit(outcomes: Outcomes, split: str = "") -> Calibration:
    """Fits a temperature and, for multi-label, thresholds to a split.

    The temperature minimizes the negative log-likelihood (Guo et al. 2017, arXiv:1706.04599,
    section 4.2), of the softmax or, for any other task, of the sigmoid of each class. It stays 1
    if no other temperature between 0.05 and 20 is better.

    A threshold maximizes the F1 of its class. It is the midpoint of two adjacent scores, which
    generalizes better than a score itself; of equally good thresholds, the highest is used. With
    few positives the threshold is mostly noise, so a class with fewer than 5 keeps 0.5. If the
    model can't distinguish a class, the F1 is highest when the class is always predicted (Lipton et
    al. 2014, arXiv:1402.1892): a very low threshold is a sign of that.

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
    temperature = _fit_temperature(outcomes)
    thresholds = None
    if outcomes.task == "multi_label":
        scores = apply(outcomes, Calibration(temperature)).scores
        classes = zip(scores.T, outcomes.labels.T > 0.5, strict=True)
        thresholds = np.array([best_threshold(*class_outcomes) for class_outcomes in classes])
    return Calibration(temperature, thresholds, split, len(outcomes))


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the threshold with the highest F1 for one class, see `fit`.

    Args:
      scores: probabilities `[N]`.
      labels: bool `[N]`.
    """
    from sklearn.metrics import precision_recall_curve

    if labels.sum() < LEAST_POSITIVES:
        return 0.5
    precision, recall, values = precision_recall_curve(labels, scores.astype(np.float64))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = len(values) - 1 - int(np.argmax(f1[: len(values)][::-1]))
    below = values[best - 1] if best else 0.0
    return float((values[best] + below) / 2)


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


def _fit_temperature(outcomes: Outcomes) -> float:
    from scipy.optimize import minimize_scalar

    outcomes.check_finite()
    logits, task = outcomes.logits.astype(np.float64), outcomes.task

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(example_nll(scaled, outcomes.labels, task)))

    result: Any = minimize_scalar(
        loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-5}
    )
    return float(np.exp(result.x)) if result.fun < loss(0.0) else 1.0

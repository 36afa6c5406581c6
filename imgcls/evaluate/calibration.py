"""What is chosen on validation after training: a temperature, and a threshold for each class.

It is kept in the checkpoint that it was chosen for, as `calibration.json`; `predict` applies it.
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

# Where a temperature is looked for. A split without a mistake would have 0.
TEMPERATURES = (0.05, 20.0)

# A class with fewer examples on the split keeps the threshold 0.5.
LEAST_POSITIVES = 5


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Chosen on a split.

    Attributes:
      temperature: what logits are divided by.
      thresholds: of the probabilities after that, float `[K]`; a class is said from its threshold
        on. None where an example has one class, the most probable.
      split: where it was chosen.
      examples: how many it was chosen on.
    """

    temperature: float = 1.0
    thresholds: np.ndarray | None = None
    split: str = ""
    examples: int = 0


# Changes nothing.
PLAIN = Calibration()


def fit(outcomes: Outcomes, split: str = "") -> Calibration:
    """The temperature and, for multi-label, the thresholds that fit a split best.

    The temperature minimises the negative log-likelihood (Guo et al. 2017, arXiv:1706.04599,
    section 4.2), of the softmax or, for any other task, of the sigmoid of each class. It stays 1
    where no other one between 0.05 and 20 is better.

    A threshold maximises the class's F1. It lies halfway between the scores of two neighbours, and
    so generalises better than a score itself; of equal ones the highest is taken. On few positives
    it follows chance, so a class with fewer than 5 keeps 0.5. For a class that the model can't tell
    apart the best F1 is that of saying it always (Lipton et al. 2014, arXiv:1402.1892): a very low
    threshold is a sign of that.

    Args:
      outcomes: on examples that the model was not trained on, and is not judged on later.
      split: their name, to be kept beside.

    Raises:
      ConfigError: no examples.
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
        thresholds = np.array([best_threshold(*of_class) for of_class in classes])
    return Calibration(temperature, thresholds, split, len(outcomes))


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold of one class with the highest F1 (see `fit`).

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
    """The outcomes with the probabilities of `logits / temperature`; the logits stay.

    So it may be applied again without harm. At temperature 1 nothing changes.
    """
    if calibration.temperature == 1:
        return outcomes
    logits = outcomes.logits.astype(np.float64) / calibration.temperature
    scores = to_scores(logits, outcomes.task).astype(np.float32)
    return dataclasses.replace(outcomes, scores=scores)


def to_scores(logits: np.ndarray, task: str) -> np.ndarray:
    """Probabilities `[N, K]` of logits, as the objective of that task gives them.

    Args:
      logits: `[N, K]`, or `[N, 1]` where the task is 'binary'.
      task: see `Outcomes`.
    """
    from scipy.special import expit, softmax

    if task == "softmax":
        return softmax(logits, axis=-1)
    scores = expit(logits)
    return np.concatenate([1 - scores, scores], -1) if task == "binary" else scores


def decide(scores: np.ndarray, calibration: Calibration, task: str) -> np.ndarray:
    """What the model says.

    Args:
      scores: probabilities `[N, K]`, after the temperature.
      calibration: its thresholds; without any, a probability above 0.5 is a yes.
      task: see `Outcomes`.

    Returns:
      int `[N]`, the most probable class (the first of equal ones); for 'multi_label' multi-hot
      uint8 `[N, K]`.
    """
    if task != "multi_label":
        return np.argmax(scores, axis=-1)
    if calibration.thresholds is None:
        return (scores > 0.5).astype(np.uint8)
    return (scores >= calibration.thresholds).astype(np.uint8)


def save_calibration(checkpoint: Checkpoint, calibration: Calibration, class_names) -> epath.Path:
    """Writes it into a checkpoint; returns the file."""
    path = checkpoint.path / FILE
    found = dataclasses.asdict(calibration)
    if calibration.thresholds is not None:
        values = map(float, calibration.thresholds)
        found["thresholds"] = dict(zip(class_names, values, strict=True))
    replace_text(path, json.dumps(found, indent=2) + "\n")
    return path


def load_calibration(checkpoint: Checkpoint, class_names) -> Calibration:
    """Reads that of a checkpoint; the plain one if it has none.

    Raises:
      ConfigError: a file that was edited into something else.
    """
    path = checkpoint.path / FILE
    if not path.exists():
        return PLAIN
    try:
        found = json.loads(path.read_text())
        if found["thresholds"] is not None:
            found["thresholds"] = np.array([found["thresholds"][name] for name in class_names])
        calibration = Calibration(**found)
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

    found: Any = minimize_scalar(
        loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-5}
    )
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0

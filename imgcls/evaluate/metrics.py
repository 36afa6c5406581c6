"""Metrics of outcomes: overall, with intervals, and by class.

Evaluation during training, the command `evaluate`, reports and the Python API call `measure`.
"""

import dataclasses
import json

import numpy as np

from imgcls.core import notebook_html
from imgcls.core.errors import ConfigError
from imgcls.evaluate import ranked as ranked_lib
from imgcls.evaluate import sums as sums_lib
from imgcls.evaluate.calibration import PLAIN, Calibration, apply
from imgcls.evaluate.intervals import intervals
from imgcls.evaluate.outcomes import Outcomes
from imgcls.evaluate.ranked import Ranked
from imgcls.evaluate.sums import RATES, Sums, rates

# Metrics of `measure(light=True)` in the order of the log.
_ONE_LABEL = ("loss", "brier", "examples", "ece", "accuracy", "top5_accuracy", *RATES, "skipped")
LIGHT = {
    "softmax": _ONE_LABEL,
    "sigmoid": _ONE_LABEL,
    "binary": (
        *("loss", "brier", "examples", "accuracy", "ece", *RATES),
        *("auroc", "average_precision", "skipped"),
    ),
    "multi_label": (
        *("loss", "brier", "examples", "map", "map_classes"),
        *(f"{average}_{rate}" for average in ("macro", "micro") for rate in RATES),
        *("exact_match", "ece", "skipped"),
    ),
}
# Which values of the metrics of `measure` are better; it has all of them but the counts.
DIRECTIONS = sums_lib.DIRECTIONS | ranked_lib.DIRECTIONS

# Largest number of classes whose confusion matrix a notebook shows.
_SHOWN_CLASSES = 30


@dataclasses.dataclass(frozen=True)
class Summary:
    """Metrics of one set of outcomes.

    Attributes:
      task: task of the objective, see `Outcomes`.
      temperature: temperature of the probabilities.
      metrics: `{metric: value}`, see `measure`.
      intervals: `{metric: (low, high)}`; 95 % of the bootstrap values are between them.
      classes: for each of the K classes `name`, `support` (number of examples), `precision`,
        `recall`, `f1`, `average_precision` and `roc_auc` (None if not defined) and, for
        multi-label, `threshold`.
      confusion: int `[K, K]`, rows are labels and columns predictions; for multi-label
        `[K, 2, 2]`, for each class `[[true negatives, false positives], [false negatives, true
        positives]]`.
    """

    task: str
    temperature: float
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    classes: list[dict]
    confusion: np.ndarray

    def to_json(self) -> str:
        """Returns JSON in which each class has one line in `classes` and one in `confusion`."""
        fields = dataclasses.asdict(self) | {"confusion": self.confusion.tolist()}
        lines = [f'"{key}": {_item_lines(value)}' for key, value in fields.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _repr_html_(self) -> str:
        """The metrics with their intervals and, of up to 30 classes, the confusion matrix."""
        rows = [(k, v, *self.intervals.get(k, (None, None))) for k, v in self.metrics.items()]
        shown = notebook_html.table(("metric", "value", "95% from", "to"), rows)
        if self.confusion.ndim == 2 and len(self.classes) <= _SHOWN_CLASSES:
            names = [row["name"] for row in self.classes]
            shown += notebook_html.heat_table(names, self.confusion.tolist())
        return f"<div>{shown}</div>"


def measure(
    outcomes: Outcomes,
    calibration: Calibration = PLAIN,
    *,
    light: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Summary:
    """Computes the metrics of outcomes after calibration, with bootstrap intervals.

    A metric that is not defined on the data is left out. A ratio 0/0 counts as 0, like
    scikit-learn's `zero_division=0`.

    - One label: `accuracy`, `balanced_accuracy` (mean recall of the classes with examples),
      `top5_accuracy` (with more than 5 classes), and `precision`, `recall` and `f1` prefixed
      `macro_` (over the classes that occur among labels or predictions), `micro_` (equal to the
      accuracy) and `weighted_` (by support). Without a prefix they are `macro_`, or those of class
      1 if the task is 'binary'.
    - Multi-label: the same averages (`macro_` over all K classes), `exact_match` (share of examples
      with every class correct), `hamming_loss` (share of wrong decisions) and `micro_roc_auc` (over
      all decisions in one list).
    - `map`: mean average precision of the classes with examples. `roc_auc`: mean over the classes
      that have both positives and negatives, each class against the rest. `map_classes` and
      `roc_auc_classes` are the numbers of these classes, if they are not all K. `auroc` and
      `average_precision`: those of class 1 if the task is 'binary' and both classes have examples.
    - `ece`: expected calibration error over 15 bins of equal width (Guo et al. 2017,
      arXiv:1706.04599, equation 3); for multi-label over all decisions, comparing the probability
      of a class with how often it is a label. `brier`: see `brier_score`. `nll`: see `example_nll`.
    - `loss`: loss of the objective, without calibration. `examples`: number of examples.
      `skipped`: number of unreadable examples.

    Intervals are percentiles of the bootstrap over examples (Efron & Tibshirani 1993, chapter 13)
    for every metric except the counts. The interval of `ece` is biased upward, because resampling
    adds noise to every bin. The ranked metrics (`map` and the ROC areas) take longest: above
    200,000 examples times classes they use fewer than 1,000 replicates, and above a million they
    have no interval. 10,000 examples of 10 classes take about 2 s, and 50,000 of 1,000 classes
    about 35 s, of which 27 s are for the 1,000 curves.

    Args:
      outcomes: outcomes before calibration.
      calibration: calibration to apply.
      light: whether to return only the metrics in `LIGHT`, which are logged during training: no
        intervals, classes or confusion matrix. Required for outcomes in the light form.
      bootstrap: number of bootstrap replicates; 0 for no intervals.
      seed: seed of the bootstrap.

    Raises:
      ConfigError: there are no examples.
      TrainingError: a logit or a probability is not finite.
      ValueError: the outcomes are in the light form and `light` is False.
    """
    if not len(outcomes):
        raise ConfigError("evaluation: the split has no examples; name a split that has some")
    if outcomes.is_light and not light:
        raise ValueError("outcomes in the light form: call measure(light=True)")
    outcomes.check_finite()
    outcomes = apply(outcomes, calibration)
    sums, ranked = Sums(outcomes, calibration), Ranked(outcomes)
    unweighted = np.ones((len(outcomes), 1), np.int32)
    metrics = {name: float(value[0]) for name, value in sums.measure(unweighted).items()}
    metrics |= ranked.measure(light)
    counts = {"examples": len(outcomes)}
    counts |= {"skipped": outcomes.skipped} if outcomes.skipped else {}
    if light:
        metrics |= counts
        kept = {name: metrics[name] for name in LIGHT[outcomes.task] if name in metrics}
        return Summary(outcomes.task, calibration.temperature, kept, {}, [], np.zeros((0, 0), int))
    return Summary(
        task=outcomes.task,
        temperature=calibration.temperature,
        metrics=metrics | counts,
        intervals=intervals(outcomes, sums, metrics, bootstrap, seed) if bootstrap else {},
        classes=_class_rows(outcomes, calibration, sums, ranked),
        confusion=_confusion(outcomes, sums),
    )


def _class_rows(
    outcomes: Outcomes, calibration: Calibration, sums: Sums, ranked: Ranked
) -> list[dict]:
    """Returns `Summary.classes`."""
    class_rates = np.stack(rates(sums.hits, sums.predicted, sums.actual), axis=1)
    rows = []
    for number, name in enumerate(outcomes.class_names):
        row = {"name": name, "support": int(sums.actual[number])}
        row |= dict(zip(RATES, class_rates[number].tolist(), strict=True))
        row["average_precision"] = ranked.average_precisions[number]
        row["roc_auc"] = ranked.roc_aucs[number]
        if outcomes.multi_label:
            thresholds = calibration.thresholds
            row["threshold"] = 0.5 if thresholds is None else thresholds[number]
        rows.append(row)
    return rows


def _confusion(outcomes: Outcomes, sums: Sums) -> np.ndarray:
    """Returns `Summary.confusion`."""
    if not outcomes.multi_label:
        from sklearn.metrics import confusion_matrix

        classes = np.arange(len(outcomes.class_names))
        return confusion_matrix(outcomes.labels, sums.decisions, labels=classes)
    hits, missed, false = sums.hits, sums.actual - sums.hits, sums.predicted - sums.hits
    rejected = len(outcomes) - hits - missed - false
    return np.stack([rejected, false, missed, hits], axis=1).reshape(-1, 2, 2)


def _item_lines(value) -> str:
    """Returns JSON, with each item of a list on its own line."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n]"

"""Metrics of a split's outcomes: metrics with intervals, by class, and as curves.

`evaluate` writes it and `report` draws it.
"""

import collections
import dataclasses
import json

import numpy as np
import scipy.sparse

from imgcls.evaluate import bootstrap as bootstrap_lib
from imgcls.evaluate import metrics as metrics_lib
from imgcls.evaluate.calibration import (
    PLAIN,
    Calibration,
    apply,
    decide,
)
from imgcls.evaluate.metrics import (
    BINS,
    RATES,
    averaged_rates,
    confidence_bins,
    rates,
)
from imgcls.evaluate.outcomes import Outcomes

# Scores times replicates that the intervals of ranked metrics may cost (about 15 s), and the fewest
# replicates that give one.
RANKED = 200_000_000
FEWEST = 200


@dataclasses.dataclass(frozen=True)
class Summary:
    """Of one set of outcomes.

    Attributes:
      task: the objective's, see `Outcomes`.
      temperature: that the probabilities are made with.
      metrics: see `summarize`.
      intervals: `{metric: (low, high)}`, between which 95 % of the bootstrap's values lie.
      classes: of each of the K classes `name`, `support` (examples), `precision`, `recall`, `f1`,
        `average_precision` and `roc_auc` (None where not defined) and, for multi-label,
        `threshold`.
      confusion: int `[K, K]`, row the label and column the prediction; for multi-label
        `[K, 2, 2]`, of each class `[[true no, false yes], [false no, true yes]]`.
    """

    task: str
    temperature: float
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    classes: list[dict]
    confusion: np.ndarray

    def to_json(self) -> str:
        """The whole of it as JSON text; a class is a line of `classes`, and of `confusion`."""
        found = dataclasses.asdict(self) | {"confusion": self.confusion.tolist()}
        lines = [f'"{key}": {_lines(value)}' for key, value in found.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def summarize(
    outcomes: Outcomes,
    calibration: Calibration = PLAIN,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Summary:
    """Metrics of outcomes after a calibration, with bootstrap intervals.

    Names that the evaluator `classification` has too are the same numbers. A metric that is not
    defined on the data is left out. Ratios 0/0 count as 0, as scikit-learn's do by zero_division=0.

    - One label: `accuracy`, `balanced_accuracy` (mean recall of the classes that occur),
      `top5_accuracy` (above 5 classes), `precision`, `recall`, `f1` after `macro_` (over the
      classes that occur among labels or predictions), `micro_` (equal to the accuracy) and
      `weighted_` (by support). Without a prefix they are `macro_`, or of yes where the task is
      'binary'.
    - Multi-label: the same averages (`macro_` over all K classes), `exact_match`, `hamming_loss`
      (share of wrong decisions), `micro_roc_auc` (of all decisions in one list).
    - `map`: mean average precision of the classes that occur. `roc_auc`: mean over the classes,
      each against the rest, that have examples and others; `auroc` and `average_precision` are of
      yes where the task is 'binary'.
    - `ece`: expected calibration error over 15 bins of equal width (Guo et al. 2017,
      arXiv:1706.04599, equation 3), for multi-label over all decisions, of the probability of yes
      and how often it is yes. `brier`: see `metrics.brier_score`. `nll`: see `metrics.example_nll`.
    - `loss`: the objective's own, of the logits as they are; `examples`; `skipped` unreadable ones.

    Intervals are percentiles of the bootstrap over examples (Efron & Tibshirani 1993, chapter 13),
    of every metric but the counts. That of `ece` lies high, as resampling adds noise to every bin.
    The ranked metrics, `map` and those of ROC, take longest: from 200,000 examples times classes
    they get fewer than 1,000 replicates, and above a million no interval. 10,000 examples of 10
    classes take about 2 s, 50,000 of 1,000 about 35 s, all but 8 s of them for the 1,000 curves.

    Args:
      outcomes: as the model gave them.
      calibration: its temperature and thresholds are applied here.
      bootstrap: replicates; 0 for no intervals.
      seed: of the bootstrap.

    Raises:
      ConfigError: no examples.
      TrainingError: a logit or a score is not finite.
    """
    metrics_lib.check_examples(len(outcomes))
    metrics_lib.finite_scores(outcomes.logits)
    outcomes = apply(outcomes, calibration)
    metrics_lib.finite_scores(outcomes.scores)
    answers = _Answers(outcomes, calibration)
    once = np.ones((len(outcomes), 1), np.int32)
    measured = {name: float(value[0]) for name, value in answers.measure(once).items()}
    classes = _by_class(answers)
    measured |= _ranked(answers, classes)
    intervals = _intervals(answers, measured, bootstrap, seed) if bootstrap else {}
    measured["examples"] = len(outcomes)
    if outcomes.skipped:
        measured["skipped"] = outcomes.skipped
    task, temperature = outcomes.task, calibration.temperature
    return Summary(task, temperature, measured, intervals, classes, _confusion(answers))


def precision_recall(outcomes: Outcomes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`{class name: (precision, recall)}` by falling threshold, of the classes that occur.

    Args:
      outcomes: after their calibration, see `calibration.apply`.
    """
    from sklearn.metrics import precision_recall_curve

    hot = _hot(outcomes)
    curves = {}
    for number in np.flatnonzero(hot.any(0)):
        precision, recall, _ = precision_recall_curve(hot[:, number], outcomes.scores[:, number])
        curves[outcomes.class_names[number]] = precision[::-1], recall[::-1]
    return curves


def reliability(outcomes: Outcomes, bins: int = BINS) -> tuple:
    """How often the model is right, by how sure it is: the bins that the `ece` is made of.

    Args:
      outcomes: after their calibration, see `calibration.apply`.
      bins: of equal width.

    Returns:
      Of the bins that hold any: mean confidence float `[b]`, share of right answers float `[b]` and
      their number int `[b]`. For multi-label the probability of each decision, and how often it is
      a yes.
    """
    confidence, correct = _confidence(outcomes, _hot(outcomes))
    bins_of = confidence_bins(confidence.ravel(), bins)
    count = np.bincount(bins_of, minlength=bins)
    sums = [np.bincount(bins_of, x.ravel(), bins) for x in (confidence, correct)]
    kept = count > 0
    return sums[0][kept] / count[kept], sums[1][kept] / count[kept], count[kept]


class _Answers:
    """Outcomes as decisions, and what a weighted sum over the examples needs of them.

    Args:
      outcomes: after their calibration.
      calibration: for its thresholds.

    Attributes:
      hot: bool `[N, K]`, the labels.
      said: bool `[N, K]`, the predictions.
      hits, predicted, actual: int `[K]`, counts of each class.
    """

    def __init__(self, outcomes: Outcomes, calibration: Calibration):
        self.outcomes, self.thresholds = outcomes, calibration.thresholds
        self.multi_label = outcomes.task == "multi_label"
        answers = decide(outcomes.scores, calibration, outcomes.task)
        self.hot = _hot(outcomes)
        classes = np.arange(self.hot.shape[1])
        self.said = answers > 0 if self.multi_label else answers[:, None] == classes
        self._means = self._per_example(calibration)
        confidence, correct = _confidence(outcomes, self.hot)
        self._decisions = confidence.size
        tallies = (
            self.hot & self.said,
            self.said,
            self.hot,
            _gaps(confidence, correct),
            np.stack(list(self._means.values()), axis=1),
        )
        self._bounds = np.cumsum([tally.shape[1] for tally in tallies])[:-1]
        self._tallies = scipy.sparse.hstack([scipy.sparse.csc_array(t) for t in tallies]).T.tocsr()
        self.hits, self.predicted, self.actual = (x.sum(0) for x in tallies[:3])

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics that are made of sums, where each example counts several times.

        Args:
          weights: int `[N, R]`, R ways to count them, N in all.

        Returns:
          `{name: [R]}`.
        """
        sums = np.split((self._tallies @ weights).T, self._bounds, axis=1)
        hits, predicted, actual, gaps, means = sums
        found = averaged_rates(hits, predicted, actual, every_class=self.multi_label)
        if not self.multi_label:
            recall, present = hits / np.maximum(actual, 1), actual > 0
            found["balanced_accuracy"] = np.sum(recall, 1) / np.sum(present, 1)
            found |= {name: found[f"macro_{name}"] for name in RATES}
        if self.outcomes.task == "binary":
            of_yes = rates(hits[:, 1], predicted[:, 1], actual[:, 1])
            found |= dict(zip(RATES, of_yes, strict=True))
        found["ece"] = np.sum(np.abs(gaps), axis=1) / self._decisions
        return found | dict(zip(self._means, means.T / len(weights), strict=True))

    def _per_example(self, calibration: Calibration) -> dict[str, np.ndarray]:
        """What a metric is the mean of, `{name: [N]}`."""
        p, right = self.outcomes, self.hot == self.said
        logits = np.asarray(p.logits, np.float64) / calibration.temperature
        found = {
            "nll": metrics_lib.example_nll(logits, p.labels, p.task),
            "brier": np.asarray(metrics_lib.brier_score(p.scores, p.labels), np.float64),
        }
        if p.losses is not None:
            found["loss"] = p.losses
        if self.multi_label:
            return found | {"exact_match": right.all(1), "hamming_loss": 1 - right.mean(1)}
        found["accuracy"] = right.all(1)
        if len(p.class_names) > 5:
            best = np.asarray(metrics_lib.top_k_indices(p.scores, 5))
            found["top5_accuracy"] = (best == p.labels[:, None]).any(1)
        return found


def _hot(outcomes: Outcomes) -> np.ndarray:
    """The labels as bool `[N, K]`."""
    if outcomes.task == "multi_label":
        return outcomes.labels > 0.5
    return outcomes.labels[:, None] == np.arange(outcomes.scores.shape[1])


def _confidence(outcomes: Outcomes, hot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the `ece` compares: probabilities and whether they were right, `[N, decisions]`."""
    scores = outcomes.scores.astype(np.float64)
    if outcomes.task == "multi_label":
        return scores, hot
    answers = np.argmax(scores, axis=1)[:, None]
    return (np.take_along_axis(x, answers, axis=1) for x in (scores, hot))


def _gaps(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """The sum of correct - confidence of each example in each bin, `[N, BINS]`."""
    rows = np.arange(len(confidence))[:, None] * BINS
    places = (rows + confidence_bins(confidence)).ravel()
    gaps = np.bincount(places, (correct - confidence).ravel(), len(confidence) * BINS)
    return gaps.reshape(-1, BINS)


def _by_class(answers: _Answers) -> list[dict]:
    """See `Summary.classes`."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    counts = answers.hits, answers.predicted, answers.actual
    of_classes = dict(zip(RATES, rates(*counts), strict=True))
    found = []
    for number, name in enumerate(answers.outcomes.class_names):
        labels, support = answers.hot[:, number], int(answers.actual[number])
        scores = answers.outcomes.scores[:, number]
        row = {"name": name, "support": support}
        row |= {rate: float(values[number]) for rate, values in of_classes.items()}
        row["average_precision"] = row["roc_auc"] = None
        if support:
            row["average_precision"] = float(average_precision_score(labels, scores))
        if 0 < support < len(labels):
            row["roc_auc"] = float(roc_auc_score(labels, scores))
        if answers.multi_label:
            row["threshold"] = 0.5 if answers.thresholds is None else answers.thresholds[number]
        found.append(row)
    return found


def _ranked(answers: _Answers, classes: list[dict]) -> dict[str, float]:
    """The metrics that are made of rankings."""
    from sklearn.metrics import roc_auc_score

    found = {}
    for name, key in (("map", "average_precision"), ("roc_auc", "roc_auc")):
        values = [of_class[key] for of_class in classes if of_class[key] is not None]
        if values:
            found[name] = float(np.mean(values))
    if answers.outcomes.task == "binary" and "roc_auc" in found:
        found["auroc"] = classes[1]["roc_auc"]
        found["average_precision"] = classes[1]["average_precision"]
    if answers.multi_label and 0 < answers.hot.sum() < answers.hot.size:
        scores = answers.outcomes.scores
        found["micro_roc_auc"] = float(roc_auc_score(answers.hot.ravel(), scores.ravel()))
    return found


def _intervals(answers: _Answers, measured: dict, replicates: int, seed: int) -> dict:
    """See `Summary.intervals`."""
    found, scores, hot = collections.defaultdict(list), answers.outcomes.scores, answers.hot
    left = min(replicates, RANKED // hot.size)
    left = left if left >= min(replicates, FEWEST) else 0
    rankings = [bootstrap_lib.rank(*pair) for pair in zip(scores.T, hot.T, strict=True) if left]
    if left and answers.multi_label:
        rankings.append(bootstrap_lib.rank(scores, hot))
    for weights in bootstrap_lib.draw(len(hot), replicates, seed):
        values = answers.measure(weights)
        if left:
            part = weights[:, :left]
            values |= _replicate_ranked(answers, rankings, part)
            left -= part.shape[1]
        for name, of_part in values.items():
            found[name].append(of_part)
    joined = {name: np.concatenate(parts) for name, parts in found.items() if name in measured}
    return {n: bootstrap_lib.percentiles(v) for n, v in joined.items() if np.isfinite(v).any()}


def _replicate_ranked(answers: _Answers, rankings: list, weights: np.ndarray) -> dict:
    """The metrics of `_ranked` where each example counts several times, `{name: [R]}`."""
    precision, roc = np.stack([bootstrap_lib.areas(r, weights) for r in rankings], axis=1)
    number = len(answers.outcomes.class_names)
    found = {
        "map": bootstrap_lib.defined_mean(precision[:number]),
        "roc_auc": bootstrap_lib.defined_mean(roc[:number]),
    }
    if answers.outcomes.task == "binary":
        found |= {"auroc": roc[1], "average_precision": precision[1]}
    if answers.multi_label:
        found["micro_roc_auc"] = roc[number]
    return found


def _confusion(answers: _Answers) -> np.ndarray:
    """See `Summary.confusion`."""
    if not answers.multi_label:
        from sklearn.metrics import confusion_matrix

        labels, said = answers.outcomes.labels, np.argmax(answers.said, axis=1)
        return confusion_matrix(labels, said, labels=np.arange(answers.said.shape[1]))
    hits, missed = answers.hits, answers.actual - answers.hits
    false = answers.predicted - hits
    rest = len(answers.said) - hits - missed - false
    return np.stack([rest, false, missed, hits], axis=1).reshape(-1, 2, 2)


def _lines(value) -> str:
    """JSON, with the items of a list on lines of their own."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n]"

"""Tables of a report, as plain values for the template."""

import math

import numpy as np
from etils import epath

from imgcls.evaluate.baseline import Baseline
from imgcls.report.results import Results
from imgcls.runs.metrics_log import read_metrics

# Above this number of classes a list of confused pairs replaces the matrix.
MATRIX = 30
PAIRS = 20

# Metrics in the order of the table.
MEANINGS = {
    "accuracy": "share of examples whose most probable class is the label",
    "balanced_accuracy": "mean recall over the classes",
    "top5_accuracy": "share of examples whose label is among the five most probable classes",
    "precision": "share of the predictions of a class that are correct",
    "recall": "share of the examples of a class that are predicted",
    "f1": "harmonic mean of precision and recall",
    "macro_precision": "mean precision over the classes",
    "macro_recall": "mean recall over the classes",
    "macro_f1": "mean F1 over the classes",
    "micro_precision": "precision over all decisions",
    "micro_recall": "recall over all decisions",
    "micro_f1": "F1 over all decisions",
    "weighted_precision": "mean precision over the classes, weighted by their number of examples",
    "weighted_recall": "mean recall over the classes, weighted by their number of examples",
    "weighted_f1": "mean F1 over the classes, weighted by their number of examples",
    "exact_match": "share of examples for which all decisions are correct",
    "hamming_loss": "share of decisions that are wrong",
    "map": "mean average precision over the classes",
    "roc_auc": "mean area under the ROC curve over the classes",
    "micro_roc_auc": "area under the ROC curve of all decisions",
    "auroc": "area under the ROC curve",
    "average_precision": "area under the precision-recall curve",
    "ece": "expected calibration error: mean difference between confidence and accuracy",
    "brier": "Brier score: mean squared error of the probabilities",
    "nll": "negative log-likelihood of the labels",
    "loss": "loss of the training objective, without calibration",
}
COUNTS = ("examples", "skipped", "map_classes", "roc_auc_classes")
# Metrics whose curves over training are shown, for all evaluators.
CURVES = ("accuracy", "f1", "map")


def metric_rows(results: Results) -> list[dict]:
    """Returns `{name, value, interval, meaning}` of each metric; `interval` may be None."""
    summary = results.summary
    metrics = {name: value for name, value in summary.metrics.items() if name not in COUNTS}
    if not results.multi_label:
        # For single labels the micro averages equal the accuracy.
        metrics = {k: v for k, v in metrics.items() if not k.startswith("micro_")}
    if results.predictions.task != "binary":
        # Names without a prefix are macro averages.
        metrics = {k: v for k, v in metrics.items() if f"macro_{k}" not in metrics}
    order = [
        *(name for name in MEANINGS if name in metrics),
        *sorted(metrics.keys() - MEANINGS.keys()),
    ]
    return [
        {
            "name": name,
            "value": metrics[name],
            "interval": summary.intervals.get(name),
            "meaning": MEANINGS.get(name, "") + missing_classes(results, name),
        }
        for name in order
    ]


def baseline_rows(results: Results, baseline: Baseline) -> list[tuple[str, float]]:
    """Returns `(name, accuracy)` of the model and of the classifiers without a network."""
    rows = [("this model", results.summary.metrics["accuracy"])]
    if baseline.svm is not None:
        name = f"gradient and color histograms with a support vector machine ({baseline.kernel})"
        rows.append((name, baseline.svm))
    most = results.class_names[baseline.majority_class]
    return [*rows, (f"always the most frequent class, {most}", baseline.majority)]


def missing_classes(results: Results, name: str) -> str:
    """Returns how many classes a mean is over: ' (3 of 4; ...)', or '' if all of them."""
    defined = results.summary.metrics.get(f"{name}_classes")
    if defined is None:
        return ""
    return f" ({defined:.0f} of {len(results.class_names)}; not defined for the others)"


def class_rows(results: Results) -> list[dict]:
    """Returns the metrics of each class; many classes are sorted by F1, lowest first.

    For multi-label models `false_positives` and `false_negatives` are added.
    """
    rows = [dict(row) for row in results.summary.classes]
    if results.multi_label:
        for row, ((_, positives), (negatives, _)) in zip(
            rows, results.summary.confusion, strict=True
        ):
            row |= {"false_positives": int(positives), "false_negatives": int(negatives)}
    return rows if len(rows) <= MATRIX else sorted(rows, key=lambda row: row["f1"])


def confusion_rows(results: Results) -> list[dict] | None:
    """Returns the rows of the confusion matrix, or None for multi-label models and many classes.

    A row is `{name, cells}`, and a cell is `(number, share of the row)`.
    """
    if results.multi_label or len(results.class_names) > MATRIX:
        return None
    matrix = results.summary.confusion
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    return [
        {"name": name, "cells": list(zip(*values, strict=True))}
        for name, *values in zip(results.class_names, matrix.tolist(), shares.tolist(), strict=True)
    ]


def confused_pairs(results: Results) -> list[dict]:
    """Returns `{label, predicted, number, share of the label}` of the most frequent mistakes."""
    if results.multi_label:
        return []
    matrix = results.summary.confusion
    wrong = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(place), len(matrix)) for place in order]
    names, totals = results.class_names, matrix.sum(1)
    return [
        {
            "label": names[i],
            "predicted": names[j],
            "number": int(wrong[i, j]),
            "share": wrong[i, j] / totals[i],
        }
        for i, j in places
        if wrong[i, j]
    ]


def split_rows(results: Results, counts: dict[str, np.ndarray]) -> list[dict]:
    """Returns `{split, examples, least, most}`; the last two are `(class, examples)`."""
    names = results.class_names
    return [
        {
            "split": split,
            "examples": int(by_class.sum()),
            "least": (names[int(by_class.argmin())], int(by_class.min())),
            "most": (names[int(by_class.argmax())], int(by_class.max())),
        }
        for split, by_class in counts.items()
    ]


def read_history(workdir: epath.Path) -> tuple[dict[str, dict], float | None]:
    """Reads the metrics of a training run from `metrics.jsonl`.

    Returns:
      Curves by chart, `{chart: {name: (steps [S], values [S])}}`, and the time of the last line in
      Unix seconds. Without the file they are empty and None.
    """
    lines = read_metrics(workdir)
    series: dict[str, list] = {}
    for line in lines:
        for key, value in line.items():
            if key not in ("step", "time"):
                number = value if math.isfinite(value) else math.nan
                series.setdefault(key, []).append((line["step"], number))
    arrays = {key: np.array(pairs, float).T for key, pairs in series.items()}
    charts = {
        "loss": {key: xy for key, xy in arrays.items() if key.endswith("loss")},
        "learning rate": {k: xy for k, xy in arrays.items() if k == "train/learning_rate"},
    }
    for metric in CURVES:
        charts[metric] = {
            key: xy
            for key, xy in arrays.items()
            if key.rpartition("/")[2].removeprefix("ema_") == metric
        }
    ended = lines[-1]["time"] if lines else None
    return {chart: series for chart, series in charts.items() if series}, ended

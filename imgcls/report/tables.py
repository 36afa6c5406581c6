"""Tables of a report, as plain values for the template."""

import json
import math
import pathlib

import numpy as np

from imgcls.report.results import Results

# Above so many classes pairs that are mixed up say more than a matrix.
MATRIX = 30
PAIRS = 20

# In the order that they are shown in.
MEANINGS = {
    "accuracy": "share of examples whose most probable class is the label",
    "balanced_accuracy": "mean over the classes of the share that is found",
    "top5_accuracy": "the label is among the five most probable classes",
    "precision": "share of what is said that is right",
    "recall": "share of what there is that is said",
    "f1": "harmonic mean of precision and recall",
    "macro_precision": "mean of the classes' precision",
    "macro_recall": "mean of the classes' recall",
    "macro_f1": "mean of the classes' F1",
    "micro_precision": "precision over all decisions",
    "micro_recall": "recall over all decisions",
    "micro_f1": "F1 over all decisions",
    "weighted_precision": "precision, classes by their number of examples",
    "weighted_recall": "recall, classes by their number of examples",
    "weighted_f1": "F1, classes by their number of examples",
    "exact_match": "share of examples with every decision right",
    "hamming_loss": "share of wrong decisions",
    "map": "mean average precision of the classes",
    "roc_auc": "mean area under the classes' ROC curves",
    "micro_roc_auc": "area under the ROC curve of all decisions",
    "auroc": "area under the ROC curve",
    "average_precision": "area under the precision-recall curve",
    "ece": "expected calibration error: how far confidence is from accuracy",
    "brier": "mean squared error of the probabilities",
    "nll": "negative log-likelihood of the probabilities",
    "loss": "the training loss, of the logits as they are",
}
COUNTS = ("examples", "skipped")
# Of several evaluators each, over training.
CURVES = ("accuracy", "f1", "map")


def metric_rows(results: Results) -> list[dict]:
    """`{name, value, interval, meaning}` of each metric; the interval is None or `(low, high)`."""
    summary = results.summary
    metrics = {name: value for name, value in summary.metrics.items() if name not in COUNTS}
    if not results.multi_label:
        # Of one label each they are the accuracy.
        metrics = {k: v for k, v in metrics.items() if not k.startswith("micro_")}
    if results.predictions.task != "binary":
        # Those without a prefix are the macro ones.
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
            "meaning": MEANINGS.get(name, ""),
        }
        for name in order
    ]


def class_rows(results: Results) -> list[dict]:
    """`Summary.classes`, the worst first of many; of multi-label also `wrong` and `missed`."""
    rows = [dict(row) for row in results.summary.classes]
    if results.multi_label:
        for row, ((_, wrong), (missed, _)) in zip(rows, results.summary.confusion, strict=True):
            row |= {"wrong": int(wrong), "missed": int(missed)}
    return rows if len(rows) <= MATRIX else sorted(rows, key=lambda row: row["f1"])


def confusion_rows(results: Results) -> list[dict] | None:
    """The matrix: `{name, cells}` of each label, a cell is `(number, share of the row)`."""
    if results.multi_label or len(results.class_names) > MATRIX:
        return None
    matrix = results.summary.confusion
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    return [
        {"name": name, "cells": list(zip(*values, strict=True))}
        for name, *values in zip(results.class_names, matrix.tolist(), shares.tolist(), strict=True)
    ]


def confused_pairs(results: Results) -> list[dict]:
    """`{label, said, number, share}` of the mistakes that are made most often."""
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
            "said": names[j],
            "number": int(wrong[i, j]),
            "share": wrong[i, j] / totals[i],
        }
        for i, j in places
        if wrong[i, j]
    ]


def split_rows(results: Results, counts: dict[str, np.ndarray]) -> list[dict]:
    """`{split, examples, least, most}` of splits; the last two are `(class, examples)`."""
    names = results.class_names
    return [
        {
            "split": split,
            "examples": int(found.sum()),
            "least": (names[int(found.argmin())], int(found.min())),
            "most": (names[int(found.argmax())], int(found.max())),
        }
        for split, found in counts.items()
    ]


def read_history(workdir: pathlib.Path) -> tuple[dict[str, dict], float | None]:
    """Training in curves, `{what: {name: (steps, values)}}`, and when it ended, in Unix seconds.

    Both are empty where `metrics.jsonl` is missing.
    """
    lines = []
    if (path := workdir / "metrics.jsonl").is_file():
        for text in path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue  # A line cut off by a crash.
    series: dict[str, list] = {}
    for line in lines:
        for key, value in line.items():
            if key not in ("step", "time"):
                # Numbers that are not finite are written as text.
                number = float(value)
                number = number if math.isfinite(number) else math.nan
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
    return {what: found for what, found in charts.items() if found}, ended

"""A CSV table of predictions, one row per example."""

import csv
import io
import re

from imgcls.evaluate.calibration import (
    Calibration,
    apply,
    decide,
)
from imgcls.evaluate.outcomes import Outcomes


def table_of(outcomes: Outcomes, calibration: Calibration, separator: str) -> str:
    """A line of CSV for every example.

    Its columns are `id` (`Source.name`), `label`, `prediction` and `probability` (of the
    prediction). Multi-label, `label` and `prediction` are joined by the separator, `|` by default
    (a backslash comes before it and before a backslash within a class's name), and each class has a
    column `probability NAME`. All text is in quotes and stays as it is; some spreadsheets run what
    starts with = + - or @ as a formula, unless the column is imported as text.

    Args:
      outcomes: before calibration.
      calibration: is applied.
      separator: between the labels of an example.
    """
    outcomes, names = apply(outcomes, calibration), outcomes.class_names
    answers = decide(outcomes.scores, calibration, outcomes.task)
    out = io.StringIO()
    table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    head = ["id", "label", "prediction"]
    if outcomes.task != "multi_label":
        table.writerow([*head, "probability"])
        columns = (outcomes.names, outcomes.labels, answers, outcomes.scores)
        for name, label, answer, scores in zip(*columns, strict=True):
            table.writerow([name, names[label], names[answer], _rounded(scores[answer])])
        return out.getvalue()
    table.writerow([*head, *(f"probability {name}" for name in names)])
    escaped = [re.sub(rf"(\\|{re.escape(separator)})", r"\\\1", name) for name in names]
    columns = (outcomes.names, outcomes.labels, answers, outcomes.scores)
    for name, *hot, scores in zip(*columns, strict=True):
        said = [separator.join(escaped[i] for i in row.nonzero()[0]) for row in hot]
        table.writerow([name, *said, *map(_rounded, scores)])
    return out.getvalue()


def _rounded(probability: float) -> float:
    return float(f"{probability:.6g}")

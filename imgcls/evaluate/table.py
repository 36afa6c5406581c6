"""CSV table of predictions, one row per example."""

import csv
import io

from imgcls.data.table.labels import join_labels
from imgcls.evaluate.calibration import Calibration, apply, decide
from imgcls.evaluate.outcomes import Outcomes


def table_of(
    outcomes: Outcomes, calibration: Calibration, separator: str, scores: bool = False
) -> str:
    """Returns CSV with one row per example.

    The columns are `id` (see `Source.name`), `label`, `prediction` and `probability` (of the
    prediction); with `scores` each class has a column `probability NAME` as well. For multi-label,
    the classes in `label` and `prediction` are joined by the separator, and the columns after them
    are always those of the classes. Separators and backslashes within a class name are escaped, see
    `join_labels`. Text is quoted and otherwise unchanged; spreadsheets
    evaluate text that starts with = + - or @ as a formula unless the column is imported as text.

    Args:
      outcomes: outcomes before calibration.
      calibration: calibration to apply.
      separator: separator of the labels of an example.
      scores: whether to write the probability of every class if an example has one label.
    """
    outcomes, names = apply(outcomes, calibration), outcomes.class_names
    predictions = decide(outcomes.scores, calibration, outcomes.task)
    out = io.StringIO()
    table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    header, by_class = ["id", "label", "prediction"], [f"probability {name}" for name in names]
    columns = (outcomes.names, outcomes.labels, predictions, outcomes.scores)
    if outcomes.task != "multi_label":
        table.writerow([*header, "probability", *(by_class if scores else [])])
        for name, label, prediction, row in zip(*columns, strict=True):
            cells = (join_labels([names[number]], separator) for number in (label, prediction))
            shown = [row[prediction], *(row if scores else [])]
            table.writerow([name, *cells, *map(_round, shown)])
        return out.getvalue()
    table.writerow([*header, *by_class])
    for name, *multi_hot, row in zip(*columns, strict=True):
        joined = [join_labels([names[i] for i in r.nonzero()[0]], separator) for r in multi_hot]
        table.writerow([name, *joined, *map(_round, row)])
    return out.getvalue()


def _round(probability: float) -> float:
    return float(f"{probability:.6g}")

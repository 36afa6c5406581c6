"""CSV table of predictions, one row per example."""

import csv
import io

from imgcls.data.table.labels import join_labels
from imgcls.evaluate.calibration import Calibration, apply, decide
from imgcls.evaluate.outcomes import Outcomes


def table_of(outcomes: Outcomes, calibration: Calibration, separator: str) -> str:
    """Returns CSV with one row per example.

    The columns are `id` (see `Source.name`), `label`, `prediction` and `probability` (of the
    prediction). For multi-label, the classes in `label` and `prediction` are joined by the
    separator, and each class has a column `probability NAME`. Separators and backslashes within a
    class name are escaped, see `join_labels`. Text is quoted and otherwise unchanged; spreadsheets
    evaluate text that starts with = + - or @ as a formula unless the column is imported as text.

    Args:
      outcomes: outcomes before calibration.
      calibration: calibration to apply.
      separator: separator of the labels of an example.
    """
    outcomes, names = apply(outcomes, calibration), outcomes.class_names
    predictions = decide(outcomes.scores, calibration, outcomes.task)
    out = io.StringIO()
    table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    header = ["id", "label", "prediction"]
    columns = (outcomes.names, outcomes.labels, predictions, outcomes.scores)
    if outcomes.task != "multi_label":
        table.writerow([*header, "probability"])
        for name, label, prediction, scores in zip(*columns, strict=True):
            cells = (join_labels([names[number]], separator) for number in (label, prediction))
            table.writerow([name, *cells, _round(scores[prediction])])
        return out.getvalue()
    table.writerow([*header, *(f"probability {name}" for name in names)])
    for name, *multi_hot, scores in zip(*columns, strict=True):
        joined = [join_labels([names[i] for i in r.nonzero()[0]], separator) for r in multi_hot]
        table.writerow([name, *joined, *map(_round, scores)])
    return out.getvalue()


def _round(probability: float) -> float:
    return float(f"{probability:.6g}")

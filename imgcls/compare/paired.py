"""Two runs on the same test examples: McNemar's test, and differences with paired intervals."""

import csv
import dataclasses

import numpy as np
from etils import epath
from scipy import stats

from imgcls.core.errors import ConfigError
from imgcls.evaluate.intervals import draw, percentiles


@dataclasses.dataclass(frozen=True)
class Answers:
    """Predictions of a run, one label per example.

    Attributes:
      names: names of the N examples.
      labels, predictions: names of the classes.
    """

    names: list[str]
    labels: list[str]
    predictions: list[str]

    def by_name(self) -> dict[str, tuple[str, str]]:
        """`{example: (label, prediction)}`."""
        pairs = zip(self.labels, self.predictions, strict=True)
        return dict(zip(self.names, pairs, strict=True))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Run B against run A.

    Attributes:
      examples: number of examples that both predicted.
      only_a, only_b: names of the examples that only A, or only B, gets right.
      p_value: of McNemar's exact test (McNemar 1947; binomial, two-sided).
      difference: accuracy of B minus that of A.
      interval: 95 % of the paired bootstrap differences are between these.
      classes: for each class `name`, `support`, `a`, `b` (recall), `difference`, `low`, `high`.
      answers: `{example: (label, prediction of A, prediction of B)}` of the disagreements.
    """

    examples: int
    only_a: list[str]
    only_b: list[str]
    p_value: float
    difference: float
    interval: tuple[float, float]
    classes: list[dict]
    answers: dict[str, tuple[str, str, str]]


def read_answers(workdir: epath.Path, evaluator: str) -> Answers | None:
    """Reads what `evaluate` wrote, `report/EVALUATOR_predictions.csv`; None if it is not there.

    Raises:
      ConfigError: the file is not such a table.
    """
    path = workdir / "report" / f"{evaluator}_predictions.csv"
    if not path.is_file():
        return None
    text = path.read_bytes().decode(errors="surrogateescape")
    rows = list(csv.DictReader(text.splitlines()))
    if rows and not {"id", "label", "prediction"} <= rows[0].keys():
        raise ConfigError(f"{path}: has no columns id, label and prediction; run evaluate again")
    columns = ([row[key] for row in rows] for key in ("id", "label", "prediction"))
    return Answers(*columns)


def compare_answers(a: Answers, b: Answers, replicates: int = 1000, seed: int = 0) -> Comparison:
    """Compares two runs on the examples that both predicted.

    Raises:
      ConfigError: they have no example in common, or different labels for one.
    """
    first, second = a.by_name(), b.by_name()
    shared = [name for name in first if name in second]
    if not shared:
        raise ConfigError("the runs have no test example in common: evaluate them on the same data")
    for name in shared:
        if first[name][0] != second[name][0]:
            raise ConfigError(f"{name}: its label differs between the runs: evaluate both again")
    labels = np.array([first[name][0] for name in shared])
    right_a = np.array([first[name][0] == first[name][1] for name in shared])
    right_b = np.array([second[name][0] == second[name][1] for name in shared])
    classes, number = np.unique(labels, return_inverse=True)
    totals = [[] for _ in classes]
    overall = []
    for weights in draw(len(shared), replicates, seed):
        change = (right_b.astype(int) - right_a)[:, None] * weights
        overall.append(change.sum(0) / len(shared))
        for k in range(len(classes)):
            with np.errstate(invalid="ignore"):
                totals[k].append(change[number == k].sum(0) / weights[number == k].sum(0))
    rows = []
    for k, name in enumerate(classes):
        mine = number == k
        low, high = percentiles(np.concatenate(totals[k]))
        recall_a, recall_b = float(right_a[mine].mean()), float(right_b[mine].mean())
        row = {"name": str(name), "support": int(mine.sum()), "a": recall_a, "b": recall_b}
        rows.append(row | {"difference": recall_b - recall_a, "low": low, "high": high})
    only_a = [n for n, x, y in zip(shared, right_a, right_b, strict=True) if x and not y]
    only_b = [n for n, x, y in zip(shared, right_a, right_b, strict=True) if y and not x]
    return Comparison(
        examples=len(shared),
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar(len(only_a), len(only_b)),
        difference=float(right_b.mean() - right_a.mean()),
        interval=percentiles(np.concatenate(overall)),
        classes=rows,
        answers={n: (first[n][0], first[n][1], second[n][1]) for n in [*only_a, *only_b]},
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test: are the disagreements as often one as the other?

    Args:
      only_a, only_b: number of examples that only one of two classifiers gets right.
    """
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(min(only_a, only_b), only_a + only_b, 0.5).pvalue)

"""Runs that differ in their seed alone, as one row of a table."""

import csv
import dataclasses
import io
import json

import numpy as np

from imgcls.compare.workdirs import RunLog, differing_keys
from imgcls.core import config as config_lib

# Metrics of an evaluator that the table has if none are named, the first that exist.
SHOWN = ("accuracy", "map", "f1", "top1_accuracy", "knn_accuracy")


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs with the same config but for the seed.

    Attributes:
      runs: the runs, by seed.
      settings: `{key: value}` of the keys that differ between groups.
    """

    runs: list[RunLog]
    settings: dict[str, object]

    @property
    def name(self) -> str:
        """The settings, or the name of the run."""
        if len(self.runs) == 1 or not self.settings:
            return self.runs[0].name
        named = ((key.rpartition(".")[2], value) for key, value in self.settings.items())
        return ", ".join(f"{key}={value}" for key, value in named)

    def values(self, metric: str, best: bool = False) -> np.ndarray:
        """The final, or the best, values of a metric over the runs that have it, float64 `[R]`."""
        found = [run.best(metric) if best else run.final(metric) for run in self.runs]
        return np.array([value for value in found if value is not None], float)

    def mean_of(self, attribute: str) -> float | None:
        """The mean of an attribute over the runs that have it."""
        found = [getattr(run, attribute) for run in self.runs]
        found = [value for value in found if value is not None]
        return float(np.mean(found)) if found else None


def group(runs: list[RunLog]) -> list[Group]:
    """Joins runs that differ in their seed alone, in the order of the first run of each group."""
    keys, groups = differing_keys(runs), {}
    for run in runs:
        leaves = config_lib.leaves(run.config)
        settings = {key: leaves.get(key) for key in keys}
        groups.setdefault(json.dumps(settings, default=str), (settings, []))[1].append(run)
    return [
        Group(sorted(members, key=lambda run: run.config.seed), settings)
        for settings, members in groups.values()
    ]


def choose_metrics(runs: list[RunLog]) -> list[str]:
    """One metric of each evaluator: that of `keep_best`, else the first of `SHOWN`, else a loss."""
    chosen: dict[str, None] = {}
    for run in runs:
        for evaluator in run.config.evaluators:
            names = [name for name in run.metrics if name.startswith(f"{evaluator}/")]
            known = [n for shown in SHOWN for n in names if n.rpartition("/")[2] == shown]
            losses = [n for n in names if n.endswith("loss")]
            chosen |= dict.fromkeys((known or losses or names)[:1])
    return list(chosen)


def spread(values: np.ndarray) -> tuple[float, float | None] | None:
    """Mean and standard deviation (n - 1) of `[R]`; the latter None of one, both of no values."""
    if not len(values):
        return None
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def rows_of(groups: list[Group], metrics: list[str]) -> list[dict[str, object]]:
    """Rows of the table, `{column: value}`; the same columns in all."""
    rows = []
    for g in groups:
        row: dict[str, object] = {"run": g.name, **g.settings, "seeds": len(g.runs)}
        for metric in metrics:
            for column, best in ((metric, False), (f"best {metric}", True)):
                mean, deviation = spread(g.values(metric, best)) or (None, None)
                row |= {column: mean, f"{column} std": deviation}
        row |= {
            "steps": max(run.steps for run in g.runs),
            "seconds": g.mean_of("seconds"),
            "images/s": g.mean_of("images_per_second"),
            "parameters": g.runs[0].parameters,
        }
        rows.append(row)
    return rows


def to_csv(rows: list[dict[str, object]]) -> str:
    """The table as CSV, numbers in full."""
    out = io.StringIO()
    table = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()


def to_text(rows: list[dict[str, object]]) -> str:
    """The table for a terminal: a deviation stands behind its mean, numbers are set right."""
    columns = [name for name in rows[0] if not name.endswith(" std")]
    cells = [[_shown(row[name], row.get(f"{name} std")) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    is_number = [all(isinstance(row[name], int | float | None) for row in rows) for name in columns]

    def line(texts: list[str]) -> str:
        parts = [
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(texts, widths, is_number, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(columns), *map(line, cells)])


def _shown(value: object, deviation: object = None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
        text = f"{value:.4f}" if 0 < abs(value) < 1 and abs(value) >= 1e-3 else text
        return f"{text} ± {deviation:.4f}" if isinstance(deviation, float) else text
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

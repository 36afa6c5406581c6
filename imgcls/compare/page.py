"""A comparison of runs as an HTML page."""

import os

import numpy as np

from imgcls.compare import charts
from imgcls.compare.groups import Group
from imgcls.compare.paired import Answers, Comparison, compare_answers, read_answers
from imgcls.compare.workdirs import RunLog
from imgcls.data.create import open_split
from imgcls.distributed import sharding
from imgcls.evaluate.__main__ import evaluate
from imgcls.report import html
from imgcls.report.previews import read_previews
from imgcls.runs.load import find_newest

# Pictures of each kind of disagreement, and their longest side in pixels.
PICTURES, SIDE = 12, 132


def write(groups: list[Group], metrics: list[str], rows: list[dict[str, object]]) -> str:
    """Returns the page.

    Args:
      groups: groups of runs; the others are compared to the first one.
      metrics: names of the metrics to show.
      rows: table of the groups, see `groups.rows_of`.
    """
    curves = {name: charts.overlaid(groups, name) for name in ["train/loss", *metrics]}
    costs = ("seconds", "parameters")
    fronts = [charts.pareto(groups, name, cost) for name in metrics[:1] for cost in costs]
    return html.render(
        "compare.html",
        columns=[name for name in rows[0] if not name.endswith(" std")],
        rows=rows,
        curves={name: chart for name, chart in curves.items() if chart},
        fronts=[chart for chart in fronts if chart],
        pairs=_pairs(groups),
    )


def _pairs(groups: list[Group]) -> list[dict]:
    """Each group's first run against that of the first group, on their test examples."""
    first, pairs = groups[0].runs[0], []
    for g in groups[1:]:
        other = g.runs[0]
        evaluator = _shared_evaluator(first, other)
        if evaluator is None:
            continue
        mine, others = _answers(first, evaluator), _answers(other, evaluator)
        if mine is None or others is None:
            continue
        found = compare_answers(mine, others)
        pairs.append(
            {
                "a": first.name,
                "b": other.name,
                "evaluator": evaluator,
                "found": found,
                "pictures": _pictures(first, evaluator, found),
            }
        )
    return pairs


def _shared_evaluator(a: RunLog, b: RunLog) -> str | None:
    """A classification evaluator of both runs, 'test' if it is one."""
    names = [
        name
        for name, options in a.config.evaluators.items()
        if name in b.config.evaluators
        and options.get("type", "classification") == "classification"
        and options.get("split") == b.config.evaluators[name].get("split")
    ]
    return "test" if "test" in names else next(iter(names), None)


def _answers(run: RunLog, evaluator: str) -> Answers | None:
    """The predictions of a run's newest checkpoint, evaluated if that was not done."""
    file = run.workdir / "report" / f"{evaluator}_predictions.csv"
    newest = find_newest(os.fspath(run.workdir))
    if newest is None:
        return read_answers(run.workdir, evaluator)
    if not file.exists() or file.stat().mtime < newest.path.stat().mtime:
        evaluate(f"{run.workdir}:newest", bootstrap=0)
    return read_answers(run.workdir, evaluator)


def _pictures(run: RunLog, evaluator: str, found: Comparison) -> list[dict]:
    """Pictures of the examples that only one of two runs gets right."""
    source = open_split(run.config, run.config.evaluators[evaluator].split)
    position = {source.name(i): i for i in range(len(source))}
    mesh = sharding.create_mesh(run.config)
    shown = []
    kinds = (("Only the first is right", found.only_a), ("Only the second is right", found.only_b))
    for title, names in kinds:
        chosen = [name for name in names if name in position][:PICTURES]
        pictures = read_previews(run.config, source, np.array([position[n] for n in chosen]), mesh)
        figures = [
            {
                "name": name,
                "image": None if picture is None else html.image_uri(picture, SIDE),
                "answers": found.answers[name],
            }
            for name, picture in zip(chosen, pictures, strict=True)
        ]
        shown.append({"title": title, "count": len(names), "figures": figures})
    return shown

"""Charts of a comparison as data URIs of SVG: curves of groups over each other, Pareto fronts."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from imgcls.compare.groups import Group
from imgcls.compare.workdirs import is_higher_better
from imgcls.report import html
from imgcls.report.charts import SIZE, SOFT, STYLE, add_legend, colors, thin


@matplotlib.rc_context(STYLE)
def overlaid(groups: list[Group], metric: str) -> str | None:
    """A metric over the steps: a line for each run, in the color of its group.

    Returns:
      None if no run logged the metric.
    """
    figure = Figure(figsize=SIZE)
    axes = figure.add_subplot(xlabel="step", ylabel=metric)
    handles, names = [], []
    for g, color in zip(groups, colors(len(groups)), strict=True):
        curves = [run.curves[metric] for run in g.runs if metric in run.curves]
        for steps, values in curves:
            marker = "o" if len(steps) < 2 else None
            (line,) = axes.plot(*thin(steps, values), color=color, marker=marker, alpha=0.8)
        if curves:
            handles, names = [*handles, line], [*names, g.name]
    if not handles:
        return None
    add_legend(figure, handles, names)
    return html.chart_uri(figure)


@matplotlib.rc_context(STYLE)
def pareto(groups: list[Group], metric: str, cost: str) -> str | None:
    """A metric over its cost, a dot for each group; a line joins those that nothing dominates.

    Args:
      groups: groups of runs.
      metric: name of the metric, of which the mean over the seeds is drawn.
      cost: attribute of a run: 'seconds' or 'parameters'.

    Returns:
      None if fewer than two groups have both.
    """
    points = []
    for g in groups:
        values, price = g.values(metric), g.mean_of(cost)
        if len(values) and price is not None:
            points.append((price, float(values.mean()), g.name))
    if len(points) < 2:
        return None
    figure = Figure(figsize=SIZE)
    axes = figure.add_subplot(xlabel=cost, ylabel=metric)
    front = pareto_front([(x, y) for x, y, _ in points], is_higher_better(metric))
    axes.plot(*np.array([points[i][:2] for i in front]).T, color=SOFT, linestyle="--", zorder=1)
    drawn = zip(points, colors(len(points)), strict=True)
    handles = [axes.scatter([x], [y], s=36, color=color, zorder=2) for (x, y, _), color in drawn]
    add_legend(figure, handles, [name for *_, name in points])
    return html.chart_uri(figure)


def pareto_front(points: list[tuple[float, float]], higher: bool = True) -> list[int]:
    """Indices of the points `(cost, value)` that no cheaper or equal point beats, by cost."""
    sign = 1 if higher else -1
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1]))
    front, best = [], -np.inf
    for i in order:
        if sign * points[i][1] > best:
            front.append(i)
            best = sign * points[i][1]
    return front

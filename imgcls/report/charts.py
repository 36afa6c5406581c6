"""Charts of a report as data URIs of SVG, readable on a phone."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imgcls.report import html
from imgcls.report.lengths import Bin

# The colors of `templates/base.html`.
INK, SOFT, LINE, ACCENT = "#1d2430", "#5b6675", "#dfe4ea", "#1f5fbf"
SIZE = (5.0, 3.5)
# matplotlib types the keys of settings as a Literal of all names.
STYLE: dict[Any, Any] = {
    "font.size": 10.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}
WITHOUT_GRID: dict[Any, Any] = STYLE | {"axes.grid": False}
# Points per curve; more would only make the page larger.
POINTS = 300
# Largest number of curves or classes that a legend names.
NAMED = 10
LONGEST_NAME = 22


@matplotlib.rc_context(STYLE)
def curves(series: dict[str, tuple[np.ndarray, np.ndarray]], ylabel: str) -> str:
    """Draws metrics over the steps of training.

    Args:
      series: `{name: (steps [S], values [S])}`.
      ylabel: label of the vertical axis.
    """
    figure, axes = _make_axes(xlabel="step", ylabel=ylabel)
    lines = [
        axes.plot(*thin(steps, values), color=color, marker="o" if len(steps) < 2 else None)[0]
        for (steps, values), color in zip(series.values(), colors(len(series)), strict=True)
    ]
    if len(series) > 1:
        add_legend(figure, lines, list(series))
    return html.chart_uri(figure)


@matplotlib.rc_context(STYLE)
def precision_recall(series: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Draws precision over recall of some classes, `{name: (precision [P], recall [P])}`."""
    figure, axes = _make_axes(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    lines = [
        axes.plot(*thin(recall, precision), color=color)[0]
        for (precision, recall), color in zip(series.values(), colors(len(series)), strict=True)
    ]
    add_legend(figure, lines, list(series))
    return html.chart_uri(figure)


@matplotlib.rc_context(STYLE)
def reliability(bins: tuple[np.ndarray, np.ndarray, np.ndarray], multi_label: bool) -> str:
    """Draws a reliability diagram (Guo et al. 2017, arXiv:1706.04599, figure 1).

    Args:
      bins: mean confidence, accuracy and number of examples of each bin, `[b]` each.
      multi_label: whether the bins are of decisions, by the probability of the class.
    """
    confidence, accuracy, count = bins
    figure = Figure(figsize=SIZE)
    axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    axes.plot((0, 1), (0, 1), color=SOFT, linewidth=1, linestyle="--")
    axes.plot(confidence, accuracy, color=ACCENT, marker="o", markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="positive share" if multi_label else "accuracy")
    below.bar(confidence, count / count.sum(), width=1 / 25, color=ACCENT, alpha=0.5)
    below.set(xlabel="probability" if multi_label else "confidence", ylabel="share", ylim=(0, 1))
    return html.chart_uri(figure)


@matplotlib.rc_context(STYLE)
def by_length(bins: Sequence[Bin]) -> str:
    """Draws the accuracy of videos over their length: a line and an interval for each bin."""
    figure, axes = _make_axes(xlabel="seconds", ylabel="accuracy", ylim=(0, 1.02))
    for found in bins:
        low, high = found.interval
        axes.fill_between((found.low, found.high), low, high, color=ACCENT, alpha=0.2, linewidth=1)
        axes.plot((found.low, found.high), (found.accuracy,) * 2, color=ACCENT)
    if bins[-1].high > 20 * max(bins[0].low, 0.01):
        axes.set_xscale("log")
    return html.chart_uri(figure)


@matplotlib.rc_context(WITHOUT_GRID)
def embedding(points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> str:
    """Draws a map of features in the colors of the classes.

    Args:
      points: `[N, 2]`.
      labels: int `[N]`, class of each point.
      class_names: names of the K classes.
    """
    figure = Figure(figsize=(5.0, 4.6))
    axes = figure.add_subplot(xticks=[], yticks=[])
    palette = colors(len(class_names))
    axes.scatter(*points.T, s=9, c=np.array(palette)[labels], linewidths=0)
    if len(class_names) <= 2 * NAMED:
        dots = [axes.scatter([], [], s=20, color=color) for color in palette]
        add_legend(figure, dots, class_names)
    return html.chart_uri(figure)


def short_name(name: str) -> str:
    """Shortens a name to fit a chart, and replaces characters that XML does not allow."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _make_axes(**properties) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE)
    return figure, figure.add_subplot(**properties)


def add_legend(figure: Figure, handles: list, names: Sequence[str]) -> None:
    """Adds a legend below a chart."""
    labels = [short_name(name) for name in names]
    columns = 3 if max(map(len, labels)) <= 12 else 2
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def colors(count: int) -> list:
    """Returns `count` colors; up to twenty are easy to distinguish."""
    if count <= 2 * NAMED:
        # tab20 has pairs of similar colors, so it is used only if tab10 has too few.
        name = "tab10" if count <= NAMED else "tab20"
        return [matplotlib.colormaps[name](i) for i in range(count)]
    return list(matplotlib.colormaps["turbo"](np.linspace(0, 1, count)))


def thin(*arrays: np.ndarray) -> list[np.ndarray]:
    """Keeps at most `POINTS` evenly spaced elements of arrays `[P]`."""
    length = len(arrays[0])
    kept = np.unique(np.linspace(0, length - 1, min(length, POINTS)).round().astype(int))
    return [array[kept] for array in arrays]

"""Charts as data URIs of SVG, drawn so that they can be read on a phone."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imgcls.report import html

# The colours of `templates/base.html`.
INK, SOFT, LINE, ACCENT = "#1d2430", "#5b6675", "#dfe4ea", "#1f5fbf"
SIZE = (5.0, 3.5)
STYLE = {
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
# More points than a curve of this width shows make the page large.
POINTS = 300
# A chart names so many curves or classes.
NAMED = 10
LONGEST_NAME = 22


@matplotlib.rc_context(STYLE)
def curves(series: dict[str, tuple[np.ndarray, np.ndarray]], what: str) -> str:
    """Metrics over the steps of training.

    Args:
      series: `{name: (steps [S], values [S])}`.
      what: they are, beside the axis.
    """
    axes = _make_axes(xlabel="step", ylabel=what)
    marks = [
        axes.plot(*_thin(steps, values), color=color, marker="o" if len(steps) < 2 else None)[0]
        for (steps, values), color in zip(series.values(), _colors(len(series)), strict=True)
    ]
    if len(series) > 1:
        _add_legend(axes, marks, list(series))
    return html.chart(axes.figure)


@matplotlib.rc_context(STYLE)
def precision_recall(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Precision over recall of some classes, `{name: (precision, recall)}`."""
    axes = _make_axes(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    marks = [
        axes.plot(*_thin(recall, precision), color=color)[0]
        for (precision, recall), color in zip(found.values(), _colors(len(found)), strict=True)
    ]
    _add_legend(axes, marks, list(found))
    return html.chart(axes.figure)


@matplotlib.rc_context(STYLE)
def reliability(bins: tuple[np.ndarray, np.ndarray, np.ndarray], multi_label: bool) -> str:
    """How often the model is right, by how sure it is (Guo et al. 2017, figure 1).

    Args:
      bins: confidence, share of right answers and examples of each, see `summary.reliability`.
      multi_label: the confidence is the probability of a decision.
    """
    confidence, right, count = bins
    figure = Figure(figsize=SIZE)
    axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    axes.plot((0, 1), (0, 1), color=SOFT, linewidth=1, linestyle="--")
    axes.plot(confidence, right, color=ACCENT, marker="o", markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share of yes" if multi_label else "accuracy")
    below.bar(confidence, count / count.sum(), width=1 / 25, color=ACCENT, alpha=0.5)
    below.set(xlabel="probability" if multi_label else "confidence", ylabel="share", ylim=(0, 1))
    return html.chart(figure)


@matplotlib.rc_context(STYLE | {"axes.grid": False})
def embedding(points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> str:
    """A map of features: points `[N, 2]` with the colours of their classes int `[N]`."""
    figure = Figure(figsize=(5.0, 4.6))
    axes = figure.add_subplot(xticks=[], yticks=[])
    colors = _colors(len(class_names))
    axes.scatter(*points.T, s=9, c=np.array(colors)[labels], linewidths=0)
    if len(class_names) <= 2 * NAMED:
        marks = [axes.scatter([], [], s=20, color=color) for color in colors]
        _add_legend(axes, marks, class_names)
    return html.chart(figure)


def short(name: str) -> str:
    """A name that fits a chart, and that XML can hold."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"


def _make_axes(**properties) -> Axes:
    return Figure(figsize=SIZE).add_subplot(**properties)


def _add_legend(axes: Axes, marks: list, names: Sequence[str]) -> None:
    shown = [short(name) for name in names]
    columns = 3 if max(map(len, shown)) <= 12 else 2
    axes.figure.legend(marks, shown, loc="outside lower center", ncols=columns)


def _colors(count: int) -> list:
    """As many as there are; up to twenty are told apart."""
    if count <= 2 * NAMED:
        # The colours of tab20 come in pairs that are alike: only where tab10 has too few.
        name = "tab10" if count <= NAMED else "tab20"
        return [matplotlib.colormaps[name](i) for i in range(count)]
    return list(matplotlib.colormaps["turbo"](np.linspace(0, 1, count)))


def _thin(*arrays: np.ndarray) -> list[np.ndarray]:
    length = len(arrays[0])
    kept = np.unique(np.linspace(0, length - 1, min(length, POINTS)).round().astype(int))
    return [array[kept] for array in arrays]

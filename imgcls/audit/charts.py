"""Charts of an audit: the distribution of a property in each class."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imgcls.audit.shortcuts import Property
from imgcls.report import html
from imgcls.report.charts import ACCENT, short_name

# With more classes, a chart shows those at both ends.
MAX_CLASSES = 12
# Up to this number of classes are shown as histograms, more as boxes.
_CURVES = 4
# Largest number of values of a text.
_MAX_VALUES = 8


def spread(prop: Property, targets: np.ndarray, class_names: tuple[str, ...]) -> str:
    """Draws the distribution of a property in each class; returns the data URI of the chart.

    Numbers are histograms for few classes and boxes for more; hues and texts are shares.

    Args:
      prop: a property of N images.
      targets: bool `[N, K]`, the labels.
      class_names: names of the K classes.
    """
    numbers = prop.values.dtype.kind == "f"
    present = np.isfinite(prop.values) if numbers else np.ones(len(targets), bool)
    classes = np.flatnonzero((targets & present[:, None]).any(0))
    if numbers:
        medians = [np.median(prop.values[targets[:, c] & present]) for c in classes]
        classes = classes[np.argsort(medians, kind="stable")]
    if len(classes) > MAX_CLASSES:
        classes = np.r_[classes[: MAX_CLASSES // 2], classes[-MAX_CLASSES // 2 :]]
    if len(classes) <= _CURVES:
        # A class has the same color in all charts of the page.
        classes = np.sort(classes)
    names = [short_name(class_names[c]) for c in classes]
    groups = [prop.values[targets[:, c] & present] for c in classes]
    if prop.name == "hue":
        draw = _arcs
    elif numbers:
        draw = _curves if len(classes) <= _CURVES else _boxes
    else:
        draw = _shares
    height = 3.2 if draw is _curves else 1.3 + 0.32 * len(classes)
    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, groups, names)
    if numbers:
        axes.set_xlabel(f"{prop.name} ({prop.unit})" if prop.unit else prop.name)
    return html.chart_uri(figure)


def _curves(axes: Axes, groups: list[np.ndarray], names: list[str]) -> None:
    low, high = min(g.min() for g in groups), max(g.max() for g in groups)
    edges = np.linspace(low, high if high > low else low + 1, 33)
    marks = []
    for number, group in enumerate(groups):
        share, color = np.histogram(group, edges)[0] / len(group), f"C{number}"
        axes.stairs(share, edges, fill=True, alpha=0.3, color=color)
        marks.append(axes.stairs(share, edges, color=color))
    axes.set_ylabel("share of the class")
    axes.figure.legend(marks, names, loc="outside upper center", ncols=2, frameon=False)


def _boxes(axes: Axes, groups: list[np.ndarray], names: list[str]) -> None:
    style: dict[str, Any] = {"showfliers": False, "medianprops": {"color": ACCENT}}
    axes.boxplot(groups, orientation="horizontal", tick_labels=names, whis=(5, 95), **style)


def _arcs(axes: Axes, groups: list[np.ndarray], names: list[str]) -> None:
    """Draws a row for each class; boxes and histograms would split the circle of hues at red."""
    edges = np.linspace(0, 360, 25)
    shares = np.stack([np.histogram(group, edges)[0] / len(group) for group in groups])
    axes.imshow(shares, aspect="auto", extent=(0, 360, len(groups) - 0.5, -0.5), cmap="Blues")
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(np.arange(0, 361, 60))


def _shares(axes: Axes, groups: list[np.ndarray], names: list[str]) -> None:
    values, counts = np.unique(np.concatenate(groups), return_counts=True)
    values = values[np.argsort(-counts, kind="stable")][:_MAX_VALUES]
    left, marks = np.zeros(len(groups)), []
    for value in values:
        share = np.array([(group == value).mean() for group in groups])
        marks.append(axes.barh(range(len(groups)), share, left=left))
        left += share
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("share of the class")
    labels = [short_name(value) or "(none)" for value in values]
    axes.figure.legend(marks, labels, loc="outside upper center", ncols=2, frameon=False)

"""Charts of an audit's page: how a property is spread over the classes."""

import numpy as np
from matplotlib.figure import Figure

from imgcls import pages
from imgcls.audit.shortcuts import Property

# More classes than these make a chart that no one reads: those that differ most are shown.
MAX_CLASSES = 12
_MAX_VALUES = 8


def spread(prop: Property, targets: np.ndarray, class_names: tuple[str, ...]) -> str:
    """The data URI of a chart of a property by class.

    Numbers as curves where there are few classes, else as boxes; texts as shares.

    Args:
      prop: of N pictures.
      targets: bool `[N, K]`.
      class_names: of the K classes.
    """
    numbers = prop.values.dtype.kind == "f"
    there = np.isfinite(prop.values) if numbers else np.ones(len(targets), bool)
    classes = np.flatnonzero((targets & there[:, None]).any(0))
    if numbers:
        middle = [np.median(prop.values[targets[:, c] & there]) for c in classes]
        classes = classes[np.argsort(middle, kind="stable")]
        if len(classes) > MAX_CLASSES:
            classes = np.r_[classes[: MAX_CLASSES // 2], classes[-MAX_CLASSES // 2 :]]
    classes = classes[:MAX_CLASSES]
    names = [_short(class_names[c]) for c in classes]
    groups = [prop.values[targets[:, c] & there] for c in classes]
    if prop.name == "hue":
        draw = _arcs
    else:
        draw = (_curves if len(classes) <= 4 else _boxes) if numbers else _shares
    rows = 3.2 if draw is _curves else 1.2 + 0.32 * len(classes)
    figure = Figure(figsize=(6, rows), layout="constrained")
    axes = figure.add_subplot()
    draw(axes, groups, names)
    if numbers:
        axes.set_xlabel(f"{prop.name} ({prop.unit})" if prop.unit else prop.name)
    axes.spines[["top", "right"]].set_visible(False)
    return pages.chart(figure)


def _curves(axes, groups: list[np.ndarray], names: list[str]) -> None:
    low, high = min(g.min() for g in groups), max(g.max() for g in groups)
    edges = np.linspace(low, high if high > low else low + 1, 33)
    for group, name in zip(groups, names, strict=True):
        share = np.histogram(group, edges)[0] / len(group)
        axes.stairs(share, edges, fill=True, alpha=0.35)
        axes.stairs(share, edges, label=name, color=axes.patches[-1].get_facecolor()[:3])
    axes.set_ylabel("share of the class")
    axes.legend(frameon=False)


def _boxes(axes, groups: list[np.ndarray], names: list[str]) -> None:
    axes.boxplot(
        groups,
        orientation="horizontal",
        tick_labels=names,
        whis=(5, 95),
        showfliers=False,
        medianprops={"color": "#1f5fbf"},
    )


def _arcs(axes, groups: list[np.ndarray], names: list[str]) -> None:
    """A row for each class: a box or a curve would tear the circle at red."""
    edges = np.linspace(0, 360, 25)
    shares = np.stack([np.histogram(group, edges)[0] / len(group) for group in groups])
    axes.imshow(shares, aspect="auto", extent=(0, 360, len(groups) - 0.5, -0.5), cmap="Blues")
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([0, 60, 120, 180, 240, 300, 360])


def _shares(axes, groups: list[np.ndarray], names: list[str]) -> None:
    values, counts = np.unique(np.concatenate(groups), return_counts=True)
    values = values[np.argsort(-counts, kind="stable")][:_MAX_VALUES]
    left = np.zeros(len(groups))
    for value in values:
        share = np.array([(group == value).mean() for group in groups])
        axes.barh(names, share, left=left, label=_short(value) or "(none)")
        left += share
    axes.set_xlabel("share of the class")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "\u2026"

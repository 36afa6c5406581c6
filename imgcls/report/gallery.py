"""Pictures of a report: mistakes, doubts and hits, each with a heat map."""

import dataclasses
import pathlib

import numpy as np

from imgcls.data.create import create_reader
from imgcls.predict.explain import heat_maps, overlay
from imgcls.report import html
from imgcls.report.results import Results

SIDE = 160


@dataclasses.dataclass(frozen=True)
class Group:
    """Pictures that are shown together.

    Attributes:
      name: of its anchor.
      title, note: what they are.
      rows: int `[n]`, of the predictions.
      classes: int `[n]`, what the heat explains and the probability is of.
    """

    name: str
    title: str
    note: str
    rows: np.ndarray
    classes: np.ndarray


def choose(results: Results, count: int) -> list[Group]:
    """At most `count` pictures of each kind; kinds without any are left out."""
    groups = _choose_multi_label(results, count) if results.multi_label else _choose(results, count)
    return [Group(*texts, *chosen) for *texts, chosen in groups if len(chosen[0])]


def show(results: Results, groups: list[Group]) -> list[dict]:
    """The groups for the template: `{name, title, note, pictures}`.

    A picture has `image` and `heat` (data URIs), `name` and `short_name`, `said` (the class), its
    `probability`, `labels`, and whether it is `right`. `heat` is None where it is the same all
    over, as that of a model whose last map has one cell.
    """
    reader = create_reader(results.trained.config, results.source, train=False)
    pairs = {pair: None for group in groups for pair in zip(group.rows, group.classes, strict=True)}
    rows, classes = (np.array(x, int) for x in zip(*pairs, strict=True))
    index = results.predictions.index
    images = {row: reader.example(int(index[row]))["image"] for row in np.unique(rows)}
    heat = heat_maps(results.trained, np.stack([images[row] for row in rows]), classes)
    shown = {
        pair: _show(results, images[pair[0]], of_pair, *pair)
        for pair, of_pair in zip(pairs, heat, strict=True)
    }
    return [
        {
            "name": group.name,
            "title": group.title,
            "note": group.note,
            "pictures": [shown[pair] for pair in zip(group.rows, group.classes, strict=True)],
        }
        for group in groups
    ]


def _choose(results: Results, count: int) -> list[tuple]:
    """Of examples with one class: `(name, title, note, (rows, classes))`."""
    answers, labels = results.answers, results.predictions.labels
    sure = results.predictions.scores[np.arange(len(answers)), answers]
    falling = np.argsort(-sure, kind="stable")
    right = answers == labels
    # Of each class the surest, where there are too many classes the surest of all.
    first_of_class = np.unique(answers[falling][right[falling]], return_index=True)[1]
    hits = falling[right[falling]][np.sort(first_of_class)[:count]]
    hits = hits[np.argsort(answers[hits], kind="stable")]
    mistakes, doubts = falling[~right[falling]][:count], falling[::-1][:count]
    kinds = (
        ("mistakes", "Most confident mistakes", "Wrong, the surest first.", mistakes),
        ("doubts", "Least certain", "The most probable class has little probability.", doubts),
        ("hits", "Right", "The surest of each class.", hits),
    )
    return [(*texts, (rows, answers[rows])) for *texts, rows in kinds]


def _choose_multi_label(results: Results, count: int) -> list[tuple]:
    """As `_choose`, where an example has any number of classes."""
    scores, hot = results.predictions.scores, results.predictions.labels > 0.5
    said, thresholds = results.answers > 0, results.calibration.thresholds
    distance = np.abs(scores - (0.5 if thresholds is None else thresholds))
    closest = np.argsort(np.min(distance, axis=1), kind="stable")[:count]
    doubts = closest, np.argmin(distance, axis=1)[closest]
    false_yes = _best_of_classes(said & ~hot, scores, count)
    false_no = _best_of_classes(hot & ~said, -scores, count)
    hits = _best_of_classes(hot & said, scores, count)
    return [
        ("false_yes", "Said, and wrong", "By class, the most probable first.", false_yes),
        ("false_no", "Missed", "By class, the least probable first.", false_no),
        ("doubts", "Least certain", "A class has a probability close to its threshold.", doubts),
        ("hits", "Said, and right", "By class, the most probable first.", hits),
    ]


def _best_of_classes(
    mask: np.ndarray, value: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, classes) of a mask `[N, K]`, as many of each class, by class and falling value."""
    share = -(-count // max(int(mask.any(0).sum()), 1))
    value = np.where(mask, value, -np.inf)
    best = np.argsort(-value, axis=0, kind="stable")[:share]
    classes = np.broadcast_to(np.arange(mask.shape[1]), best.shape)
    pairs = [(row, k) for row, k in zip(best.T.ravel(), classes.T.ravel(), strict=True)]
    pairs = [pair for pair in pairs if mask[pair]]
    kept = sorted(sorted(pairs, key=lambda pair: -value[pair])[:count], key=lambda pair: pair[1])
    rows, numbers = zip(*kept, strict=True) if kept else ((), ())
    return np.array(rows, int), np.array(numbers, int)


def _show(results: Results, image: np.ndarray, heat: np.ndarray, row: int, number: int) -> dict:
    p, names = results.predictions, results.class_names
    if results.multi_label:
        labels = [names[k] for k in np.flatnonzero(p.labels[row] > 0.5)]
        right = (p.labels[row, number] > 0.5) == (results.answers[row, number] > 0)
    else:
        labels, right = [names[p.labels[row]]], p.labels[row] == number
    name = p.names[row]
    return {
        "image": html.picture(image, SIDE),
        "heat": html.picture(overlay(image, heat), SIDE) if np.ptp(heat) > 0 else None,
        "name": name,
        "short_name": "/".join(pathlib.PurePath(name).parts[-2:]),
        "said": names[number],
        "probability": float(p.scores[row, number]),
        "labels": labels,
        "right": bool(right),
    }

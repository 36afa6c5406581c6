"""Images of a report: mistakes, uncertain and correct predictions, each with a heat map."""

import dataclasses
import pathlib
import re

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.create import create_reader
from imgcls.data.transforms.transform import takes_videos
from imgcls.predict.explain import draw, heat_maps, overlay
from imgcls.predict.formats import write_file
from imgcls.predict.heat_file import encode_heat
from imgcls.report import html
from imgcls.report.results import Results

# Longest side of an image in pixels, and of the slices of a volume.
SIDE = 160
SLICES_SIDE = 320
# Longest side of an animation in pixels, and bytes of all animations of a page together.
CLIP_SIDE = 240
ANIMATED = 6_000_000


@dataclasses.dataclass(frozen=True)
class Group:
    """Images that are shown together.

    Attributes:
      name: anchor of the section.
      title, note: title and explanation of the section.
      rows: int `[n]`, rows of the predictions.
      classes: int `[n]`, the class to explain for each row.
    """

    name: str
    title: str
    note: str
    rows: np.ndarray
    classes: np.ndarray


def choose(results: Results, count: int) -> list[Group]:
    """Chooses at most `count` images of each kind; kinds without images are left out."""
    groups = _choose_multi_label(results, count) if results.multi_label else _choose(results, count)
    return [Group(*texts, *chosen) for *texts, chosen in groups if len(chosen[0])]


def show(results: Results, groups: list[Group], heat_folder: str | None = None) -> list[dict]:
    """Returns the groups for the template: `{name, title, note, images}`.

    Args:
      results: predictions and data.
      groups: the images.
      heat_folder: folder for the heat maps of volumes as NIfTI, `INDEX.CLASS.heat.nii.gz`, with the
        index of the predictions; None writes none.

    An image has `image` and `heat` (data URIs), `animation` (that of a clip which moves, otherwise
    None), `name` and `short_name`, `class_name` (the class
    that is explained) with its `probability`, `labels`, and whether the decision on the class is
    `correct`. `heat` is None if it is constant, as for a model whose last feature map has one cell,
    or if the model has no feature map.
    """
    pairs = {pair: None for group in groups for pair in zip(group.rows, group.classes, strict=True)}
    rows, classes = (np.array(x, int) for x in zip(*pairs, strict=True))
    images, lengths = _read(results, rows)
    try:
        heat = heat_maps(results.trained, images, classes, lengths)
    except ConfigError:  # The model has nothing to explain it by.
        heat = np.zeros(images.shape[:-1], np.float32)
    if heat_folder is not None:
        _write_heat(results, list(pairs), heat, heat_folder)
    largest, items = ANIMATED // sum(len(group.rows) for group in groups), {}
    for number, pair in enumerate(pairs):
        # Of a padded clip, the frames of the video.
        real = slice(None if lengths is None else lengths[number])
        items[pair] = _show(results, images[number][real], heat[number][real], pair, largest)
    return [
        {
            "name": group.name,
            "title": group.title,
            "note": group.note,
            "images": [items[pair] for pair in zip(group.rows, group.classes, strict=True)],
        }
        for group in groups
    ]


def _read(results: Results, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The images `[n, ...]` of rows, and of padded clips the lengths, int `[n]`."""
    reader = create_reader(results.trained.config, results.source, train=False)
    index = results.predictions.index
    examples = {row: reader.example(int(index[row])) for row in np.unique(rows)}
    # Of several clips of a video, that in the middle.
    images = {row: example["image"] for row, example in examples.items()}
    images = {row: x[len(x) // 2] if x.ndim == 5 else x for row, x in images.items()}
    lengths = {row: example.get("length") for row, example in examples.items()}
    padded = None not in lengths.values()
    return (
        np.stack([images[row] for row in rows]),
        np.array([lengths[row] for row in rows], int) if padded else None,
    )


def _write_heat(results: Results, pairs: list, heat: np.ndarray, folder: str) -> None:
    """Writes heat maps `[n, D, H, W]` of pairs of a row and a class, see `show`."""
    recipe = results.trained.config.data.eval_transform
    videos = takes_videos(recipe, "config.data.eval_transform")
    if heat.ndim != 4 or videos:
        has = "videos" if videos else "images"
        raise ConfigError(f"--heat_maps={folder}: is for volumes, and the data has {has}")
    for (row, number), heat_map in zip(pairs, heat, strict=True):
        index = int(results.predictions.index[row])
        scan, name = results.source[index]["image"], results.predictions.names[row]
        class_name = re.sub(r"[^\w.-]", "_", results.class_names[number])
        encoded = encode_heat(heat_map, scan, name, results.trained.config)
        write_file(folder, f"{index}.{class_name}.heat.nii.gz", encoded)


def _choose(results: Results, count: int) -> list[tuple]:
    """Chooses among examples of one class: `(name, title, note, (rows, classes))`."""
    predicted, labels = results.decisions, results.predictions.labels
    confidence = results.predictions.scores[np.arange(len(predicted)), predicted]
    order = np.argsort(-confidence, kind="stable")
    correct = predicted == labels
    # The most confident image of each class; with too many classes, the most confident of these.
    first_of_class = np.unique(predicted[order][correct[order]], return_index=True)[1]
    hits = order[correct[order]][np.sort(first_of_class)[:count]]
    hits = hits[np.argsort(predicted[hits], kind="stable")]
    mistakes, doubts = order[~correct[order]][:count], order[::-1][:count]
    kinds = (
        ("mistakes", "Most confident mistakes", "Sorted by confidence, highest first.", mistakes),
        ("doubts", "Least confident", "Sorted by confidence, lowest first.", doubts),
        ("hits", "Correct", "The most confident prediction of each class.", hits),
    )
    return [(*texts, (rows, predicted[rows])) for *texts, rows in kinds]


def _choose_multi_label(results: Results, count: int) -> list[tuple]:
    """Chooses among multi-label examples, see `_choose`."""
    scores, hot = results.predictions.scores, results.predictions.labels > 0.5
    predicted, thresholds = results.decisions > 0, results.calibration.thresholds
    distance = np.abs(scores - (0.5 if thresholds is None else thresholds))
    closest = np.argsort(np.min(distance, axis=1), kind="stable")[:count]
    doubts = closest, np.argmin(distance, axis=1)[closest]
    false_positives = _best_of_classes(predicted & ~hot, scores, count)
    false_negatives = _best_of_classes(hot & ~predicted, -scores, count)
    hits = _best_of_classes(hot & predicted, scores, count)
    falling, rising = (f"By class, {end} probability first." for end in ("highest", "lowest"))
    return [
        ("false_yes", "False positives", falling, false_positives),
        ("false_no", "False negatives", rising, false_negatives),
        ("doubts", "Least confident", "The probability is close to the class's threshold.", doubts),
        ("hits", "True positives", falling, hits),
    ]


def _best_of_classes(
    mask: np.ndarray, value: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses entries of a mask `[N, K]` with the highest values, equally many of each class.

    Returns:
      Rows and classes of at most `count` entries, sorted by class and decreasing value.
    """
    share = -(-count // max(int(mask.any(0).sum()), 1))
    value = np.where(mask, value, -np.inf)
    best = np.argsort(-value, axis=0, kind="stable")[:share]
    classes = np.broadcast_to(np.arange(mask.shape[1]), best.shape)
    pairs = [(row, k) for row, k in zip(best.T.ravel(), classes.T.ravel(), strict=True)]
    pairs = [pair for pair in pairs if mask[pair]]
    kept = sorted(sorted(pairs, key=lambda pair: -value[pair])[:count], key=lambda pair: pair[1])
    rows, numbers = zip(*kept, strict=True) if kept else ((), ())
    return np.array(rows, int), np.array(numbers, int)


def _show(
    results: Results, image: np.ndarray, heat: np.ndarray, pair: tuple[int, int], largest: int
) -> dict:
    """Returns one image for the template, see `show`; an animation has at most `largest` bytes."""
    row, number = pair
    p, names = results.predictions, results.class_names
    if results.multi_label:
        labels = [names[k] for k in np.flatnonzero(p.labels[row] > 0.5)]
        correct = (p.labels[row, number] > 0.5) == (results.decisions[row, number] > 0)
    else:
        labels, correct = [names[p.labels[row]]], p.labels[row] == number
    name = p.names[row]
    recipe = results.trained.config.data.eval_transform
    is_clip = takes_videos(recipe, "config.data.eval_transform")
    drawn, side = image, SIDE
    if image.ndim == 4:
        drawn, side = draw(image, heat, is_clip), SLICES_SIDE
    colored = html.image_uri(overlay(image, heat, is_clip), side) if np.ptp(heat) > 0 else None
    return {
        "image": html.image_uri(drawn, side),
        "animation": html.animation_uri(image, CLIP_SIDE, largest) if is_clip else None,
        "heat": colored,
        "name": name,
        "short_name": "/".join(pathlib.PurePath(name).parts[-2:]),
        "class_name": names[number],
        "probability": float(p.scores[row, number]),
        "labels": labels,
        "correct": bool(correct),
    }

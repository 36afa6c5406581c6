"""Shortcuts: simple properties that predict the label.

Properties differ between real classes too: photos of planes show a blue sky. So a property is
reported if it predicts the label better than chance (a permutation test with Holm's correction)
*and* clearly better than it predicts real classes, for which the 45 pairs of CIFAR-10's classes are
the reference.
"""

import dataclasses
import os

import numpy as np

from imgcls.audit import separability
from imgcls.audit.properties import colors
from imgcls.audit.reading import ImageTable
from imgcls.audit.separability import Binned
from imgcls.data.table.table import split_of

ALPHA = 0.01  # family-wise
PERMUTATIONS = 4999
# Classes with fewer images are not tested.
MIN_EXAMPLES = 10
# Of a larger dataset, a random sample of this size is tested.
MAX_EXAMPLES = 20_000
# Texts with more distinct values than this share of the images identify single images.
_MAX_DISTINCT = 0.2

# The skill at which a property separates two classes suspiciously well. Skill is 0 at chance and 1
# without errors: (balanced accuracy - 1/K) / (1 - 1/K). The comments give the highest skill among
# the 45 pairs of CIFAR-10's classes, 2,000 images per pair. The names are keys of audit.json.
BOUNDS = {
    "brightness": 0.45,  # 0.39
    "saturation": 0.45,  # 0.35
    "contrast": 0.65,  # 0.57
    "sharpness": 0.6,  # 0.50
    "file size": 0.65,  # 0.58
    "border color": 0.7,  # 0.58
    "hue": 0.8,  # 0.70
    "width": 0.4,
    "height": 0.4,
    "aspect ratio": 0.4,
    "depth": 0.4,
    "smallest value": 0.65,
    "largest value": 0.65,
    "mean value": 0.65,
    "duration": 0.65,
    "frames": 0.65,
    "bit rate": 0.65,
}
# For properties that do not depend on what an image shows: JPEG quality, format, folder, metadata.
_OTHER_BOUND = 0.25
# Share of the bound at which a skill gives a note.
WEAK = 0.75


@dataclasses.dataclass(frozen=True)
class Property:
    """A property of N images.

    Attributes:
      name: name of the property.
      values: float `[N]` (NaN is missing) or text `[N]`, for display.
      binned: the same values in bins, for the test.
      unit: unit of the values; '' if there is none.
    """

    name: str
    values: np.ndarray
    binned: Binned
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """How well one property alone predicts the label.

    Attributes:
      property: name of the property.
      target: the class that is separated from all others; '' for all K classes from each other.
      score: balanced accuracy on held-out folds.
      baseline: balanced accuracy by chance, 1 / K (1/2 for one class).
      skill: (score - baseline) / (1 - baseline).
      bound: the skill at which a shortcut is strong.
      p, p_adjusted: p-value of the permutation test, and the same with Holm's correction.
      level: 'strong', 'weak' or 'none'.
    """

    property: str
    target: str
    score: float
    baseline: float
    skill: float
    bound: float
    p: float
    p_adjusted: float
    level: str


@dataclasses.dataclass(frozen=True)
class Shortcuts:
    """Results of all tests.

    Attributes:
      tests: for every property a test on all classes and one on the class that it predicts best,
        strongest first.
      properties: the properties by name.
      skipped: names of the classes with too few images to be tested.
      constant: names of the properties that are the same in all images.
      examples: number of images tested.
      folders_are_classes: whether each class has its own folder under a different name, so that
        folders can't be tested.
    """

    tests: list[Shortcut]
    properties: dict[str, Property]
    skipped: list[str]
    constant: list[str]
    examples: int
    folders_are_classes: bool


def find_shortcuts(images: ImageTable, seed: int, permutations: int = PERMUTATIONS) -> Shortcuts:
    """Tests every property against the labels.

    Args:
      images: measured images.
      seed: seed of the sample, the folds and the permutations.
      permutations: number of permutations; no p-value is below 1 / (permutations + 1).
    """
    all_properties = list_properties(images)
    own_folders = not images.multi_label and _one_to_one(_folders(images), images.labels)
    if own_folders:
        all_properties = [p for p in all_properties if p.name != "folder"]
    varying = [p for p in all_properties if len(np.unique(p.binned.bins)) > 1]
    constant = [p.name for p in all_properties if len(np.unique(p.binned.bins)) == 1]
    targets, names = images.targets(), np.array(images.class_names, object)
    rows = np.arange(len(targets))
    if len(rows) > MAX_EXAMPLES:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(rows, MAX_EXAMPLES, replace=False))
    members = targets[rows].sum(0)
    usable = (members >= MIN_EXAMPLES) & (len(rows) - members >= MIN_EXAMPLES)
    skipped = list(names[~usable & (members > 0)])
    if not images.multi_label:
        rows = rows[targets[np.ix_(rows, usable)].any(1)]
    enough = usable.sum() >= (1 if images.multi_label else 2)
    properties = {p.name: p for p in all_properties}
    if not enough or not varying:
        return Shortcuts([], properties, skipped, constant, 0, own_folders)
    cut = [Binned(p.binned.bins[rows], p.binned.smoother) for p in varying]
    tested = separability.test(cut, targets[np.ix_(rows, usable)], permutations, seed)
    tests = _grade(varying, tested, names[usable], images.multi_label)
    return Shortcuts(tests, properties, skipped, constant, len(rows), own_folders)


def list_properties(images: ImageTable) -> list[Property]:
    """Returns all properties of the images, from pixels, files, folders and metadata."""
    if images.cubes is not None:
        return _list_volume_properties(images)
    light = colors(images.thumbs)
    border = light.pop("border")
    units = {"hue": "degrees", "width": "pixels", "height": "pixels", "file size": "bytes"}
    units |= {
        "duration": "seconds",
        "frame rate": "frames per second",
        "bit rate": "bits per second",
    }
    numbers = {name: light[name] for name in ("brightness", "contrast", "saturation")}
    numbers |= images.values
    properties = [
        Property(name, values, separability.bin_ordered(values), units.get(name, ""))
        for name, values in numbers.items()
    ]
    properties.append(
        Property("hue", light["hue"], separability.bin_circular(light["hue"]), units["hue"])
    )
    # Three levels in each channel.
    thirds = [np.searchsorted(np.quantile(c, [1 / 3, 2 / 3]), c) for c in border.T]
    cells = separability.bin_categories(np.array([9, 3, 1]) @ np.stack(thirds))
    properties.append(Property("border color", border.mean(1), cells))
    return properties + _texts(images)


def _list_volume_properties(images: ImageTable) -> list[Property]:
    """Returns shape, spacing, values and headers of volumes, folders and metadata."""
    units = {"file size": "bytes"} | dict.fromkeys(("depth", "height", "width"), "voxels")
    return [
        Property(name, values, separability.bin_ordered(values), units.get(name, ""))
        for name, values in images.values.items()
    ] + _texts(images)


def _texts(images: ImageTable) -> list[Property]:
    pairs = zip(images.format, images.mode, strict=True)
    texts = {"file format": np.array([f"{form} {mode}".strip() for form, mode in pairs])}
    texts |= images.texts | {"folder": _folders(images)} | _metadata(images)
    return [
        Property(name, values, separability.bin_categories(values))
        for name, values in texts.items()
    ]


def _folders(images: ImageTable) -> np.ndarray:
    """Returns each image's folder without parts that name a class or split: text `[N]`."""
    known = {*images.class_names, *images.splits}
    parts = [os.path.dirname(name).split("/") for name in images.names]
    folders = np.array(
        ["/".join(p for p in path if not (p in known or split_of(p))) for path in parts]
    )
    common = os.path.commonpath([f or "." for f in folders]) if len(set(folders)) > 1 else ""
    folders = np.array([f.removeprefix(common).strip("/") for f in folders])
    return folders if _is_property(folders) else np.full(len(folders), "")


def _metadata(images: ImageTable) -> dict[str, np.ndarray]:
    """Returns group and metadata by key, text `[N]`, of the keys with few distinct values."""
    rows = [
        {"group": group, **metadata}
        for group, metadata in zip(images.groups, images.metadata, strict=True)
    ]
    keys = {key for row in rows for key, value in row.items() if np.isscalar(value)}
    texts = {key: np.array([str(row.get(key, "")) for row in rows]) for key in sorted(keys)}
    return {f"metadata: {key}": text for key, text in texts.items() if _is_property(text)}


def _is_property(texts: np.ndarray) -> bool:
    return len(np.unique(texts)) <= max(2, _MAX_DISTINCT * len(texts))


def _one_to_one(folders: np.ndarray, labels: np.ndarray) -> bool:
    pairs = set(zip(folders, labels, strict=True))
    return len(set(folders)) == len(set(labels)) == len(pairs) > 1


def _grade(
    properties: list[Property], tested: separability.Tested, names: np.ndarray, multi_label: bool
) -> list[Shortcut]:
    """Converts scores and p-values to shortcuts with levels, strongest first."""
    classes = len(names)
    rows = []
    for i, prop in enumerate(properties):
        bound = BOUNDS.get(prop.name, _OTHER_BOUND)
        if not multi_label:
            # Skill decreases with the number of classes; CIFAR-10's ten stay below half of it.
            all_bound = bound / np.sqrt(classes - 1)
            score, p = tested.scores.overall[i], tested.p_overall[i]
            rows.append((prop.name, "", score, 1 / classes, all_bound, p))
        if multi_label or classes > 2:
            # The class that the property predicts best.
            c = np.lexsort((-tested.scores.by_class[i], tested.p_by_class[i]))[0]
            score, p = tested.scores.by_class[i, c], tested.p_by_class[i, c]
            rows.append((prop.name, str(names[c]), score, 0.5, bound, p))
    adjusted = separability.holm(np.array([row[-1] for row in rows]))
    shortcuts = []
    for (name, target, score, baseline, bound, p), corrected in zip(rows, adjusted, strict=True):
        skill = (score - baseline) / (1 - baseline)
        level = "none"
        if corrected <= ALPHA and skill >= WEAK * bound:
            level = "strong" if skill >= bound else "weak"
        shortcuts.append(
            Shortcut(
                property=name,
                target=target,
                score=float(score),
                baseline=float(baseline),
                skill=float(skill),
                bound=float(bound),
                p=float(p),
                p_adjusted=float(corrected),
                level=level,
            )
        )
    levels = ("strong", "weak", "none")
    return sorted(shortcuts, key=lambda test: (levels.index(test.level), -test.skill / test.bound))

"""Shortcuts: simple properties that give the label away, as the weather gave away the tanks.

Honest pictures differ in such properties too: planes hang in blue sky. So a property is reported
when it predicts the label better than chance would (a permutation test, corrected by Holm) *and*
better than it does for honest classes, of which the 45 pairs of CIFAR-10's classes are the measure.
"""

import dataclasses
import os

import numpy as np

from imgcls.audit import separability
from imgcls.audit.properties import colours
from imgcls.audit.reading import Pictures
from imgcls.audit.separability import Binned
from imgcls.data.table.table import SPLITS

ALPHA = 0.01  # family-wise
PERMUTATIONS = 4999
# Classes with fewer pictures are left out.
MIN_EXAMPLES = 10
# More pictures than these add nothing but time; a sample is tested.
MAX_EXAMPLES = 20_000
# Metadata with more different values than this share of the pictures is a name, not a property.
_MAX_DISTINCT = 0.2

# From which skill on a property tells two classes apart suspiciously well. Skill is 0 at chance and
# 1 without an error: (balanced accuracy - 1/K) / (1 - 1/K). Behind each the highest among the 45
# pairs of CIFAR-10's classes, 2,000 pictures each.
BOUNDS = {
    "brightness": 0.45,  # 0.39
    "saturation": 0.45,  # 0.35
    "contrast": 0.65,  # 0.57
    "sharpness": 0.6,  # 0.50
    "file size": 0.65,  # 0.58
    "border colour": 0.7,  # 0.58
    "hue": 0.8,  # 0.70
    "width": 0.4,
    "height": 0.4,
    "aspect ratio": 0.4,
}
# What has nothing to do with what a picture shows: JPEG quality, format, folder, metadata.
_OTHER_BOUND = 0.25
# A skill of this share of its bound is worth a note.
WEAK = 0.75


@dataclasses.dataclass(frozen=True)
class Property:
    """A property of N pictures.

    Attributes:
      name: for people.
      values: float `[N]` (NaN where there is none), or text `[N]`; to be shown.
      binned: the same, cut into bins.
      unit: of the values, for people.
    """

    name: str
    values: np.ndarray
    binned: Binned
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """How well one property alone predicts the label.

    Attributes:
      property: its name.
      target: the class that it tells from all others, or '' where it tells all K apart.
      score: balanced accuracy on held-out folds.
      baseline: of a property that says nothing, 1 / K (1/2 for one class).
      skill: (score - baseline) / (1 - baseline).
      bound: of the skill, from which on it is strong.
      p, p_adjusted: by permutation, and corrected for the number of tests.
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
    """All tests, strongest first, what was tested, and what could not be.

    Attributes:
      tests: of every property on all classes, and on the class that it gives away most.
      properties: by name.
      skipped: names of classes with too few pictures to be tested.
      constant: names of properties that are the same everywhere.
      examples: number of pictures tested.
      folders_are_classes: every class has a folder of its own, though not of its name, so that
        folders can't be tested.
    """

    tests: list[Shortcut]
    properties: dict[str, Property]
    skipped: list[str]
    constant: list[str]
    examples: int
    folders_are_classes: bool


def find_shortcuts(pictures: Pictures, seed: int, permutations: int = PERMUTATIONS) -> Shortcuts:
    """Tests every property against the labels.

    Args:
      pictures: what was read.
      seed: of folds and permutations.
      permutations: their number; p-values are not below 1 / (permutations + 1).
    """
    all_properties = list_properties(pictures)
    own_folders = not pictures.multi_label and _one_to_one(_folders(pictures), pictures.labels)
    if own_folders:
        all_properties = [p for p in all_properties if p.name != "folder"]
    varying = [p for p in all_properties if len(np.unique(p.binned.bins)) > 1]
    constant = [p.name for p in all_properties if len(np.unique(p.binned.bins)) == 1]
    targets, names = pictures.targets(), np.array(pictures.class_names, object)
    rows = np.arange(len(targets))
    if len(rows) > MAX_EXAMPLES:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(rows, MAX_EXAMPLES, replace=False))
    members = targets[rows].sum(0)
    usable = (members >= MIN_EXAMPLES) & (len(rows) - members >= MIN_EXAMPLES)
    skipped = list(names[~usable & (members > 0)])
    if not pictures.multi_label:
        rows = rows[targets[np.ix_(rows, usable)].any(1)]
    enough = usable.sum() >= (1 if pictures.multi_label else 2)
    properties = {p.name: p for p in all_properties}
    if not enough or not varying:
        return Shortcuts([], properties, skipped, constant, 0, own_folders)
    cut = [Binned(p.binned.bins[rows], p.binned.smoother) for p in varying]
    tested = separability.test(cut, targets[np.ix_(rows, usable)], permutations, seed)
    tests = _grade(varying, tested, names[usable], pictures.multi_label)
    return Shortcuts(tests, properties, skipped, constant, len(rows), own_folders)


def list_properties(pictures: Pictures) -> list[Property]:
    """All that is known of the pictures beside their labels and what they show."""
    light = colours(pictures.thumbs)
    border = light.pop("border")
    units = {"hue": "degrees", "width": "pixels", "height": "pixels", "file size": "bytes"}
    numbers = {name: light[name] for name in ("brightness", "contrast", "saturation")}
    numbers |= pictures.values
    found = [
        Property(name, values, separability.bin_ordered(values), units.get(name, ""))
        for name, values in numbers.items()
    ]
    found.append(
        Property("hue", light["hue"], separability.bin_circular(light["hue"]), units["hue"])
    )
    # Dark, middle and bright in each channel.
    thirds = [np.searchsorted(np.quantile(c, [1 / 3, 2 / 3]), c) for c in border.T]
    cells = separability.bin_categories(np.array([9, 3, 1]) @ np.stack(thirds))
    found.append(Property("border colour", border.mean(1), cells))
    pairs = zip(pictures.format, pictures.mode, strict=True)
    texts = {"file format": np.array([f"{form} {mode}".strip() for form, mode in pairs])}
    texts |= {"folder": _folders(pictures)} | _metadata(pictures)
    return found + [
        Property(name, values, separability.bin_categories(values))
        for name, values in texts.items()
    ]


def _folders(pictures: Pictures) -> np.ndarray:
    """The folder of each picture, without those that say its class or split: text `[N]`."""
    known = {*pictures.class_names, *SPLITS, *pictures.splits}
    parts = [os.path.dirname(name).split("/") for name in pictures.names]
    folders = np.array(["/".join(p for p in path if p not in known) for path in parts])
    common = os.path.commonpath([f or "." for f in folders]) if len(set(folders)) > 1 else ""
    folders = np.array([f.removeprefix(common).strip("/") for f in folders])
    return folders if _is_property(folders) else np.full(len(folders), "")


def _metadata(pictures: Pictures) -> dict[str, np.ndarray]:
    """Group and metadata by key, where few enough values occur: text `[N]`."""
    rows = [
        {"group": group, **metadata}
        for group, metadata in zip(pictures.groups, pictures.metadata, strict=True)
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
    """Scores and p-values -> levels."""
    classes = len(names)
    rows = []
    for i, prop in enumerate(properties):
        bound = BOUNDS.get(prop.name, _OTHER_BOUND)
        if not multi_label:
            # Among more classes honest properties tell less; CIFAR-10's ten stay below half of it.
            all_bound = bound / np.sqrt(classes - 1)
            score, p = tested.scores.overall[i], tested.p_overall[i]
            rows.append((prop.name, "", score, 1 / classes, all_bound, p))
        if multi_label or classes > 2:
            # The class that it gives away most.
            c = np.lexsort((-tested.scores.by_class[i], tested.p_by_class[i]))[0]
            score, p = tested.scores.by_class[i, c], tested.p_by_class[i, c]
            rows.append((prop.name, str(names[c]), score, 0.5, bound, p))
    adjusted = separability.holm(np.array([row[-1] for row in rows]))
    found = []
    for (name, target, score, baseline, bound, p), corrected in zip(rows, adjusted, strict=True):
        skill = (score - baseline) / (1 - baseline)
        level = "none"
        if corrected <= ALPHA and skill >= WEAK * bound:
            level = "strong" if skill >= bound else "weak"
        numbers = map(float, (score, baseline, skill, bound, p, corrected))
        found.append(Shortcut(name, target, *numbers, level))
    return sorted(
        found, key=lambda t: ({"strong": 0, "weak": 1}.get(t.level, 2), -t.skill / t.bound)
    )

"""Shortcuts planted in real images are found, and unchanged images have none."""

import dataclasses

import numpy as np
import pytest

from imgcls.audit import findings, separability, shortcuts
from imgcls.audit.reading import read_images
from imgcls.audit.shortcuts import Property, find_shortcuts
from tests.audit.planted import CLASSES, Given, cifar10, jpeg, tanks

PAIRS = (("cat", "dog"), ("automobile", "truck"), ("deer", "horse"))
# Enough permutations for a corrected p-value below 0.01 with about ten properties.
PERMUTATIONS = 1499


def strong(source: Given, seed: int = 0) -> set[str]:
    """Returns the properties of strong shortcuts."""
    found = find_shortcuts(read_images({"train": source}, None, 0), seed, PERMUTATIONS)
    return {test.property for test in found.tests if test.level == "strong"}


def check(folder, pair, count, share, seed) -> None:
    for correlation in (1, 0.9):
        assert "brightness" in strong(tanks(folder, pair, count, correlation, seed, share), seed)
    assert strong(tanks(folder, pair, count, 0, seed, share), seed) == set()
    assert strong(tanks(folder, pair, count, 0, seed, share, shift=0), seed) == set()


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_tanks(shared_data, share):
    check(shared_data, PAIRS[0], 500, share, seed=100)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("pair", PAIRS)
def test_tanks_over_twenty_seeds(shared_data, pair, share):
    for seed in range(20):
        check(shared_data, pair, 1000, share, seed)


@pytest.mark.parametrize(
    ("score", "p", "level"),
    [
        (0.5 + 0.46 / 2, 1e-4, "strong"),
        (0.5 + 0.44 / 2, 1e-4, "weak"),
        (0.5 + 0.34 / 2, 1e-4, "weak"),
        (0.5 + 0.33 / 2, 1e-4, "none"),
        (0.9, 0.011, "none"),
        # Two tests: Holm doubles the smaller p.
        (0.9, 0.006, "none"),
        (0.9, 0.004, "strong"),
    ],
)
def test_levels_by_hand(score, p, level):
    """The bound of brightness is 0.45, and three quarters of it give a note."""
    binned = separability.bin_ordered(np.arange(4.0))
    properties = [Property(name, np.arange(4.0), binned) for name in ("brightness", "hue")]
    scores = separability.Scores(np.array([score, 0.5]), np.full((2, 2), 0.5))
    tested = separability.Tested(scores, np.array([p, 1.0]), np.ones((2, 2)))
    graded = {
        t.property: t
        for t in shortcuts._grade(properties, tested, np.array(["a", "b"], object), False)
    }
    assert graded["brightness"].level == level and graded["hue"].level == "none"


def cats_and_dogs(folder, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels and labels, half of each class."""
    pixels, labels = cifar10(folder)
    rows = np.concatenate([np.flatnonzero(labels == c)[: count // 2] for c in (3, 5)])
    return pixels[rows], np.repeat([0, 1], count // 2)


def given(images, labels, **more) -> Given:
    return Given(list(images), labels, ("cat", "dog"), **more)


def nine_in_ten(labels, seed=0):
    """Returns the labels, a tenth of them flipped."""
    return np.where(np.random.default_rng(seed).random(len(labels)) < 0.9, labels, 1 - labels)


def test_file_properties(shared_data):
    pixels, labels = cats_and_dogs(shared_data)
    kind = nine_in_ten(labels)
    files = [jpeg(x, 75 if k else 90) for x, k in zip(pixels, kind, strict=True)]
    assert {"JPEG quality"} <= strong(given(files, labels)) <= {"JPEG quality", "file size"}
    framed = pixels.copy()
    for x, k in zip(framed, kind, strict=True):
        if k:
            x[:2], x[-2:], x[:, :2], x[:, -2:] = 0, 0, 0, 0
    assert "border color" in strong(given(framed, labels))
    cut = [x[:, : 24 if k else 32] for x, k in zip(pixels, kind, strict=True)]
    assert {"width", "aspect ratio"} <= strong(given(cut, labels))
    assert "height" not in strong(given(cut, labels))


def test_folders_and_metadata(shared_data):
    pixels, labels = cats_and_dogs(shared_data)
    kind = nine_in_ten(labels)
    names = tuple(
        f"/data/train/{CLASSES[3 + 2 * y]}/{'zoo' if k else 'home'}/{i}.png"
        for i, (y, k) in enumerate(zip(labels, kind, strict=True))
    )
    assert strong(given(pixels, labels, names=names)) == {"folder"}
    camera = tuple({"camera": "ab"[k], "id": i} for i, k in enumerate(kind))
    assert strong(given(pixels, labels, metadatas=camera)) == {"metadata: camera"}
    # Folders of classes and splits are not a property, whatever their names.
    own = tuple(f"/data/train/{'cat' if not y else 'dog'}/{i}.png" for i, y in enumerate(labels))
    assert strong(given(pixels, labels, names=own)) == set()
    codes = tuple(f"/data/n0{y}/{i}.png" for i, y in enumerate(labels))
    source = given(pixels, labels, names=codes)
    found = find_shortcuts(read_images({"train": source}, None, 0), 0, PERMUTATIONS)
    assert found.folders_are_classes and all(t.level == "none" for t in found.tests)
    assert any("its own folder" in f.text for f in findings.of_shortcuts(found))


def test_one_class_of_ten(shared_data):
    pixels, labels = cifar10(shared_data)
    pixels, labels = pixels[::10].copy(), labels[::10]
    bright = labels == CLASSES.index("horse")
    pixels[bright] = np.clip(pixels[bright].astype(int) + 100, 0, 255)
    source = Given(list(pixels), labels, tuple(CLASSES))
    assert strong(dataclasses.replace(source, images=list(cifar10(shared_data)[0][::10]))) == set()
    found = find_shortcuts(read_images({"train": source}, None, 0), 0, 1999)
    first = found.tests[0]
    assert (first.property, first.target, first.level) == ("brightness", "horse", "strong")
    assert "predicts class 'horse'" in findings.describe(first)


def test_multi_label(shared_data):
    pixels, labels = cats_and_dogs(shared_data)
    rng = np.random.default_rng(0)
    rare = np.arange(len(labels)) < 5
    targets = np.stack([1 - labels, rng.random(len(labels)) < 0.3, rare], 1).astype(np.uint8)
    names = ("cat", "indoors", "rare")
    moved = pixels.astype(int) + 80 * targets[:, 1, None, None, None]
    bright = list(np.clip(moved, 0, 255).astype(np.uint8))
    plain = Given(list(pixels), targets, names, multi_label=True)
    assert strong(plain) == set()
    source = dataclasses.replace(plain, images=bright)
    found = find_shortcuts(read_images({"train": source}, None, 0), 0, PERMUTATIONS)
    assert {t.target for t in found.tests if t.level == "strong"} == {"indoors"}
    assert found.skipped == ["rare"]
    assert all(t.target and t.baseline == 0.5 for t in found.tests)


def test_small_classes_give_a_note(shared_data):
    pixels, labels = cats_and_dogs(shared_data, 40)
    few = np.r_[labels, [2, 2, 2]]
    source = Given([*pixels, *pixels[:3]], few, ("cat", "dog", "emu", "never"))
    found = find_shortcuts(read_images({"train": source}, None, 0), 0, 99)
    assert found.skipped == ["emu"] and found.examples == 40
    (note,) = [f for f in findings.of_shortcuts(found) if "not tested" in f.text]
    assert note.level == "note" and "emu" in note.text
    # A single class can't be tested.
    alone = Given(list(pixels[:20]), labels[:20], ("cat", "dog"))
    assert find_shortcuts(read_images({"train": alone}, None, 0), 0, 99).tests == []


def test_large_datasets_are_sampled(shared_data, monkeypatch):
    monkeypatch.setattr(shortcuts, "MAX_EXAMPLES", 200)
    source = tanks(shared_data, PAIRS[0], 600, 1, 0)
    found = find_shortcuts(read_images({"train": source}, None, 0), 0, PERMUTATIONS)
    assert found.examples == 200 and found.tests[0].property == "brightness"
    assert found.tests[0].level == "strong"

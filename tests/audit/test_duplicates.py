"""Planted duplicates among real images, and hashes compared with those of ImageHash."""

import imagehash
import numpy as np
import pytest
from PIL import Image

from imgcls.audit import findings
from imgcls.audit.duplicates import MAX_BITS, find_duplicates
from imgcls.audit.hashes import hamming, near_pairs, phash
from imgcls.audit.reading import read_images
from tests.audit.planted import CLASSES, Given, cifar10, jpeg

KINDS = ("re-encoded", "resized", "brighter", "darker", "all three")


def change(pixels: np.ndarray, kind: str) -> bytes:
    """Makes a near duplicate: re-encoded, at 90 % of the size, 5 % brighter or darker, or all."""
    image = Image.fromarray(pixels)
    if kind in ("resized", "all three"):
        size = [round(0.9 * side) for side in image.size]
        image = image.resize(size, Image.Resampling.BICUBIC)
    gain = {"brighter": 1.05, "all three": 1.05, "darker": 0.95}.get(kind, 1)
    changed = np.clip(np.asarray(image) * gain, 0, 255).round().astype(np.uint8)
    return jpeg(changed, 75 if kind == "re-encoded" else 90)


def plant(shared_data, count: int, copies: int):
    """Plants copies of real images in the other split; returns sources and pairs by kind."""
    pixels, labels = cifar10(shared_data)
    pixels, labels = pixels[:: len(pixels) // count], labels[:: len(labels) // count]
    rng = np.random.default_rng(0)
    chosen = rng.choice(count, 2 * copies, replace=False)
    half = count // 2
    images = [jpeg(x, 95) for x in pixels]
    parts = {"train": list(range(half)), "test": list(range(half, count))}
    rows = {split: [(images[i], labels[i], f"{i}") for i in part] for split, part in parts.items()}
    exact, near = set(), {}
    for n, i in enumerate(chosen):
        other = rows["test" if i < half else "train"]
        kind = "exact" if n < copies else KINDS[n % len(KINDS)]
        data = images[i] if kind == "exact" else change(pixels[i], kind)
        other.append((data, labels[i], f"copy of {i}"))
        pair = frozenset((f"{i}", f"copy of {i}"))
        if kind == "exact":
            exact.add(pair)
        else:
            near[pair] = kind
    sources = {
        split: Given([r[0] for r in of], np.array([r[1] for r in of]), tuple(CLASSES), False,
                     ("train", "test"), tuple(r[2] for r in of))
        for split, of in rows.items()
    }  # fmt: skip
    return sources, exact, near


def check_planted(shared_data, count: int, copies: int) -> None:
    sources, exact, near = plant(shared_data, count, copies)
    table = read_images(sources, None, 0)
    found = find_duplicates(table)
    names = np.array(table.names)
    assert {frozenset(names[group]) for group in found.exact} == exact
    assert all(found.same_file)
    pairs = {frozenset(names[pair]) for pair in found.near}
    missed = [kind for pair, kind in near.items() if pair not in pairs]
    assert len(missed) <= 0.1 * len(near), missed
    # Without planted copies, CIFAR-10 has some near duplicates of its own.
    plain = find_duplicates(read_images({"train": originals(sources)}, None, 0))
    own = {frozenset(original(originals(sources).names[i]) for i in pair) for pair in plain.near}
    false = {
        pair
        for pair in pairs - near.keys()
        if frozenset(map(original, pair)) not in own and len(set(map(original, pair))) > 1
    }
    assert len(false) <= 0.01 * len(pairs), false
    texts = findings.of_duplicates(found, table)
    leaks = [f for f in texts if f.level == "finding" and "two splits" in f.text]
    assert leaks[0].count == copies and leaks[1].count >= 0.9 * copies
    assert not any("different labels" in f.text for f in texts)


def original(name: str) -> str:
    return name.removeprefix("copy of ")


def originals(sources) -> Given:
    rows = [
        (s.images[i], s.targets[i], s.names[i])
        for s in sources.values()
        for i in range(len(s))
        if not s.names[i].startswith("copy")
    ]
    images, targets, names = zip(*rows, strict=True)
    return Given(list(images), np.array(targets), tuple(CLASSES), names=names)


def test_planted_copies_are_found(shared_data):
    check_planted(shared_data, 2000, 50)


@pytest.mark.slow
def test_planted_copies_among_ten_thousand_are_found(shared_data):
    check_planted(shared_data, 10_000, 200)


def test_images_that_differ_only_in_color_are_not_duplicates():
    """The perceptual hash depends only on luma."""
    rng = np.random.default_rng(0)
    light, chroma = rng.integers(-15, 16, (2, 8, 8)).repeat(8, axis=1).repeat(8, axis=2)
    # Red and green, without a difference in luma.
    color = 8 * chroma[..., None] * np.array([0.587, -0.299, 0.0])
    images = [128 + light[..., None] + sign * color for sign in (1, 0)]
    images = [x.round().astype(np.uint8) for x in images]
    source = Given([*images, images[0] // 2 + 64], np.zeros(3, int), tuple(CLASSES))
    table = read_images({"train": source}, None, 0)
    bits = phash(table.grays)
    assert hamming(bits[0], bits[1]) <= MAX_BITS and hamming(bits[0], bits[2]) <= MAX_BITS
    assert find_duplicates(table).near.tolist() == [[0, 2]]


def test_phash_equals_imagehash():
    rng = np.random.default_rng(0)
    # Smooth images of several sizes, and noise.
    small = rng.integers(0, 256, (20, 5, 5, 3)).astype(np.uint8)
    shapes = [(32, 32), (50, 31), (7, 90)]
    images = [Image.fromarray(x).resize(shapes[i % 3], 3) for i, x in enumerate(small)]
    images += [Image.fromarray(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8))]
    png = [np.asarray(image) for image in images]
    table = read_images({"train": Given(png, np.arange(21) % 2, ("a", "b"))}, None, 0)
    bits = np.unpackbits(phash(table.grays).view(np.uint8).reshape(-1, 8), axis=1)
    for ours, image in zip(bits, images, strict=True):
        assert (ours == imagehash.phash(image).hash.reshape(-1)).all()


def test_near_pairs_are_all_pairs():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 600, dtype=np.uint64)
    hashes[300:330] = hashes[:30] ^ np.uint64(0b1011)
    hashes[330:340] = hashes[:10] ^ np.uint64(0xFF)
    found = np.concatenate(list(near_pairs(hashes, 3)))
    values = [int(h) for h in hashes]
    expected = {
        (i, j)
        for i in range(600)
        for j in range(i + 1, 600)
        if (values[i] ^ values[j]).bit_count() <= 3
    }
    assert len(found) == len(expected) and set(map(tuple, found.tolist())) == expected
    assert hamming(hashes[:1], hashes[300:301]) == 3


def make(images, targets, **more) -> Given:
    return Given(images, np.array(targets), ("a", "b"), **more)


def noise(seed: int, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def test_equal_pixels_with_different_files_and_labels():
    first = noise(0)
    data = jpeg(first, 90)
    decoded = read_images({"train": make([data, data], [0, 1])}, None, 0).pixels(0)
    source = make([data, decoded, jpeg(noise(1)), decoded[:, ::-1].copy()], [0, 1, 0, 0])
    table = read_images({"train": source}, None, 0)
    found = find_duplicates(table)
    assert [g.tolist() for g in found.exact] == [[0, 1]] and found.same_file == [False]
    assert len(found.near) == 0
    texts = findings.of_duplicates(found, table)
    assert any(f.level == "finding" and "different labels" in f.text for f in texts)


def test_sets_are_linked_images():
    first = noise(0, 64)
    files = [jpeg(first, 95), jpeg(first, 95), change(first, "resized"), jpeg(noise(2, 64))]
    found = find_duplicates(read_images({"train": make(files, [0, 0, 0, 1])}, None, 0))
    assert [s.tolist() for s in found.sets] == [[0, 1, 2]]
    assert found.near.tolist() == [[0, 2]]


def test_empty_images_are_not_near_duplicates():
    files = [np.full((32, 32, 3), 100 + i, np.uint8) for i in range(5)]
    found = find_duplicates(read_images({"train": make(files, [0, 1, 0, 1, 0])}, None, 0))
    assert len(found.near) == 0 and found.exact == []

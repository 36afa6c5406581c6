"""Parsing of splits, and stratified slices."""

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.splits import parse_split, splits_overlap, stratified_slice

# ---- Parsing.


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("train", ("train", "", "")),
        ("train[:90%]", ("train", "", "90%")),
        ("test[10:]", ("test", "10", "")),
        ("a_1[10%:200]", ("a_1", "10%", "200")),
        ("train[:]", ("train", "", "")),
        (" train [ : 5 ] ", ("train", "", "5")),
    ],
)
def test_parse_split(text, parsed):
    assert parse_split(text) == parsed


@pytest.mark.parametrize(
    "text",
    ["", "train[", "train[10]", "train[-5:]", "train[%:]", "train[:%]", "train[:5.5%]", "a+b"],
)
def test_parse_split_refuses(text):
    with pytest.raises(ConfigError, match="not understood; write train, train"):
        parse_split(text)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("val", "val", True),
        ("val", "test", False),
        ("train[:90%]", "train[90%:]", False),
        ("train[50%:60%]", "train[:50%]", False),
        ("train[:90%]", "train[80%:]", True),
        ("val", "val[10:]", True),
        ("val[:10]", "val[:20]", True),
        ("train[:1000]", "train[500:]", True),
        ("train[:500]", "train[900:1000]", False),
        ("train[:9%]", "train[10%:]", False),
        ("train[:100]", "train[50%:]", True),
        ("train[:50%]", "val[:50%]", False),
        ("train[:]", "train", True),
    ],
)
def test_splits_overlap(one, other, expected):
    assert splits_overlap(one, other) == splits_overlap(other, one) == expected


# ---- Stratified slices.


def test_equal_classes_are_split_exactly():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(7), 50))
    for last, each in (("80%", 40), ("2%", 1), ("50%", 25), ("70", 10), ("100%", 50)):
        chosen = stratified_slice(labels, "", last, seed=3)
        assert np.bincount(labels[chosen]).tolist() == [each] * 7
    chosen = stratified_slice(labels, "20%", "30%", seed=3)
    assert np.bincount(labels[chosen]).tolist() == [5] * 7


@pytest.mark.parametrize("percent", [1, 10, 50, 80, 99])
def test_unequal_classes_keep_their_proportions(percent):
    counts = np.array([1000, 500, 37, 10, 250, 3])
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(6), counts))
    chosen = stratified_slice(labels, "", f"{percent}%", seed=0)
    assert len(chosen) == round(len(labels) * percent / 100)
    found = np.bincount(labels[chosen], minlength=6)
    # Rounding a class and the total costs less than two examples.
    assert np.all(np.abs(found - counts * percent / 100) < 2)


def test_slices_are_disjoint_and_complete():
    labels = np.random.default_rng(2).integers(0, 5, 333)
    bounds = ["", "10%", "100", "34%", "80%", "300", ""]
    parts = [
        stratified_slice(labels, first, last, seed=1)
        for first, last in zip(bounds, bounds[1:], strict=False)
    ]
    assert all(np.all(np.diff(part) > 0) for part in parts)
    assert [len(part) for part in parts] == [33, 67, 13, 153, 34, 33]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(333))


def test_slice_depends_only_on_the_seed():
    labels = np.repeat(np.arange(4), 25)
    first = stratified_slice(labels, "", "40%", seed=0)
    np.testing.assert_array_equal(first, stratified_slice(labels, "", "40%", seed=0))
    assert first.tolist() != stratified_slice(labels, "", "40%", seed=1).tolist()
    assert stratified_slice(labels, "", "999", seed=0).tolist() == list(range(100))

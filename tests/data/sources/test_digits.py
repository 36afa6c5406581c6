"""Digits: examples, splits and slices."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source
from tests.data.sources.trees import contents


def test_digits():
    data = load_digits()
    seen = {}
    for split, size in (("train", 1438), ("test", 359)):
        source = create_source("digits", split)
        assert len(source) == size
        assert source.class_names == tuple("0123456789") and source.multi_label is False
        for i in range(len(source)):
            number = int(source.name(i).removeprefix("digit "))
            example = source[i]
            assert example["image"].shape == (8, 8, 1) and example["image"].dtype == np.uint8
            expected = np.round(data.images[number] * 255 / 16)
            np.testing.assert_array_equal(example["image"][..., 0], expected)
            assert example["label"] == data.target[number]
            assert number not in seen
            seen[number] = split
    assert len(seen) == 1797


def test_digits_splits_are_stratified():
    counts = np.bincount(load_digits().target)
    source = create_source("digits", "train")
    found = np.bincount([source[i]["label"] for i in range(len(source))])
    assert np.all(np.abs(found - 0.8 * counts) <= 1)


def test_digits_slices():
    def names(split: str, seed: int = 0) -> set[str]:
        return set(contents(create_source("digits", split, seed=seed)))

    full = names("train")
    first, rest = names("train[:1003]"), names("train[1003:]")
    assert len(first) == 1003 and first | rest == full and not first & rest
    assert len(names("train[:25%]")) == round(0.25 * 1438)
    assert names("train", seed=1) != full
    assert names("train", seed=1) | names("test", seed=1) == full | names("test")


def test_digits_has_two_splits():
    with pytest.raises(ConfigError, match="split 'val': digits has the splits train, test"):
        create_source("digits", "val")


def test_pickled_digits():
    source = create_source("digits", "test")
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[7]["image"], source[7]["image"])
    assert len(again) == len(source) and again.name(7) == source.name(7)

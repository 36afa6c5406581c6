"""Sources of images in memory."""

import numpy as np

from imgcls.data.sources.arrays import ArraySource


def test_examples_and_labels():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    source = ArraySource(images, np.array([1, 0]), ("cat", "dog"), ("train",))
    assert len(source) == 2 and source.splits == ("train",) and not source.multi_label
    np.testing.assert_array_equal(source[1]["image"], images[1])
    assert [source[i]["label"] for i in range(2)] == [1, 0]
    np.testing.assert_array_equal(source.labels(), [1, 0])
    assert source.name(1) == "train/1" and source.group(1) is None and source.metadata(1) == {}


def test_multi_label():
    targets = np.array([[1, 1], [0, 1]], np.uint8)
    source = ArraySource(np.zeros((2, 4, 4, 1), np.uint8), targets, ("cat", "dog"))
    assert source.multi_label and source.splits == ("all",)

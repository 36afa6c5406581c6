"""Reconstruction losses against float64 loops."""

import numpy as np
import pytest

from imgcls import losses
from tests.losses.cases import check, normal, squared_distance


def reference_mse(prediction, target):
    values = []
    for p, t in zip(prediction, target, strict=True):
        errors = [(x - y) ** 2 for x, y in zip(p.flat, t.flat, strict=True)]
        values.append(sum(errors) / len(errors))
    return values


def reference_masked_patch(prediction, target, mask, normalize=True):
    values = []
    for patches, truths, hidden in zip(prediction, target, mask, strict=True):
        errors = []
        for patch, truth, h in zip(patches, truths, hidden, strict=True):
            if normalize:
                mean = sum(truth) / len(truth)
                variance = sum((x - mean) ** 2 for x in truth) / (len(truth) - 1)
                truth = (truth - mean) / (variance + 1e-6) ** 0.5
            if h:
                errors.append(squared_distance(patch, truth) / len(truth))
        values.append(sum(errors) / len(errors) if errors else 0.0)
    return values


def test_mse():
    for shape in [(3,), (3, 4, 5, 2)]:
        check(losses.mse, reference_mse, normal(*shape), normal(*shape, seed=1))
    pixels = np.array([[0, 255], [3, 4]], np.uint8)
    np.testing.assert_array_equal(losses.mse(pixels, pixels[::-1]), [(9 + 251**2) / 2] * 2)


@pytest.mark.parametrize("normalize", [True, False])
def test_masked_patch_mse(normalize):
    prediction, target = normal(4, 5, 6), 3 + 2 * normal(4, 5, 6, seed=1)
    target[0, 0] = 1.25  # a patch of one color
    mask = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 0]])
    options = {} if normalize else {"normalize": False}
    check(losses.masked_patch_mse, reference_masked_patch, prediction, target, mask, **options)

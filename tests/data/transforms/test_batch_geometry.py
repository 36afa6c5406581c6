"""Flips, translations and cutout of batches, against NumPy for each example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import batch as batch_transforms
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import BATCH_TRANSFORMS
from tests.conftest import make_mesh


def build(recipe):
    """`(batch, seed) -> batch`, jitted."""
    fns = spec.parse(recipe, BATCH_TRANSFORMS, "test")

    def apply(batch, seed):
        return batch_transforms.apply(batch, jax.random.key(seed), fns, 10)

    return jax.jit(apply)


def make_batch(*shape, epoch=0):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    index = np.arange(100, 100 + shape[0], dtype=np.int32)
    return {
        "image": image,
        "label": index % 10,
        "index": index,
        "epoch": np.full(shape[0], epoch, np.int32),
    }


def is_mirrored(result, batch) -> np.ndarray:
    """Which examples are mirrored, bool `[B]`; all others must be unchanged."""
    mirrored = []
    for output, image in zip(np.asarray(result["image"]), batch["image"], strict=True):
        mirrored.append(np.array_equal(output, image[..., ::-1, :]))
        assert mirrored[-1] or np.array_equal(output, image)
    return np.array(mirrored)


@pytest.mark.parametrize("shape", [(400, 3, 4, 2), (400, 2, 3, 4, 1)])
def test_random_flip(shape):
    batch = make_batch(*shape)
    first, second = (is_mirrored(build("random_flip(0.3)")(batch, s), batch) for s in (0, 1))
    assert 0.2 < first.mean() < 0.4 and (first != second).any()
    assert not is_mirrored(build("random_flip(0)")(batch, 0), batch).any()


def test_alternating_flip_shows_both_sides_in_any_two_epochs():
    flip = build("alternating_flip")
    by_epoch = []
    for epoch in range(4):
        batch = make_batch(400, 3, 4, 1, epoch=epoch)
        # A different key in every step.
        by_epoch.append(is_mirrored(flip(batch, epoch), batch))
    assert 0.4 < by_epoch[0].mean() < 0.6
    for earlier, later in zip(by_epoch, by_epoch[1:], strict=False):
        np.testing.assert_array_equal(later, ~earlier)


def test_alternating_flip_depends_on_the_example():
    """Independent of the position in the batch, also if a batch has examples of two epochs."""
    batch = make_batch(64, 3, 4, 1)
    order = np.random.default_rng(1).permutation(64)
    moved = {key: value[order] for key, value in batch.items()}
    moved["epoch"] = (np.arange(64) % 2).astype(np.int32)
    flip = build("alternating_flip")
    expected = is_mirrored(flip(batch, 0), batch)[order] ^ (np.arange(64) % 2 == 1)
    np.testing.assert_array_equal(is_mirrored(flip(moved, 7), moved), expected)


def test_alternating_flip_needs_the_epoch():
    batch = make_batch(4, 3, 4, 1)
    del batch["epoch"]
    with pytest.raises(ConfigError, match="set data.device_resident=True, or use random_flip"):
        build("alternating_flip")(batch, 0)


@pytest.mark.parametrize("shape", [(300, 6, 7, 2), (300, 2, 6, 7, 1)])
def test_random_translate(shape):
    batch, padding = make_batch(*shape), 2
    result = np.asarray(build(f"random_translate({padding})")(batch, 0)["image"])
    shifts = []
    for found, image in zip(result, batch["image"], strict=True):
        pads = [(0, 0)] * (image.ndim - 3) + [(padding, padding)] * 2 + [(0, 0)]
        padded = np.pad(image, pads, mode="reflect")
        fits = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(found, padded[..., y : y + 6, x : x + 7, :])
        ]
        assert len(fits) == 1
        shifts += fits
    # Every shift occurs, and the axes are independent.
    assert len(set(shifts)) == 25
    counts = np.bincount(np.ravel(shifts))
    assert counts.max() < 2 * counts.min()


def test_translate_by_zero():
    batch = make_batch(3, 4, 5, 1)
    np.testing.assert_array_equal(build("random_translate(0)")(batch, 0)["image"], batch["image"])


@pytest.mark.parametrize("shape", [(300, 6, 9, 2), (300, 2, 6, 9, 1)])
def test_cutout_sets_one_complete_square_to_zero(shape):
    batch = make_batch(*shape)
    result = np.asarray(build("cutout(3)")(batch, 0)["image"])
    corners = []
    for found, image in zip(result, batch["image"], strict=True):
        zeros = (found == 0).reshape(-1, 6, 9, shape[-1])
        assert (zeros == zeros[:1, ..., :1]).all()
        y, x = (axis.min() for axis in np.nonzero(zeros[0, ..., 0]))
        expected = image.copy()
        expected[..., y : y + 3, x : x + 3, :] = 0
        np.testing.assert_array_equal(found, expected)
        corners.append((y, x))
    assert {y for y, _ in corners} == set(range(4))
    assert {x for _, x in corners} == set(range(7))


def test_result_does_not_depend_on_the_devices():
    batch = make_batch(16, 6, 7, 3, epoch=1)
    transform = build("alternating_flip|random_flip|random_translate(2)|cutout(3)")
    alone = transform(batch, 3)
    rows = NamedSharding(make_mesh(data=8), PartitionSpec("data"))
    together = transform(jax.device_put(batch, rows), 3)
    for key in batch:
        np.testing.assert_array_equal(together[key], alone[key])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("random_flip(2)", "p=2 must be a number from 0 to 1"),
        ("random_translate(-1)", "padding=-1 must be an integer of at least 0"),
        ("random_translate(1.5)", "padding=1.5 must be an integer"),
        ("cutout(0)", "size=0 must be an integer of at least 1"),
        ("alternating_flip(0.5)", "too many positional arguments"),
    ],
)
def test_refused_arguments(recipe, message):
    with pytest.raises(ConfigError, match=message):
        spec.parse(recipe, BATCH_TRANSFORMS, "config.data.batch_transform")


@pytest.mark.parametrize(
    ("recipe", "shape", "message"),
    [
        ("random_translate(4)", (2, 4, 9, 1), r"random_translate\(4\): .* only 4 pixels per side"),
        ("random_translate(1)", (2, 9, 3), r"needs images \[B, ..., H, W, C\]"),
        ("cutout(5)", (2, 4, 9, 1), r"cutout\(5\): the images have only 4 pixels per side"),
        ("cutout(1)", (2, 9, 3), r"needs images \[B, ..., H, W, C\]"),
    ],
)
def test_images_that_are_too_small(recipe, shape, message):
    with pytest.raises(ConfigError, match=message):
        build(recipe)({"image": jnp.zeros(shape), "label": jnp.zeros(2, jnp.int32)}, 0)

"""Batch transforms: against NumPy, their statistics, and on any number of devices."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import batch as batch_transforms
from imgcls.data.transforms import spec
from imgcls.data.transforms.batch import normalize, one_hot_labels
from imgcls.data.transforms.transform import BATCH_TRANSFORMS
from tests.conftest import make_mesh

CHAIN = "mixup_or_cutmix(0.8, 1.0)|random_erasing(0.5)|label_smoothing(0.1)"


@pytest.fixture(scope="module", autouse=True)
def quick_compiles():
    """Compiles without most optimizations, since compiling takes most of the time."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


@functools.cache
def build(recipe):
    """`(batch, key, num_classes) -> batch`, jitted."""
    fns = spec.parse(recipe, BATCH_TRANSFORMS, "test")

    def chain(batch, rng, num_classes):
        return batch_transforms.apply(batch, rng, fns, num_classes)

    return jax.jit(chain, static_argnums=2)


def make_batch(*shape, num_classes=10):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.array(rng.normal(size=shape), jnp.float32),
        "label": jnp.array(rng.integers(num_classes, size=shape[0]), jnp.int32),
        "index": jnp.arange(shape[0]),
    }


def one_hot_batch(*spatial, num_classes=6):
    """Every pixel of example i is the one-hot vector of class i: an image's mean is its label."""
    eye = jnp.eye(num_classes)
    image = eye.reshape(num_classes, *[1] * len(spatial), num_classes)
    shape = (num_classes, *spatial, num_classes)
    return {"image": jnp.broadcast_to(image, shape), "label": jnp.arange(num_classes)}


def read_many(recipe, batch, num_classes, read, count=2000):
    """`read` of the transformed batch for many keys, `[count, ...]`."""
    transform = build(recipe)
    keys = jax.random.split(jax.random.key(0), count)
    read_one = jax.vmap(lambda key: read(transform(batch, key, num_classes)))
    return jax.tree.map(np.asarray, jax.jit(read_one)(keys))


# ---- Normalization and labels.


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (2, 3, 5, 7, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalize(shape, dtype):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    result = normalize(jnp.array(images), mean, std)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, (images / 255 - mean) / std, atol=2e-6)
    half = normalize(jnp.array(images), mean, std, jnp.bfloat16)
    np.testing.assert_array_equal(half, result.astype(jnp.bfloat16))


def test_normalize_gray():
    images = jnp.full((2, 3, 3, 1), 51, jnp.uint8)
    np.testing.assert_allclose(normalize(images, (0.3,), (0.5,)), -0.2, atol=1e-6)


def test_one_hot_labels():
    labels = one_hot_labels(jnp.array([2, 0], jnp.int32), 3)
    np.testing.assert_array_equal(labels, [[0, 0, 1], [1, 0, 0]])
    multi_hot = one_hot_labels(jnp.array([[1, 0, 1]], jnp.uint8), 3)
    np.testing.assert_array_equal(multi_hot, [[1, 0, 1]])
    soft = one_hot_labels(jnp.array([[0.25, 0.75]], jnp.float32), 2)
    np.testing.assert_array_equal(soft, [[0.25, 0.75]])
    assert labels.dtype == multi_hot.dtype == soft.dtype == jnp.float32


def test_label_smoothing():
    batch = {"image": jnp.zeros((2, 4, 4, 1)), "label": jnp.array([1, 3])}
    result = build("label_smoothing(0.2)")(batch, jax.random.key(0), 4)
    np.testing.assert_allclose(result["label"], [[0.05, 0.85, 0.05, 0.05], [0.05] * 3 + [0.85]])


# ---- All batch transforms.


def test_jit_matches_eager_and_keeps_other_arrays():
    batch, key = make_batch(16, 9, 11, 3), jax.random.key(5)
    before = {k: np.array(v) for k, v in batch.items()}
    fns = spec.parse(CHAIN, BATCH_TRANSFORMS, "test")
    eager = batch_transforms.apply(batch, key, fns, 10)
    jitted = build(CHAIN)(batch, key, 10)
    assert jitted.keys() == batch.keys()
    for name in batch:
        np.testing.assert_allclose(jitted[name], eager[name], atol=1e-6)
        np.testing.assert_array_equal(batch[name], before[name])
    assert jitted["image"].dtype == jnp.float32 and jitted["image"].shape == (16, 9, 11, 3)
    np.testing.assert_array_equal(jitted["index"], batch["index"])
    other = build(CHAIN)(batch, jax.random.key(6), 10)
    assert (other["image"] != jitted["image"]).any()


def test_result_does_not_depend_on_the_devices():
    batch, key, transform = make_batch(16, 9, 11, 3), jax.random.key(5), build(CHAIN)
    alone = transform(batch, key, 10)
    rows = NamedSharding(make_mesh(data=8), PartitionSpec("data"))
    together = transform(jax.device_put(batch, rows), key, 10)
    for name in batch:
        np.testing.assert_allclose(together[name], alone[name], atol=1e-6)


def test_mixing_moves_one_row_between_devices():
    rows = NamedSharding(make_mesh(data=8), PartitionSpec("data"))
    batch = jax.device_put(make_batch(32, 9, 11, 3), rows)
    transform = build("mixup_or_cutmix(0.8, 1.0)")
    program = transform.lower(batch, jax.random.key(0), 10).compile().as_text()
    assert not re.search(r"all-(gather|to-all|reduce)", program)
    moved = re.findall(r"f32\[([\d,]+)\]\S* collective-permute\(", program)
    assert "1,9,11,3" in moved and all(shape.startswith("1,") for shape in moved)


def test_apply_gives_every_transform_its_own_key():
    def note(batch, rng, num_classes):
        return {"draws": [*batch["draws"], jax.random.uniform(rng)], "classes": num_classes}

    key = jax.random.key(0)
    result = batch_transforms.apply({"draws": []}, key, [note, note, note], 10)
    expected = [jax.random.uniform(jax.random.fold_in(key, i)) for i in range(3)]
    assert result == {"draws": expected, "classes": 10} and len(set(map(float, expected))) == 3


@pytest.mark.parametrize(
    "recipe, message",
    [
        ("mixup(0)", "mixup alpha=0 must be a number of at least 0.001"),
        ("cutmix(-1)", "cutmix alpha=-1"),
        ("mixup", "missing a required argument: 'alpha'"),
        ("mixup(0.2, p=1.5)", "p=1.5 must be a number from 0 to 1"),
        ("mixup_or_cutmix(0.8, 1, switch_p=2)", "switch_p=2"),
        ("mixup_or_cutmix(0.8, 'x')", "cutmix alpha='x'"),
        ("random_erasing(p=-0.1)", "p=-0.1"),
        ("random_erasing(area=(0.2, 1.2))", "area=(0.2, 1.2) must be a pair"),
        ("random_erasing(ratio=(3, 0.3))", "ratio=(3, 0.3) must be a pair"),
        ("random_erasing(mode='mean')", "mode='mean' must be one of pixel, const"),
        ("label_smoothing(1.1)", "eps=1.1"),
    ],
)
def test_refused_arguments(recipe, message):
    with pytest.raises(ConfigError) as error:
        spec.parse(recipe, BATCH_TRANSFORMS, "config.data.batch_transform")
    assert message in str(error.value)


@pytest.mark.parametrize("recipe", ["cutmix(1)", "random_erasing(1)"])
def test_boxes_need_two_spatial_axes(recipe):
    with pytest.raises(ConfigError, match=r"needs images \[B, ..., H, W, C\], not \(4, 9, 3\)"):
        build(recipe)(make_batch(4, 9, 3), jax.random.key(0), 10)
    with pytest.raises(
        ConfigError, match=r"needs volumes \[B, ..., D, H, W, C\], not \(4, 9, 3, 2"
    ):
        build("cutmix3d(1)")(make_batch(4, 9, 3, 2), jax.random.key(0), 10)


# ---- mixup and CutMix.


def test_label_mass_is_pixel_mass():
    def read(result):
        return jnp.stack([result["image"].mean((1, 2)), result["label"]])

    recipe = "mixup_or_cutmix(0.8, 1.0, switch_p=0.3, p=0.6)"
    pixels, labels = np.moveaxis(read_many(recipe, one_hot_batch(9, 11), 6, read, count=200), 1, 0)
    np.testing.assert_allclose(pixels, labels, atol=2e-6)
    np.testing.assert_allclose(labels.sum(-1), 1, atol=2e-6)
    assert (labels == 0).sum(-1).min() == 4  # a label has two classes
    assert len(np.unique(labels[:, 0, 0])) > 60


@pytest.mark.parametrize("shape", [(5, 7, 2), (5, 2, 4, 6, 1)])
def test_mixup_blends_with_the_next_example(shape):
    batch, key = make_batch(*shape), jax.random.key(1)
    batch["label"] = jnp.arange(shape[0])
    result = build("mixup(1.0)")(batch, key, 10)
    image, eye = np.asarray(batch["image"]), np.eye(10)
    own = float(result["label"][0, 0])
    assert 0.02 < own < 0.98
    for i in range(shape[0]):
        partner = (i + 1) % shape[0]
        np.testing.assert_allclose(
            result["image"][i], own * image[i] + (1 - own) * image[partner], atol=2e-6
        )
        np.testing.assert_allclose(
            result["label"][i], own * eye[i] + (1 - own) * eye[partner], atol=2e-6
        )


@pytest.mark.parametrize("alpha", [0.2, 2.0])
def test_mixup_lambda_is_beta(alpha):
    batch = one_hot_batch(1, 1)
    own = read_many(f"mixup({alpha})", batch, 6, lambda result: result["label"][0, 0])
    assert abs(own.mean() - 0.5) < 0.04
    assert own.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_cutmix_pastes_one_box_of_the_next_example():
    batch, eye = one_hot_batch(3, 8, 7), np.eye(6)
    results = read_many("cutmix(1.0)", batch, 6, lambda r: (r["image"], r["label"]), count=100)
    for images, labels in zip(*results, strict=True):
        mask = images[0, 0, ..., 1]
        rows, columns = np.nonzero(mask)
        if rows.size:
            assert mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        for i in range(6):
            for frame in images[i]:
                expected = np.where(mask[..., None], eye[(i + 1) % 6], eye[i])
                np.testing.assert_array_equal(frame, expected)
            np.testing.assert_allclose(labels[i], images[i].mean((0, 1, 2)), atol=2e-6)
    assert len(np.unique(results[1][:, 0, 0])) > 12


def test_cutmix3d_pastes_one_box_of_the_next_example():
    batch, eye = one_hot_batch(5, 8, 7), np.eye(6)
    results = read_many("cutmix3d(1.0)", batch, 6, lambda r: (r["image"], r["label"]), count=40)
    for volumes, labels in zip(*results, strict=True):
        mask = volumes[0, ..., 1]
        if mask.any():
            box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(mask))
            assert mask[box].all()
        for i in range(6):
            expected = np.where(mask[..., None], eye[(i + 1) % 6], eye[i])
            np.testing.assert_array_equal(volumes[i], expected)
            np.testing.assert_allclose(labels[i], expected.mean((0, 1, 2)), atol=2e-6)
    assert len(np.unique(results[1][:, 0, 0])) > 12


def test_cutmix3d_boxes_have_the_volume_of_lambda():
    """Against a loop over boxes."""
    rng, expected = np.random.default_rng(0), []
    for _ in range(20000):
        side = (1 - rng.beta(1, 1)) ** (1 / 3)
        share = 1.0
        for length in (6, 10, 8):
            cells = int(length * side)
            first = rng.integers(length) - cells // 2
            share *= (min(first + cells, length) - max(first, 0)) / length
        expected.append(share)
    own = read_many("cutmix3d(1.0)", one_hot_batch(6, 10, 8), 6, lambda r: r["label"][0, 0])
    assert 1 - own.mean() == pytest.approx(np.mean(expected), abs=0.02)
    assert own.std() == pytest.approx(np.std(expected), abs=0.02)


def test_cutmix_boxes_are_distributed_as_in_the_paper():
    rng, expected = np.random.default_rng(0), []
    for _ in range(20000):
        side = np.sqrt(1 - rng.beta(1, 1))
        lengths = []
        for length in (40, 60):
            half, centre = int(length * side) / 2, rng.integers(length)
            lengths.append(min(centre + half, length) - max(centre - half, 0))
        expected.append(lengths[0] * lengths[1] / 2400)
    own = read_many("cutmix(1.0)", one_hot_batch(40, 60), 6, lambda r: r["label"][0, 0])
    assert 1 - own.mean() == pytest.approx(np.mean(expected), abs=0.02)
    assert own.std() == pytest.approx(np.std(expected), abs=0.02)


def test_probabilities_of_mixing_and_of_switching():
    batch = one_hot_batch(8, 8)

    def read(result):
        # In image 0, all pixels are equal after mixup, and CutMix gives two kinds of pixels.
        own = result["image"][0, ..., 0]
        return jnp.stack([own.min(), own.max()])

    low, high = read_many("mixup_or_cutmix(1.0, 1.0, switch_p=0.3, p=0.6)", batch, 6, read).T
    mixed, cut = (low < 1) & (low == high), low < high
    assert mixed.mean() == pytest.approx(0.6 * 0.7, abs=0.04)
    assert 0.13 < cut.mean() < 0.2  # 0.18, less a few boxes without or with all pixels
    assert set(np.unique(low[cut])) == {0.0} and set(np.unique(high[cut])) == {1.0}
    own = read_many("mixup(1.0, p=0.25)", batch, 6, lambda result: result["label"][0, 0])
    assert 0.21 < (own < 1).mean() < 0.29


@pytest.mark.parametrize("recipe", ["mixup(1.0, p=0.5)", "cutmix(1.0, p=0.5)"])
def test_mixtures_of_padded_clips_are_as_long_as_the_longer_one(recipe):
    """Batches that are not mixed keep their lengths."""
    own = np.array([5, 2, 7, 1, 3, 4])
    batch = one_hot_batch(3, 8, 7) | {"length": jnp.asarray(own)}
    results = read_many(recipe, batch, 6, lambda r: (r["length"], r["label"]), count=40)
    longer = np.array([max(own[i], own[(i + 1) % 6]) for i in range(6)])
    mixed = 0
    for lengths, labels in zip(*results, strict=True):
        if np.array_equal(lengths, own):
            np.testing.assert_allclose(labels, np.eye(6), atol=1e-6)
        else:
            np.testing.assert_array_equal(lengths, longer)
            mixed += 1
    assert 5 < mixed < 35


def test_multi_hot_labels_are_mixed():
    batch = make_batch(3, 4, 4, 1)
    batch["label"] = jnp.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], jnp.uint8)
    labels = np.asarray(build("mixup(1.0)")(batch, jax.random.key(2), 4)["label"])
    own = labels[0, 0]
    assert 0.02 < own < 0.98 and labels.dtype == np.float32
    expected = [[own, 1, 1 - own, 0], [0, own, own, 1 - own], [1 - own, 1 - own, 0, own]]
    np.testing.assert_allclose(labels, expected, atol=1e-6)


# ---- Random erasing.


def erased_boxes(recipe, shape, count=40):
    """(example, top, left, height, width) of the erased boxes; checks that they are boxes."""
    batch = {"image": jnp.ones(shape), "label": jnp.zeros(shape[0], jnp.int32)}
    images = read_many(recipe, batch, 10, lambda result: result["image"], count=count)
    assert set(np.unique(images)) == {0.0, 1.0}
    erased = (images != 1).all(-1).reshape(count * shape[0], -1, *shape[-3:-1])
    np.testing.assert_array_equal(erased, erased[:, :1].repeat(erased.shape[1], 1))
    boxes = []
    for i, mask in enumerate(erased[:, 0]):
        rows, columns = np.nonzero(mask)
        if rows.size:
            top, left, h, w = rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1
            assert mask.sum() == h * w
            boxes.append((i, top, left, h, w))
    return np.array(boxes)


def test_random_erasing_boxes():
    call = "random_erasing(0.4, area=(0.05, 0.2), ratio=(0.5, 2), mode='const')"
    boxes = erased_boxes(call, (16, 2, 40, 60, 1))
    example, top, left, h, w = boxes.T
    assert len(boxes) / (40 * 16) == pytest.approx(0.4, abs=0.06)
    areas, ratios = h * w / 2400, h / w
    assert 0.045 < areas.min() < 0.06 and 0.19 < areas.max() < 0.21
    assert areas.mean() == pytest.approx(0.125, abs=0.01)  # uniform
    assert 0.45 < ratios.min() < 0.55 and 1.8 < ratios.max() < 2.2
    assert abs(np.log(ratios).mean()) < 0.08  # uniform in the logarithm
    for first, side, length in ((top, h, 40), (left, w, 60)):
        places = first / (length - side)
        assert places.min() == 0 and places.max() == 1 and abs(places.mean() - 0.5) < 0.06


def test_random_erasing_tries_again_until_a_box_fits():
    """Large boxes often do not fit, but one of ten nearly always does."""
    boxes = erased_boxes("random_erasing(1, area=(0.02, 1.0), mode='const')", (16, 30, 30, 1))
    assert len(boxes) > 0.98 * 40 * 16
    assert (boxes[:, 3] < 30).all() and (boxes[:, 4] < 30).all()
    hopeless = {"image": jnp.ones((4, 8, 8, 1)), "label": jnp.zeros(4, jnp.int32)}
    whole = build("random_erasing(1, area=(1, 1), ratio=(2, 3), mode='const')")(
        hopeless, jax.random.key(0), 10
    )
    np.testing.assert_array_equal(whole["image"], hopeless["image"])


def test_random_erasing_fills_with_noise():
    batch = {"image": jnp.full((64, 40, 40, 3), 7.0), "label": jnp.zeros(64, jnp.int32)}
    transform = build("random_erasing(1, area=(0.3, 0.3), ratio=(1, 1))")
    image = np.asarray(transform(batch, jax.random.key(0), 10)["image"])
    erased = (image != 7).all(-1)
    assert (erased.sum((1, 2)) == 22 * 22).all()  # 0.3 * 1600 is 480, the nearest square 484
    values = image[erased]
    assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.02
    assert len(np.unique(values)) > 0.9 * values.size  # independent for each pixel and channel

"""Objectives on volumes: they train and resume, and corrupt and decode over three axes."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from imgcls.core.config import override
from imgcls.data.info import DataInfo
from imgcls.objectives.create import create_objective
from imgcls.objectives.denoise import gaussian_blur, shuffle_patches
from imgcls.objectives.heads import ConvDecoder
from imgcls.objectives.patches import from_patches, to_patches
from imgcls.train.loop import train
from tests.end_to_end.test_resume import final_state
from tests.objectives.test_every_objective import make_config

SHAPE = (4, 6, 8, 1)
INFO = DataInfo(tuple("0123456789"), False, SHAPE, 100)


@pytest.fixture
def volumes():
    return np.random.default_rng(0).normal(size=(16, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[bool, str]:
    """Volumes of 8x8x8 with a bright slab across one axis, by whether they are multi-label."""
    folder, found = tmp_path_factory.mktemp("volumes"), {}
    rng = np.random.default_rng(0)
    for multi_label in (False, True):
        arrays = {}
        for split, count in (("train", 48), ("val", 16), ("test", 16)):
            hot = rng.random((count, 3)) < 0.5 if multi_label else np.eye(3)[np.arange(count) % 3]
            images = rng.integers(0, 60, (count, 8, 8, 8), np.uint8)
            for image, axis in zip(*np.nonzero(hot), strict=True):
                np.moveaxis(images[image], axis, 0)[rng.integers(8)] = 250
            arrays[f"{split}_images"] = images
            labels = hot.astype(np.uint8) if multi_label else hot.argmax(1)[:, None]
            arrays[f"{split}_labels"] = labels
        np.savez(folder / f"{multi_label}.npz", **arrays)
        found[multi_label] = f"medmnist:{folder / f'{multi_label}.npz'}"
    return found


def make_run(name: str, source: str, cache: str, *overrides: str):
    """Four steps; the views are crops with noise, and a box is cut out."""
    config = make_config(name, f"--config.compile_cache={cache}")
    config.data.source = source
    config.data.train_transform = "random_crop3d(8, padding=1)|noise3d|cutout3d(3)"
    config.data.eval_transform = ""
    config.total, config.batch_size = "4 steps", 16
    config.checkpoint.every = config.log.every = "2 steps"
    if name == "mae":
        options = dict(width=24, depth=1, num_heads=2, mlp_dim=48)
        config.model = dict(name="vit3d_ti4", dtype="float32", **options)
    else:
        options = dict(stem="cifar", width=4, stage_sizes=(1,), virtual_batch_size=2)
        config.model = dict(name="resnet3d_10", dtype="float32", **options)
    config.evaluators = dict(knn=dict(type="knn", k=5, every="4 steps"))
    if name in ("denoise", "inpaint", "mae"):
        config.evaluators.pictures = dict(type="reconstructions", examples=2, every="4 steps")
    return override(config, list(overrides))


# Those that share most of their code with others.
SLOW = {"marks": pytest.mark.slow}


@pytest.mark.parametrize(
    "name, overrides",
    [
        ("supervised", ("--config.objective.loss=auto",)),
        ("simclr", ()),
        pytest.param("byol", (), **SLOW),
        pytest.param("supcon", (), **SLOW),
        pytest.param("triplet", (), **SLOW),
        pytest.param("pairwise", (), **SLOW),
        pytest.param("denoise", (), **SLOW),
        pytest.param("inpaint", (), **SLOW),
        pytest.param("mae", (), **SLOW),
    ],
)
def test_objective_trains_and_resumes(name, overrides, sources, cache, tmp_path, capsys):
    multi_label = name == "supervised"
    config = make_run(name, sources[multi_label], cache, *overrides)
    if multi_label:
        config.evaluators = dict(test=dict(split="test", every="4 steps"))
    results = train(config, str(tmp_path))
    assert ("test/map" if multi_label else "knn/accuracy") in results
    assert all(np.isfinite(value) for value in results.values())
    expected = final_state(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    assert train(config, str(tmp_path)) == results
    assert "continue at step 2 of 4" in capsys.readouterr().out
    resumed = final_state(tmp_path)
    assert resumed.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(resumed[key], value, err_msg=key)


# ---- Corruptions and decoders.


def test_blur_matches_scipy(volumes):
    expected = volumes.astype(np.float64)
    for axis in (1, 2, 3):
        expected = gaussian_filter1d(expected, 0.8, axis, mode="nearest", truncate=3.0)
    blurred = gaussian_blur(jnp.asarray(volumes), 0.8)
    np.testing.assert_allclose(blurred, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sides", [(2, 2, 2), (4, 3, 1)])
def test_patches_are_in_the_order_of_the_axes(sides):
    x = np.arange(2 * 4 * 6 * 8 * 2).reshape(2, 4, 6, 8, 2)
    patches = to_patches(jnp.asarray(x), sides)
    d, h, w = sides
    expected = [
        [
            volume[i : i + d, j : j + h, k : k + w].ravel()
            for i in range(0, 4, d)
            for j in range(0, 6, h)
            for k in range(0, 8, w)
        ]
        for volume in x
    ]
    np.testing.assert_array_equal(patches, expected)
    np.testing.assert_array_equal(from_patches(patches, sides, x.shape), x)


def test_shuffle_permutes_the_patches_of_each_volume(volumes):
    shuffled = shuffle_patches(jnp.asarray(volumes), 2, jax.random.key(0))
    orders = set()
    for before, after in zip(volumes, np.asarray(shuffled), strict=True):
        corners = [
            [
                np.ascontiguousarray(x[i : i + 2, j : j + 3, k : k + 4]).tobytes()
                for i in (0, 2)
                for j in (0, 3)
                for k in (0, 4)
            ]
            for x in (before, after)
        ]
        assert sorted(corners[0]) == sorted(corners[1])
        orders.add(tuple(corners[0].index(corner) for corner in corners[1]))
    assert len(orders) == len(volumes)  # out of 8! orders


@pytest.mark.parametrize("region", ["center", "random"])
def test_inpaint_cuts_a_box(volumes, region):
    config = make_config("inpaint", f"--config.objective.region={region}")
    config.model = dict(name="resnet3d_10", stem="cifar", width=4, stage_sizes=(1,))
    objective = create_objective(config, INFO)
    corrupted, inside = objective.corrupt(jnp.asarray(volumes), jax.random.key(1))
    assert inside.shape == (16, 4, 6, 8, 1)
    corners = set()
    for mask in np.asarray(inside[..., 0]):
        cut = np.argwhere(mask)
        assert len(cut) == 2 * 3 * 4 and tuple(np.ptp(cut, axis=0)) == (1, 2, 3)
        corners.add(tuple(cut.min(0)))
    assert (len(corners) > 8) if region == "random" else corners == {(1, 1, 2)}
    np.testing.assert_array_equal(corrupted, np.where(inside, 0, volumes))


def test_mae_hides_boxes(volumes):
    """Hidden boxes change nothing, and only they are reconstructed."""
    depth = 4
    config = make_config("mae", "--config.objective.mask_ratio=0.5")
    options = dict(width=24, depth=1, num_heads=2, mlp_dim=48)
    config.model = dict(name="vit3d_ti2", patch_depth=depth, dtype="float32", **options)
    objective = create_objective(config, INFO)
    count = 4 // depth * 3 * 4
    params, state = jax.jit(lambda: objective.init(jax.random.key(0), {"image": volumes}))()
    keep, restore = objective.draw_mask(jax.random.key(2), 16)
    assert keep.shape == (16, count // 2) and restore.shape == (16, count)
    reconstruct = jax.jit(objective.reconstruct)
    images = reconstruct(params, state, {"image": volumes}, jax.random.key(2))
    hidden = np.zeros((16, *SHAPE), bool)
    places = [(i, j, k) for i in range(0, 4, depth) for j in range(0, 6, 2) for k in range(0, 8, 2)]
    for row, visible in enumerate(np.asarray(keep)):
        for number in set(range(count)) - set(visible):
            i, j, k = places[number]
            hidden[row, i : i + depth, j : j + 2, k : k + 2] = True
    np.testing.assert_array_equal(images["masked"], np.where(hidden, 0, volumes))
    np.testing.assert_array_equal(images["output"][~hidden], volumes[~hidden])
    assert (np.asarray(images["output"]) != volumes)[hidden].all()

    @jax.jit
    def decode(x):
        return objective.network.apply({"params": params, **state}, x, keep, restore, train=False)[
            1
        ]

    decoded = decode(volumes)
    assert decoded.shape == (16, count, depth * 2 * 2)
    np.testing.assert_array_equal(decode(np.where(hidden, -volumes, volumes)), decoded)


@pytest.mark.parametrize("shape", [(9, 5, 6, 2), (28, 28, 28, 1), (28, 20, 3)])
def test_decoder_makes_the_shape(shape):
    decoder = ConvDecoder(shape, width=32)
    features = jax.ShapeDtypeStruct((2, 16), jnp.float32)

    def run(x):
        return decoder.init_with_output(jax.random.key(0), x, train=False)

    output, variables = jax.eval_shape(run, features)
    assert output.shape == (2, *shape) and output.dtype == jnp.float32
    small = {9: 3 * 2 * 2, 28: 4**3 if len(shape) == 4 else 7 * 5}[shape[0]]
    assert variables["params"]["fc"]["kernel"].shape == (16, 32 * small)
    assert variables["params"]["conv0"]["kernel"].shape == (*[3] * (len(shape) - 1), 32, 32)

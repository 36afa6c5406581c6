"""Inpainting, denoising and MAE: the corruption, the network's input, and the loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from imgcls.objectives.create import create_objective
from imgcls.objectives.denoise import gaussian_blur, shuffle_patches
from imgcls.objectives.patches import from_patches, to_patches
from tests.objectives.test_every_objective import INFO, make_batch, make_config


@pytest.fixture
def image():
    return make_batch()["image"]


@functools.cache
def make(name: str, *overrides: str) -> tuple:
    """(objective, params, model state, batch) for images with the shape of the digits."""
    objective = create_objective(make_config(name, *overrides), INFO)
    batch = make_batch()
    return objective, *objective.init(jax.random.key(0), batch), batch


@pytest.mark.parametrize("sigma", [0.6, 1.5])
def test_blur_matches_scipy(image, sigma):
    """With the same kernel size and edge mode."""
    expected = np.asarray(image, np.float64)
    for axis in (1, 2):
        expected = gaussian_filter1d(expected, sigma, axis, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(gaussian_blur(image, sigma), expected, rtol=1e-4, atol=1e-6)


def test_shuffle_permutes_the_patches_of_each_image(image):
    shuffled = np.asarray(shuffle_patches(image, 4, jax.random.key(0)))
    orders = set()
    for before, after in zip(np.asarray(image), shuffled, strict=True):
        patches = [
            [x[r : r + 2, c : c + 2].tobytes() for r in range(0, 8, 2) for c in range(0, 8, 2)]
            for x in (before, after)
        ]
        assert sorted(patches[0]) == sorted(patches[1])
        orders.add(tuple(patches[0].index(patch) for patch in patches[1]))
    assert len(orders) == len(image)  # out of 16! orders


def test_noise_has_its_standard_deviation_and_can_be_off(image):
    noisy = create_objective(make_config("denoise", "--config.objective.noise=0.5"), INFO)
    plain = [f"--config.objective.{key}=0" for key in ("noise", "blur", "shuffle")]
    noisy._blur = noisy._shuffle = 0
    corrupted, mask = noisy.corrupt(image, jax.random.key(0))
    assert float(jnp.std(corrupted - image)) == pytest.approx(0.5, abs=0.02)
    assert (mask == 1).all()
    corrupted, _ = create_objective(make_config("denoise", *plain), INFO).corrupt(
        image, jax.random.key(0)
    )
    np.testing.assert_array_equal(corrupted, image)


@pytest.mark.parametrize("region", ["center", "random"])
def test_inpaint_cuts_a_square(image, region):
    options = (f"--config.objective.region={region}", "--config.objective.fraction=0.4")
    objective = create_objective(make_config("inpaint", *options), INFO)
    corrupted, inside = objective.corrupt(image, jax.random.key(1))
    corners = set()
    for mask in np.asarray(inside[..., 0]):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        # A side has round(0.4 * 8) pixels.
        assert mask.sum() == 9 and np.ptp(rows) == np.ptp(columns) == 2
        corners.add((rows[0], columns[0]))
    assert (len(corners) > 10) if region == "random" else corners == {(2, 2)}
    np.testing.assert_array_equal(corrupted, np.where(inside, 0, image))


def test_inpaint_loss_by_hand():
    objective, params, state, batch = make("inpaint")
    rng = jax.random.key(3)
    loss, (_, metrics) = objective.loss(params, state, None, batch, rng, 0)
    corrupted, inside = objective.corrupt(batch["image"], jax.random.split(rng)[0])
    (_, output), _ = objective.apply(params, state, corrupted, rng=rng)
    output, image = np.asarray(output), np.asarray(batch["image"])
    errors = [
        (output[i, r, c, 0] - image[i, r, c, 0]) ** 2
        for i, r, c, _ in zip(*np.nonzero(inside), strict=True)
    ]
    assert len(errors) == 32 * 16
    assert float(metrics["loss"]) == pytest.approx(np.mean(errors), rel=1e-5)
    assert float(loss) == pytest.approx(float(metrics["loss"] + metrics["probe_loss"]), rel=1e-6)


def test_patches_are_in_row_order():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = to_patches(jnp.asarray(x), (2, 2))
    assert patches.shape == (2, 6, 12)
    np.testing.assert_array_equal(patches[1, 4], x[1, 2:4, 2:4].ravel())
    np.testing.assert_array_equal(from_patches(patches, (2, 2), x.shape), x)


def test_mae_sees_only_the_visible_patches():
    """The output does not depend on masked pixels."""
    objective, params, state, batch = make("mae")
    keep, restore = objective.draw_mask(jax.random.key(5), 32)
    assert keep.shape == (32, 4) and restore.shape == (32, 16)
    hidden = np.asarray(restore) >= 4
    for row in range(32):
        assert set(np.flatnonzero(~hidden[row])) == set(np.asarray(keep[row]))
    assert len({tuple(row) for row in np.asarray(keep)}) > 25  # examples differ

    patches = np.array(to_patches(batch["image"], (2, 2)))
    patches[hidden] = 99.0
    other = from_patches(jnp.asarray(patches), (2, 2), batch["image"].shape)

    @jax.jit
    def decode(image):
        variables = {"params": params, **state}
        return objective.network.apply(variables, image, keep, restore, train=False)

    for before, after in zip(decode(batch["image"]), decode(other), strict=True):
        np.testing.assert_array_equal(before, after)
    seen = patches.copy()
    seen[0, keep[0, 0]] += 1
    changed = decode(from_patches(jnp.asarray(seen), (2, 2), batch["image"].shape))[1]
    assert not np.allclose(changed[0], decode(other)[1][0])


def test_mae_encodes_patches_with_their_positions():
    """All patches in any order give the tokens of the full image in that order."""
    objective, params, state, batch = make("mae")
    model, image = objective.model, batch["image"]
    variables = {"params": params["backbone"]}
    order = jnp.argsort(jax.random.uniform(jax.random.key(0), (32, 16)), axis=1)
    all_patches = jnp.tile(jnp.arange(16), (32, 1))
    in_order = model.apply(variables, image, keep=all_patches)
    tokens = model.apply(variables, image, keep=order)
    prefix = model.prefix_tokens
    assert prefix == 1 and tokens.shape == (32, 17, 32)
    expected = jnp.take_along_axis(in_order[:, prefix:], order[:, :, None], axis=1)
    np.testing.assert_allclose(tokens[:, prefix:], expected, atol=1e-5)
    features = model.apply(variables, image, features=True)
    np.testing.assert_allclose(in_order[:, 0], features, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_mae_reconstruction(normalize):
    """Visible patches are unchanged; a perfect decoder gives the input."""
    objective, params, state, batch = make("mae", f"--config.objective.normalize={normalize}")
    image = batch["image"]
    images = objective.reconstruct(params, state, batch, jax.random.key(2))
    keep, restore = objective.draw_mask(jax.random.key(2), 32)
    hidden = np.asarray(restore >= 4)
    before, masked, after = (np.asarray(to_patches(images[k], (2, 2))) for k in images)
    np.testing.assert_array_equal(masked[~hidden], before[~hidden])
    np.testing.assert_array_equal(after[~hidden], before[~hidden])
    assert (masked[hidden] == 0).all()

    class Perfect:
        """Returns the targets."""

        def apply(self, variables, image, keep, restore, train):
            x = to_patches(image, (2, 2))
            if normalize:
                x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True, ddof=1)
            return None, x

    objective.network, network = Perfect(), objective.network
    try:
        images = objective.reconstruct(params, state, batch, jax.random.key(2))
    finally:
        objective.network = network
    np.testing.assert_allclose(images["output"], image, atol=1e-5)


@pytest.mark.parametrize("name", ["inpaint", "denoise"])
def test_autoencoder_reconstruction(name):
    objective, params, state, batch = make(name)
    images = objective.reconstruct(params, state, batch, jax.random.key(2))
    corrupted, mask = objective.corrupt(batch["image"], jax.random.key(2))
    assert list(images) == ["input", "masked", "output"]
    np.testing.assert_array_equal(images["masked"], corrupted)
    outside = np.broadcast_to(mask == 0, corrupted.shape)
    np.testing.assert_array_equal(images["output"][outside], batch["image"][outside])
    again = objective.reconstruct(params, state, batch, jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, images, again)

"""Inpainting, denoising and MAE: what is spoilt, what the network may see, and what counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from imgcls.objectives.create import create_objective
from imgcls.objectives.denoise import gaussian_blur, shuffle_patches
from imgcls.objectives.mae import from_patches, to_patches
from tests.objectives.test_every_objective import INFO, make_batch, make_config


@pytest.fixture
def image():
    return make_batch()["image"]


@functools.cache
def make(name: str, *overrides: str) -> tuple:
    """(objective, params, model state, batch) for the digits' shape."""
    objective = create_objective(make_config(name, *overrides), INFO)
    batch = make_batch()
    return objective, *objective.init(jax.random.key(0), batch), batch


@pytest.mark.parametrize("sigma", [0.6, 1.5])
def test_blur(image, sigma):
    """scipy's filter, with the same reach and edges."""
    expected = np.asarray(image, np.float64)
    for axis in (1, 2):
        expected = gaussian_filter1d(expected, sigma, axis, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(gaussian_blur(image, sigma), expected, rtol=1e-4, atol=1e-6)


def test_shuffle(image):
    shuffled = np.asarray(shuffle_patches(image, 4, jax.random.key(0)))
    orders = set()
    for before, after in zip(np.asarray(image), shuffled, strict=True):
        patches = [
            [x[r : r + 2, c : c + 2].tobytes() for r in range(0, 8, 2) for c in range(0, 8, 2)]
            for x in (before, after)
        ]
        assert sorted(patches[0]) == sorted(patches[1])
        orders.add(tuple(patches[0].index(patch) for patch in patches[1]))
    assert len(orders) == len(image)  # of 16! orders, each example has its own


def test_noise_and_plain_autoencoder(image):
    noisy = create_objective(make_config("denoise", "--config.objective.noise=0.5"), INFO)
    plain = [f"--config.objective.{key}=0" for key in ("noise", "blur", "shuffle")]
    noisy._blur = noisy._shuffle = 0
    spoilt, counts = noisy.spoil(image, jax.random.key(0))
    assert float(jnp.std(spoilt - image)) == pytest.approx(0.5, abs=0.02)
    assert (counts == 1).all()
    spoilt, _ = create_objective(make_config("denoise", *plain), INFO).spoil(
        image, jax.random.key(0)
    )
    np.testing.assert_array_equal(spoilt, image)


@pytest.mark.parametrize("region", ["center", "random"])
def test_inpaint_cuts_a_square(image, region):
    options = (f"--config.objective.region={region}", "--config.objective.fraction=0.4")
    objective = create_objective(make_config("inpaint", *options), INFO)
    spoilt, inside = objective.spoil(image, jax.random.key(1))
    corners = set()
    for mask in np.asarray(inside[..., 0]):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        # round(0.4 * 8) pixels a side.
        assert mask.sum() == 9 and np.ptp(rows) == np.ptp(columns) == 2
        corners.add((rows[0], columns[0]))
    assert (len(corners) > 10) if region == "random" else corners == {(2, 2)}
    np.testing.assert_array_equal(spoilt, np.where(inside, 0, image))


def test_inpaint_loss_by_hand():
    objective, params, state, batch = make("inpaint")
    rng = jax.random.key(3)
    loss, (_, metrics) = objective.loss(params, state, None, batch, rng, 0)
    spoilt, inside = objective.spoil(batch["image"], jax.random.split(rng)[0])
    (_, drawn), _ = objective.apply(params, state, spoilt, rng=rng)
    errors = [
        (drawn[i, r, c, 0] - batch["image"][i, r, c, 0]) ** 2
        for i, r, c, _ in zip(*np.nonzero(inside), strict=True)
    ]
    assert len(errors) == 32 * 16
    assert float(metrics["loss"]) == pytest.approx(np.mean(errors), rel=1e-5)
    assert float(loss) == pytest.approx(float(metrics["loss"] + metrics["probe_loss"]), rel=1e-6)


def test_patches():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = to_patches(jnp.asarray(x), 2)
    assert patches.shape == (2, 6, 12)
    np.testing.assert_array_equal(patches[1, 4], x[1, 2:4, 2:4].ravel())
    np.testing.assert_array_equal(from_patches(patches, 2, x.shape), x)


def test_mae_sees_the_visible_patches_alone():
    """Hidden pixels change the target and nothing that is drawn."""
    objective, params, state, batch = make("mae")
    keep, restore = objective.draw_mask(jax.random.key(5), 32)
    assert keep.shape == (32, 4) and restore.shape == (32, 16)
    hidden = np.asarray(restore) >= 4
    for row in range(32):
        assert set(np.flatnonzero(~hidden[row])) == set(np.asarray(keep[row]))
    assert len({tuple(row) for row in np.asarray(keep)}) > 25  # each example has its own

    patches = np.array(to_patches(batch["image"], 2))
    patches[hidden] = 99.0
    other = from_patches(jnp.asarray(patches), 2, batch["image"].shape)

    @jax.jit
    def draw(image):
        variables = {"params": params, **state}
        return objective.network.apply(variables, image, keep, restore, train=False)

    for before, after in zip(draw(batch["image"]), draw(other), strict=True):
        np.testing.assert_array_equal(before, after)
    seen = patches.copy()
    seen[0, keep[0, 0]] += 1
    changed = draw(from_patches(jnp.asarray(seen), 2, batch["image"].shape))[1]
    assert not np.allclose(changed[0], draw(other)[1][0])


def test_mae_encodes_kept_patches_at_their_places():
    """All patches, in any order: the tokens of the whole picture in that order."""
    objective, params, state, batch = make("mae")
    model, image = objective.model, batch["image"]
    variables = {"params": params["backbone"]}
    order = jnp.argsort(jax.random.uniform(jax.random.key(0), (32, 16)), axis=1)
    whole = jnp.tile(jnp.arange(16), (32, 1))
    in_order = model.apply(variables, image, keep=whole)
    tokens = model.apply(variables, image, keep=order)
    prefix = model.prefix_tokens
    assert prefix == 1 and tokens.shape == (32, 17, 32)
    expected = jnp.take_along_axis(in_order[:, prefix:], order[:, :, None], axis=1)
    np.testing.assert_allclose(tokens[:, prefix:], expected, atol=1e-5)
    features = model.apply(variables, image, features=True)
    np.testing.assert_allclose(in_order[:, 0], features, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_mae_pictures(normalize):
    """Visible patches are shown as they are; a perfect drawing is the input."""
    objective, params, state, batch = make("mae", f"--config.objective.normalize={normalize}")
    image = batch["image"]
    shown = objective.reconstruct(params, state, batch, jax.random.key(2))
    keep, restore = objective.draw_mask(jax.random.key(2), 32)
    hidden = np.asarray(restore >= 4)
    before, masked, after = (np.asarray(to_patches(shown[k], 2)) for k in shown)
    np.testing.assert_array_equal(masked[~hidden], before[~hidden])
    np.testing.assert_array_equal(after[~hidden], before[~hidden])
    assert (masked[hidden] == 0).all()

    class Perfect:
        """Draws the targets themselves."""

        def apply(self, variables, image, keep, restore, train):
            x = to_patches(image, 2)
            if normalize:
                x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True, ddof=1)
            return None, x

    objective.network, network = Perfect(), objective.network
    try:
        shown = objective.reconstruct(params, state, batch, jax.random.key(2))
    finally:
        objective.network = network
    np.testing.assert_allclose(shown["output"], image, atol=1e-5)


@pytest.mark.parametrize("name", ["inpaint", "denoise"])
def test_autoencoder_pictures(name):
    objective, params, state, batch = make(name)
    shown = objective.reconstruct(params, state, batch, jax.random.key(2))
    spoilt, counts = objective.spoil(batch["image"], jax.random.key(2))
    assert list(shown) == ["input", "masked", "output"]
    np.testing.assert_array_equal(shown["masked"], spoilt)
    outside = np.broadcast_to(counts == 0, spoilt.shape)
    np.testing.assert_array_equal(shown["output"][outside], batch["image"][outside])
    again = objective.reconstruct(params, state, batch, jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, shown, again)

"""airbench: whitening, initialization, sizes, and the residual connection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.models.airbench import partial_dirac, whitening_kernel
from imgcls.models.create import create_model


def draw_images(count: int, channels: int = 3) -> np.ndarray:
    """Smooth noise, float32 `[N, 12, 12, C]`: adjacent pixels and channels are correlated."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(count, 14, 14, channels)) + rng.normal(size=(count, 14, 14, 1))
    smooth = noise[:, :-2, :-2] + noise[:, 1:-1, 1:-1] + 0.5 * noise[:, 2:, 2:]
    return np.float32(smooth)


def patches_of(images) -> np.ndarray:
    """All 2x2 patches of images `[N, H, W, C]`, float64 `[M, 2, 2, C]`."""
    height, width = images.shape[1:3]
    places = [(y, x) for y in range(height - 1) for x in range(width - 1)]
    return np.float64(np.concatenate([images[:, y : y + 2, x : x + 2] for y, x in places]))


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_uncorrelated(channels):
    images = draw_images(1200, channels)
    kernel = whitening_kernel(images)
    size = 4 * channels
    assert kernel.shape == (2, 2, channels, 2 * size) and kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel[..., size:], -kernel[..., :size])
    patches = patches_of(images)
    raw = np.corrcoef(patches.reshape(-1, size).T)
    assert np.abs(raw - np.eye(size)).max() > 0.5
    white = np.einsum("nhwc,hwck->nk", patches, kernel[..., :size])
    # Below 1, because 5e-4 is added to the eigenvalues.
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(size), atol=5e-3)
    np.testing.assert_array_equal(whitening_kernel(images), kernel)


def test_whitening_filters_are_sorted_by_variance():
    images = draw_images(600)
    patches = patches_of(images).reshape(-1, 12)
    kernel = np.float64(whitening_kernel(images)[..., :12]).reshape(12, 12)
    # The norm of a filter is the inverse square root of its variance.
    norms = np.linalg.norm(kernel, axis=0)
    assert (np.diff(norms) > 0).all()
    values = np.linalg.svd(patches, compute_uv=False) ** 2 / len(patches)
    np.testing.assert_allclose(norms, 1 / np.sqrt(values + 5e-4), rtol=1e-4)


def test_whitening_kernel_has_no_gradient():
    model, images = create_model("airbench94", 5, widths=(4,), depth=1), draw_images(4)
    variables = model.init(jax.random.key(0), images)
    kernel = model.init_from_data(images)["params"]["whiten"]["kernel"]
    assert kernel.shape == variables["params"]["whiten"]["kernel"].shape
    variables["params"]["whiten"]["kernel"] = kernel

    def loss(params):
        state = {"batch_stats": variables["batch_stats"]}
        logits, _ = model.apply(
            {"params": params, **state}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(logits**2)

    grads = jax.jit(jax.grad(loss))(variables["params"])
    assert not grads["whiten"]["kernel"].any()
    assert grads["whiten"]["bias"].any() and grads["group1"]["conv1"]["kernel"].any()


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 8), (4, 4), (6, 2)])
def test_partial_dirac_copies_its_input(inputs, outputs):
    kernel = partial_dirac(jax.random.key(0), (3, 3, inputs, outputs))
    x = np.random.default_rng(0).normal(size=(2, 5, 7, inputs)).astype(np.float32)
    axes = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=axes)
    copied = min(inputs, outputs)
    np.testing.assert_allclose(y[..., :copied], x[..., :copied], atol=1e-6)
    rest, bound = np.asarray(kernel[..., copied:]), (9 * inputs) ** -0.5
    assert np.abs(rest).max(initial=0) <= bound
    if outputs > inputs:
        assert np.abs(rest).max() > 0.9 * bound


@pytest.mark.parametrize(
    ("name", "parameters", "convolutions"),
    # Counted by hand: whitening, three groups, head.
    [
        (
            "airbench94",
            12 * 24 + 24 + 9 * (24 * 64 + 64**2 + 64 * 256 + 3 * 256**2) + 2560,
            2 * (64 + 256 + 256),
        ),
        (
            "airbench96",
            12 * 24 + 24 + 9 * (24 * 128 + 2 * 128**2 + 128 * 512 + 5 * 512**2) + 5120,
            3 * (128 + 512 + 512),
        ),
    ],
)
def test_parameter_count(name, parameters, convolutions):
    model = create_model(name, 10)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    # Each BatchNorm has a scale and a bias.
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == parameters + 2 * convolutions


def test_residual_connection_of_three_convolutions():
    """With the last two convolutions switched off, groups of three still have an output."""
    model = create_model("airbench96", 5, widths=(8,))
    x = draw_images(2)
    variables = model.init(jax.random.key(0), x)

    def without_last_two(path, leaf):
        dead = any(key.key in ("norm2", "norm3") for key in path) and path[-1].key == "scale"
        return jnp.zeros_like(leaf) if dead else leaf

    dead = jax.tree_util.tree_map_with_path(without_last_two, variables)
    features = model.apply(dead, x, features=True)
    assert (
        np.abs(features).max() > 0.01
        and (features != model.apply(variables, x, features=True)).any()
    )


def test_logits_are_scaled():
    x, options = draw_images(2), {"widths": (4,), "depth": 1}
    model = create_model("airbench94", 5, **options)
    variables = model.init(jax.random.key(0), x)
    one = create_model("airbench94", 5, **options, logit_scale=1.0).apply(variables, x)
    np.testing.assert_allclose(model.apply(variables, x), one / 256, rtol=1e-5)

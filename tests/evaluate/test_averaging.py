"""Logits averaged over views of an image, against a loop over the views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.evaluate.averaging import AveragedViews, logits_over_clips
from imgcls.evaluate.evaluators.classification import Classification
from tests.conftest import make_mesh
from tests.evaluate.evaluators.test_classification import (
    SPLIT,
    digits,
    make_config,
    make_objective,
    normalize,
    variables,
)

__all__ = ["digits", "variables"]


@pytest.fixture(scope="module")
def objective():
    return make_objective(make_config())


def shift(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Shifts an image `[H, W, C]` by up to one pixel, reflecting at the edges."""
    height, width, _ = image.shape
    rows = [abs(y + dy) if y + dy < height else 2 * height - 2 - y - dy for y in range(height)]
    columns = [abs(x + dx) if x + dx < width else 2 * width - 2 - x - dx for x in range(width)]
    return image[rows][:, columns]


# Weights of the shifts; each is applied to the image and its mirror image.
SHIFTS = {
    "flip": {(0, 0): 1.0},
    "flip+translate": {(0, 0): 0.5, (-1, -1): 0.25, (1, 1): 0.25},
}


@pytest.mark.parametrize("tta", SHIFTS)
def test_mean_of_the_views(tta):
    class Linear:
        """Logits that depend on the position of every pixel."""

        task, scores, example_loss = "softmax", jax.nn.softmax, None

        def logits(self, params, model_state, batch):
            return jnp.einsum("bhwc,hwck->bk", batch["image"], params)

    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 5, 2, 3)).astype(np.float32)
    images = rng.normal(size=(6, 4, 5, 2)).astype(np.float32)
    found = AveragedViews(Linear(), tta).logits(weights, {}, {"image": jnp.asarray(images)})
    for logits, image in zip(found, images, strict=True):
        expected = sum(
            weight * np.einsum("hwc,hwck->k", view, weights) / 2
            for (dy, dx), weight in SHIFTS[tta].items()
            for view in (shift(image, dy, dx), shift(image, dy, dx)[:, ::-1])
        )
        np.testing.assert_allclose(logits, expected, atol=1e-5)


class Linear3D:
    """Logits that depend on the position of every voxel."""

    task, scores, example_loss = "softmax", jax.nn.softmax, None

    def logits(self, params, model_state, batch):
        return jnp.einsum("bdhwc,dhwck->bk", batch["image"], params)


def every_rotation(volume: np.ndarray) -> list[np.ndarray]:
    """All views `[D, D, D, C]` that quarter turns about two axes lead to."""
    found = {volume.tobytes(): volume}
    turned = [volume]
    while turned:
        views = [np.rot90(turned[0], axes=axes).copy() for axes in ((0, 1), (1, 2))]
        turned = turned[1:] + [view for view in views if view.tobytes() not in found]
        found |= {view.tobytes(): view for view in views}
    return list(found.values())


def test_mean_of_the_rotations():
    rng = np.random.default_rng(0)
    # In smaller cubes the mirror image of every voxel is a rotation of it.
    weights = rng.normal(size=(6, 6, 6, 2, 4)).astype(np.float32)
    volumes = rng.normal(size=(3, 6, 6, 6, 2)).astype(np.float32)
    logits = jax.jit(AveragedViews(Linear3D(), "rotations24").logits)
    found = logits(weights, {}, {"image": volumes})
    for row, volume in zip(found, volumes, strict=True):
        views = every_rotation(volume)
        assert len(views) == 24
        expected = np.mean([np.einsum("dhwc,dhwck->k", view, weights) for view in views], axis=0)
        np.testing.assert_allclose(row, expected, atol=1e-4)
    # The average is invariant to rotation, but not to mirroring.
    turned = logits(weights, {}, {"image": np.rot90(volumes, axes=(1, 3))})
    np.testing.assert_allclose(turned, found, atol=1e-4)
    assert np.abs(logits(weights, {}, {"image": volumes[:, ::-1]}) - found).max() > 0.1


@pytest.mark.parametrize("shape", [(2, 4, 4, 1), (2, 4, 4, 5, 1)])
def test_rotations_need_cubes(shape):
    views = AveragedViews(Linear3D(), "rotations24")
    with pytest.raises(ConfigError, match=r"takes cubes \[D, D, D, C\], and the examples are \[4"):
        views.logits({}, {}, {"image": jnp.zeros(shape)})


def test_metrics_and_outcomes_use_the_mean(objective, variables, digits):
    images, labels = digits
    params, state = variables[""]

    def logits(images):
        x = normalize(images)
        return np.float64(objective.model.apply({"params": params, **state}, x, train=False))

    expected = (logits(images) + logits(images[:, :, ::-1])) / 2
    config = make_config()
    info = type("Info", (), {"class_names": tuple("0123456789"), "multi_label": False})
    options = dict(split=SPLIT, tta="flip")
    evaluator = Classification(config, objective, make_mesh(data=4), info, **options)
    assert evaluator.protocol.endswith("(1,003), mean of the views flip")
    result = evaluator.run({"": variables[""]})
    assert result["accuracy"] == pytest.approx(np.mean(expected.argmax(1) == labels), abs=1e-6)
    one_view = np.mean(logits(images).argmax(1) == labels)
    assert abs(result["accuracy"] - one_view) > 0.01
    log_p = expected - np.logaddexp.reduce(expected, axis=1, keepdims=True)
    loss = -log_p[np.arange(len(labels)), labels].mean()
    assert result["loss"] == pytest.approx(loss, rel=1e-4)
    found = evaluator.outcomes({"": variables[""]})[""]
    np.testing.assert_allclose(found.logits, expected, atol=1e-3)


def test_unknown_tta(objective):
    with pytest.raises(ConfigError, match="tta='flop': unknown; did you mean 'flip'"):
        AveragedViews(objective, "flop")


@pytest.mark.parametrize(("task", "classes"), [("softmax", 5), ("multi_label", 5), ("binary", 1)])
def test_scores_of_10x3_views_equal_a_loop_over_single_views(task, classes):
    """One row for each video, whose probabilities are the mean of those of its 30 views."""

    class Clips:
        example_loss = None

        def __init__(self):
            self.task = task
            self.scores = jax.nn.softmax if task == "softmax" else jax.nn.sigmoid

        def logits(self, params, model_state, batch):
            return jnp.einsum("bthwc,thwck->bk", batch["image"], params)

    rng = np.random.default_rng(1)
    weights = rng.normal(size=(2, 3, 4, 1, classes)).astype(np.float32)
    views = rng.normal(size=(6, 30, 2, 3, 4, 1)).astype(np.float32)
    logits = logits_over_clips(Clips(), weights, {}, {"image": jnp.asarray(views)})
    assert logits.shape == (6, classes)
    for found, video in zip(Clips().scores(logits), views, strict=True):
        expected = np.zeros(classes)
        for view in video:
            single = np.einsum("thwc,thwck->k", view, weights).astype(np.float64)
            if task == "softmax":
                expected += np.exp(single) / np.exp(single).sum() / 30
            else:
                expected += 1 / (1 + np.exp(-single)) / 30
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

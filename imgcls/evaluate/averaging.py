"""Test-time augmentation: logits averaged over views of each image."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.data.transforms.volume import CUBE_ROTATIONS
from imgcls.objectives.objective import Classifies

TTA = ("flip", "flip+translate", "rotations24")


def over_clips(fn: Callable[..., jax.Array], params, model_state, batch, *args) -> jax.Array:
    """The outputs of a function `[B, ...]`; of several clips of a video the mean over these.

    Args:
      fn: function `(params, model_state, batch, *args) -> [B, ...]`, such as `objective.logits`.
      params, model_state: variables of the model.
      batch: batch whose `image` is `[B, ..., C]`, or `[B, V, T, H, W, C]` of V clips of each video,
        see `sample_frames(clips=V)`.
      args: other arguments.
    """
    image = batch["image"]
    if image.ndim != 6:
        return fn(params, model_state, batch, *args)

    # A loop, so that the model is compiled once, and one clip of each video is in memory at a time.
    def one(clip: jax.Array) -> jax.Array:
        return fn(params, model_state, {**batch, "image": clip}, *args)

    return jnp.mean(jax.lax.map(one, jnp.moveaxis(image, 1, 0)), axis=0)


def logits_over_clips(objective: Classifies, params, model_state, batch) -> jax.Array:
    """Logits `[B, K]`; of several clips of a video those of the mean of their probabilities.

    The mean of the softmax is the usual score of a video (Wang et al. 2017, arXiv:1711.07971,
    section 4.1). Its logarithm has that mean as its softmax; without a softmax, the log-odds of the
    mean have it as their sigmoid.

    Args:
      objective: objective with logits.
      params, model_state, batch: see `over_clips`.
    """
    if batch["image"].ndim != 6:
        return objective.logits(params, model_state, batch)

    def one(clip: jax.Array) -> jax.Array:
        return objective.logits(params, model_state, {**batch, "image": clip})

    logits = jax.lax.map(one, jnp.moveaxis(batch["image"], 1, 0))
    count = jnp.log(len(logits))
    if objective.task == "softmax":
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - count
    yes, no = (jax.nn.logsumexp(jax.nn.log_sigmoid(sign * logits), axis=0) for sign in (1, -1))
    return yes - no


class AveragedViews:
    """An objective whose logits are averaged over views of each image.

    Args:
      objective: objective with logits.
      tta: 'flip' averages over the image and its mirror image. 'flip+translate' gives these half of
        the weight, and the other half to the image shifted by one pixel up and left and by one
        pixel down and right, each with its mirror image (Jordan 2024, arXiv:2404.00498, section
        3.5). 'rotations24' averages over the rotations of a cube, for volumes: all have the same
        weight, and none is a mirror image.

    Raises:
      ConfigError: another value; or, from `logits`, 'rotations24' without cubes.
    """

    def __init__(self, objective: Classifies, tta: str):
        check_choice("tta", tta, TTA)
        self.task, self.scores = objective.task, objective.scores
        self.example_loss = objective.example_loss
        self._logits, self._tta = objective.logits, tta

    def logits(self, params, model_state, batch) -> jax.Array:
        """Returns float32 logits `[B, K]`."""

        def one(image) -> jax.Array:
            return self._logits(params, model_state, {**batch, "image": image})

        def both(image) -> jax.Array:
            return (one(image) + one(jnp.flip(image, -2))) / 2

        image = batch["image"]
        if self._tta == "rotations24":
            return _mean_over_rotations(one, image)
        if self._tta == "flip":
            return both(image)
        height, width = image.shape[-3:-1]
        pads = [(0, 0)] * (image.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
        padded = jnp.pad(image, pads, mode="reflect")
        first, second = (padded[..., i : i + height, i : i + width, :] for i in (0, 2))
        return both(image) / 2 + (both(first) + both(second)) / 4


def _mean_over_rotations(logits: Callable[[jax.Array], jax.Array], image: jax.Array) -> jax.Array:
    """Mean of the logits of `[B, D, D, D, C]`, turned by each rotation of a cube in turn."""
    if image.ndim != 5 or len(set(image.shape[1:4])) > 1:
        raise ConfigError(
            "tta='rotations24': takes cubes [D, D, D, C], and the examples are "
            f"{list(image.shape[1:])}; let data.eval_transform end in resize3d or center_crop3d"
        )

    def turn(order, signs, x):
        x = jnp.transpose(x, (0, *(1 + axis for axis in order), 4))
        return jnp.flip(x, [1 + axis for axis in range(3) if signs[axis] < 0])

    turns = [functools.partial(turn, *rotation) for rotation in CUBE_ROTATIONS]

    # A loop, so that the model is compiled once, and one view is in memory at a time.
    def add(index, total):
        return total + logits(jax.lax.switch(index, turns, image))

    total = jax.lax.fori_loop(1, len(turns), add, logits(image))
    return total / len(turns)

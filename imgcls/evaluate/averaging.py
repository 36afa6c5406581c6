"""Test-time augmentation: logits averaged over views of each image."""

import jax
import jax.numpy as jnp

from imgcls.core.config import check_choice
from imgcls.objectives.objective import Classifies

TTA = ("flip", "flip+translate")


class AveragedViews:
    """An objective whose logits are averaged over views of each image.

    Args:
      objective: objective with logits.
      tta: 'flip' averages over the image and its mirror image. 'flip+translate' gives these half of
        the weight, and the other half to the image shifted by one pixel up and left and by one
        pixel down and right, each with its mirror image (Jordan 2024, arXiv:2404.00498, section
        3.5).
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
        if self._tta == "flip":
            return both(image)
        height, width = image.shape[-3:-1]
        pads = [(0, 0)] * (image.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
        padded = jnp.pad(image, pads, mode="reflect")
        first, second = (padded[..., i : i + height, i : i + width, :] for i in (0, 2))
        return both(image) / 2 + (both(first) + both(second)) / 4

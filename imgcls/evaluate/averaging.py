"""Test-time augmentation: a classifier's answer as the mean over views of a picture."""

import jax
import jax.numpy as jnp

from imgcls.core.config import check_choice
from imgcls.objectives.objective import Classifies

TTA = ("flip", "flip+translate")


class AveragedViews:
    """An objective's answers, whose logits are the mean over views.

    Args:
      objective: has `logits`.
      tta: 'flip' averages a picture and its mirror image; 'flip+translate' gives these one half of
        the weight, and the other to both of the picture moved by a pixel up and left, and down and
        right (Jordan 2024, arXiv:2404.00498, section 3.5).
    """

    def __init__(self, objective: Classifies, tta: str):
        check_choice("tta", tta, TTA)
        self.task, self.scores = objective.task, objective.scores
        self.example_loss = objective.example_loss
        self._logits, self._tta = objective.logits, tta

    def logits(self, params, model_state, batch) -> jax.Array:
        """Float32 logits `[B, K]`."""

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

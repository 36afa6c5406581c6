"""Inpainting: reconstructs a square cut out of an image, or a cube cut out of a volume."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.objectives.autoencoder import Reconstruction
from imgcls.objectives.objective import register_objective


@register_objective("inpaint")
class Inpaint(Reconstruction):
    """Context encoder (Pathak et al. 2016, arXiv:1604.07379) with the L2 loss alone (equation 1).

    The square, of volumes a cube, is filled with 0, the mean color. The loss is over its pixels.

    Args:
      config, data_info: see `Pretraining`.
      region: position of the square, 'center' or 'random'.
      fraction: side of the square as a fraction of the image's side (one half in the paper).
      width: channels of the decoder, see `ConvDecoder`.
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; or an option is out of range.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        region: str = "center",
        fraction: float = 0.5,
        width: int = 256,
        probe: bool = False,
    ):
        super().__init__(config, data_info, width, probe)
        check_choice("objective.region", region, ("center", "random"))
        if not 0 < fraction <= 1:
            raise ConfigError(
                f"config.objective.fraction={fraction}: must be above 0 and at most 1"
            )
        self._region, self._fraction = region, fraction

    def corrupt(self, image: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `Reconstruction.corrupt`; the mask is 1 in the square that is cut out."""
        batch, *size, _ = image.shape
        inside = jnp.ones((batch, *[1] * len(size), 1), jnp.float32)
        for axis, length in enumerate(size):
            side = max(round(length * self._fraction), 1)
            first = jnp.full((batch, 1), (length - side) // 2)
            if self._region == "random":
                axis_rng = jax.random.fold_in(rng, axis)
                first = jax.random.randint(axis_rng, (batch, 1), 0, length - side + 1)
            index = jnp.arange(length)
            hit = ((index >= first) & (index < first + side)).astype(jnp.float32)
            others = [1 + other for other in range(len(size) + 1) if other != axis]
            inside *= jnp.expand_dims(hit, others)
        return image * (1 - inside), inside

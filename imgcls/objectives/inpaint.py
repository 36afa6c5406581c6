"""Inpainting: a square is cut out of the picture and filled in."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.objectives.autoencoder import Reconstruction
from imgcls.objectives.objective import register_objective


@register_objective("inpaint")
class Inpaint(Reconstruction):
    """Context encoder (Pathak et al. 2016, arXiv:1604.07379), with its L2 loss (equation 1) alone.

    The square is filled with 0, the mean colour; the loss is of its pixels.

    Args:
      config, data_info: see `Pretraining`.
      region: 'center' or 'random' place of the square.
      fraction: of the square's side to the picture's (one half in the paper).
      width: of the decoder, see `ConvDecoder`.
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; or an option out of range.
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
            raise ConfigError(f"config.objective.fraction={fraction}: must be above 0, up to 1")
        self._region, self._fraction = region, fraction

    def spoil(self, image: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Cuts the square out; its pixels count."""
        batch, *size, _ = image.shape
        inside = jnp.ones((batch, 1, 1, 1), jnp.float32)
        for axis, length in enumerate(size):
            side = max(round(length * self._fraction), 1)
            first = jnp.full((batch, 1), (length - side) // 2)
            if self._region == "random":
                axis_rng = jax.random.fold_in(rng, axis)
                first = jax.random.randint(axis_rng, (batch, 1), 0, length - side + 1)
            at = jnp.arange(length)
            hit = ((at >= first) & (at < first + side)).astype(jnp.float32)
            inside *= hit[:, :, None, None] if axis == 0 else hit[:, None, :, None]
        return image * (1 - inside), inside

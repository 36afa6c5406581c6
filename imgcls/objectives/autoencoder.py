"""Base of objectives that reconstruct an image or volume from the backbone's features."""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.models.layers.norm import batch_norm_group
from imgcls.objectives.heads import ConvDecoder
from imgcls.objectives.pretraining import Pretraining


class Autoencoder(nn.Module):
    """A backbone and a decoder of its features.

    Attributes:
      backbone: registered model.
      decoder: maps features `[B, D]` to images.
    """

    backbone: nn.Module
    decoder: nn.Module

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """x `[B, ..., C]` -> features `[B, D]` and images `[B, ..., C]`; float32."""
        features = self.backbone(x, train=train, features=True)
        return features, self.decoder(features, train=train)


class Reconstruction(Pretraining):
    """Corrupts an image or volume and reconstructs it; a subclass defines `corrupt`.

    The decoder sees the corrupted image only through the backbone's features.

    Args:
      config, data_info: see `Pretraining`.
      width: channels of the decoder, see `ConvDecoder`.
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`.
    """

    def __init__(self, config: ConfigDict, data_info, width: int, probe: bool):
        super().__init__(config, data_info, probe)
        group = batch_norm_group(self.model)
        shape = tuple(data_info.image_shape)
        self.network = Autoencoder(self.model, ConvDecoder(shape, width, group, self.model.dtype))

    def corrupt(self, image: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Corrupts images.

        Args:
          image: float `[B, ..., C]`, normalized.
          rng: random key.

        Returns:
          (corrupted images `[B, ..., C]`, mask `[B, ..., 1]`: 1 for pixels in the loss).
        """
        raise NotImplementedError

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Mean squared error over the pixels in the mask; normalized pixels have variance 1."""
        corrupt_rng, model_rng = jax.random.split(rng)
        corrupted, mask = self.corrupt(batch["image"], corrupt_rng)
        (features, output), state = self.apply(params, model_state, corrupted, rng=model_rng)
        loss = losses.mse(output * mask, batch["image"] * mask)
        return jnp.mean(loss) / jnp.mean(mask), features, state, {}

    def reconstruct(self, params, model_state, batch, rng) -> dict[str, jax.Array]:
        """Images `[B, ..., C]` in evaluation mode: "input", "masked" (corrupted), "output".

        Outside the mask the output is the input.
        """
        corrupted, mask = self.corrupt(batch["image"], rng)
        variables = {"params": params, **model_state}
        _, decoded = cast(tuple, self.network.apply(variables, corrupted, train=False))
        output = decoded * mask + batch["image"] * (1 - mask)
        return {"input": batch["image"], "masked": corrupted, "output": output}

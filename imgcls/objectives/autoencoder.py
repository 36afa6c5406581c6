"""What objectives share that draw the whole picture from the backbone's features."""

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
      backbone: a model of the registry.
      decoder: of its features.
    """

    backbone: nn.Module
    decoder: nn.Module

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """x `[B, H, W, C]` -> features `[B, D]` and a picture `[B, H, W, C]`; float32."""
        features = self.backbone(x, train=train, features=True)
        return features, self.decoder(features, train=train)


class Reconstruction(Pretraining):
    """Spoils a picture and draws it anew; a subclass says how it is spoilt and what counts.

    The features are the only way from the picture to the decoder.
    """

    def __init__(self, config: ConfigDict, data_info, width: int, probe: bool):
        super().__init__(config, data_info, probe)
        group = batch_norm_group(self.model)
        shape = tuple(data_info.image_shape)
        self.network = Autoencoder(self.model, ConvDecoder(shape, width, group, self.model.dtype))

    def spoil(self, image: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(spoilt pictures `[B, H, W, C]`, where they count `[B, H, W, 1]`)."""
        raise NotImplementedError

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Mean squared error over the pixels that count; normalised pixels have variance 1."""
        spoil_rng, model_rng = jax.random.split(rng)
        spoilt, counts = self.spoil(batch["image"], spoil_rng)
        (features, drawn), state = self.apply(params, model_state, spoilt, rng=model_rng)
        loss = losses.mse(drawn * counts, batch["image"] * counts)
        return jnp.mean(loss) / jnp.mean(counts), features, state, {}

    def reconstruct(self, params, model_state, batch, rng) -> dict[str, jax.Array]:
        """Pictures `[B, H, W, C]`: input, spoilt and drawn, in evaluation mode."""
        spoilt, counts = self.spoil(batch["image"], rng)
        variables = {"params": params, **model_state}
        output = self.network.apply(variables, spoilt, train=False)
        drawn = cast(jax.Array, output[1]) * counts + batch["image"] * (1 - counts)
        return {"input": batch["image"], "masked": spoilt, "output": drawn}

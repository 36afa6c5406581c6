"""Masked autoencoder: most patches are hidden, and drawn from the few that are seen."""

from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.core.errors import ConfigError
from imgcls.models.vit import ViT
from imgcls.objectives.heads import PatchDecoder
from imgcls.objectives.objective import register_objective
from imgcls.objectives.pretraining import Pretraining


class MaskedAutoencoder(nn.Module):
    """A ViT that encodes the visible patches, and a decoder that draws all.

    Attributes:
      backbone: a ViT.
      decoder: of its tokens.
    """

    backbone: nn.Module
    decoder: nn.Module

    def __call__(self, x, keep, restore, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Pictures `[B, H, W, C]` -> tokens `[B, prefix + n, D]`, patches `[B, N, P]`; float32.

        Args:
          x: the pictures.
          keep: int `[B, n]`, the visible patches.
          restore: int `[B, N]`, see `PatchDecoder`.
          train: whether it trains.
        """
        tokens = self.backbone(x, train=train, keep=keep)
        return tokens, self.decoder(tokens, restore, train=train)


@register_objective("mae")
class MAE(Pretraining):
    """MAE (He et al. 2021, arXiv:2111.06377). The backbone is a ViT.

    Args:
      config, data_info: see `Pretraining`.
      mask_ratio: share of the patches that are hidden (0.75, section 4.1).
      decoder_width: channels (512, table 1).
      decoder_depth: blocks (8).
      decoder_heads: attention heads (16).
      normalize: whether the target is each patch normalised by its own mean and variance.
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; no ViT, or an option out of range.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        mask_ratio: float = 0.75,
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        normalize: bool = True,
        probe: bool = False,
    ):
        super().__init__(config, data_info, probe)
        if not isinstance(self.model, ViT):
            raise ConfigError(
                f"config.model.name={config.model.name!r}: mae hides patches of a ViT; write for "
                "example 'vit_b16'"
            )
        if decoder_width % decoder_heads:
            raise ConfigError(
                f"config.objective: decoder_heads: {decoder_heads} heads do not divide "
                f"{decoder_width} channels (decoder_width)"
            )
        side = self.model.patch_size
        height, width, channels = data_info.image_shape
        self._grid = height // side, width // side
        self._patches = self._grid[0] * self._grid[1]
        self._visible = round(self._patches * (1 - mask_ratio))
        if not 0 < self._visible < self._patches:
            raise ConfigError(
                f"config.objective.mask_ratio={mask_ratio}: leaves {self._visible} of "
                f"{self._patches} patches visible; choose between"
            )
        self._normalize = normalize
        decoder = PatchDecoder(
            self._grid,
            self.model.prefix_tokens,
            side * side * channels,
            decoder_width,
            decoder_depth,
            decoder_heads,
            self.model.dtype,
        )
        self.network = MaskedAutoencoder(self.model, decoder)

    def init_network(self, rng: jax.Array, image: jax.Array) -> Mapping[str, Any]:
        """Fresh variables of the network; `image` is `[1, H, W, C]`."""
        keep, restore = self.draw_mask(rng, 1)
        return self.network.init({"params": rng}, image, keep, restore, train=False)

    def draw_mask(self, rng: jax.Array, batch: int) -> tuple[jax.Array, jax.Array]:
        """Random (visible patches `[B, n]`, places of all `[B, N]`, see `PatchDecoder`)."""
        order = jnp.argsort(jax.random.uniform(rng, (batch, self._patches)), axis=1)
        return order[:, : self._visible], jnp.argsort(order, axis=1)

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Mean squared error of the hidden patches (section 3); features are of the visible."""
        mask_rng, model_rng = jax.random.split(rng)
        keep, restore = self.draw_mask(mask_rng, len(batch["image"]))
        args = (batch["image"], keep, restore)
        (tokens, drawn), state = self.apply(params, model_state, *args, rng=model_rng)
        patches = to_patches(batch["image"], self.model.patch_size)
        hidden = (restore >= self._visible).astype(jnp.float32)
        loss = losses.masked_patch_mse(drawn, patches, hidden, self._normalize)
        # As the model reads its features: the class token or the mean.
        features = tokens[:, 0] if self.model.pool == "cls" else jnp.mean(tokens, axis=1)
        return jnp.mean(loss), features, state, {}

    def reconstruct(self, params, model_state, batch, rng) -> dict[str, jax.Array]:
        """Pictures `[B, H, W, C]`: input, without the hidden patches, and with these drawn.

        Where the targets were normalised the drawn patches get their true mean and variance back.
        """
        image, side = batch["image"], self.model.patch_size
        keep, restore = self.draw_mask(rng, len(image))
        variables = {"params": params, **model_state}
        output = self.network.apply(variables, image, keep, restore, train=False)
        drawn = cast(jax.Array, output[1])
        patches = to_patches(image, side)
        if self._normalize:
            mean = jnp.mean(patches, axis=-1, keepdims=True)
            drawn = drawn * jnp.std(patches, axis=-1, keepdims=True, ddof=1) + mean
        hidden = (restore >= self._visible)[:, :, None]
        shape = image.shape
        masked = from_patches(jnp.where(hidden, 0.0, patches), side, shape)
        output = from_patches(jnp.where(hidden, drawn, patches), side, shape)
        return {"input": image, "masked": masked, "output": output}


def to_patches(x: jax.Array, side: int) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H / side * W / side, side * side * C]`, row by row."""
    return rearrange(x, "b (rows h) (columns w) c -> b (rows columns) (h w c)", h=side, w=side)


def from_patches(patches: jax.Array, side: int, shape: tuple[int, ...]) -> jax.Array:
    """The inverse of `to_patches` for pictures of that shape."""
    pattern = "b (rows columns) (h w c) -> b (rows h) (columns w) c"
    return rearrange(patches, pattern, rows=shape[1] // side, h=side, w=side)

"""Masked autoencoder: reconstructs masked patches from the visible ones.

He et al. 2021, arXiv:2111.06377, of images. Of clips, with tubes: VideoMAE, Tong et al. 2022,
arXiv:2203.12602.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.models.vit import ViT
from imgcls.objectives.heads import PatchDecoder
from imgcls.objectives.objective import register_objective
from imgcls.objectives.patches import from_patches, to_patches
from imgcls.objectives.pretraining import Pretraining

MASKS = ("random", "tube")


class MaskedAutoencoder(nn.Module):
    """A ViT that encodes the visible patches, and a decoder of all patches.

    Attributes:
      backbone: ViT.
      decoder: maps the ViT's tokens to patches, see `PatchDecoder`.
    """

    backbone: nn.Module
    decoder: nn.Module

    def __call__(self, x, keep, restore, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """`[B, ..., C]` -> tokens `[B, prefix + n, D]`, patches `[B, N, P]`; float32.

        Args:
          x: images or volumes.
          keep: int `[B, n]`, indices of the visible patches.
          restore: int `[B, N]`, see `PatchDecoder`.
          train: whether the network runs in training mode.
        """
        tokens = self.backbone(x, train=train, keep=keep)
        return tokens, self.decoder(tokens, restore, train=train)


@register_objective("mae")
class MAE(Pretraining):
    """MAE (He et al. 2021, arXiv:2111.06377). The backbone is a ViT.

    Args:
      config, data_info: see `Pretraining`.
      mask_ratio: fraction of masked patches (0.75, section 4.1; 0.9 of clips, VideoMAE).
      mask: 'random', or 'tube': the same places in all frames, so that no patch is visible a moment
        before or after (VideoMAE, section 3.3).
      decoder_width: channels of the decoder (512, table 1).
      decoder_depth: number of decoder blocks (8, table 1).
      decoder_heads: attention heads of the decoder (16).
      normalize: whether target patches are normalized by their mean and variance (table 1).
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; the model is not a ViT, or an option is out of range.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        mask_ratio: float = 0.75,
        mask: str = "random",
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        normalize: bool = True,
        probe: bool = False,
    ):
        super().__init__(config, data_info, probe)
        example = "'vit_b16'" if len(data_info.image_shape) == 3 else "'vit3d_b16'"
        if not isinstance(self.model, ViT) or not self.model.keeps_patches:
            raise ConfigError(
                f"config.model.name={config.model.name!r}: mae needs a ViT; write for example "
                f"{example}"
            )
        check_choice("objective.mask", mask, MASKS)
        if decoder_width % decoder_heads:
            raise ConfigError(
                f"config.objective.decoder_heads={decoder_heads}: does not divide "
                f"decoder_width={decoder_width}"
            )
        *lengths, channels = data_info.image_shape
        if len(lengths) != self.model.spatial_axes:
            raise ConfigError(
                f"config.model.name={config.model.name!r}: the examples of {config.data.source} "
                f"are {list(data_info.image_shape)}; write a ViT of as many axes, such as {example}"
            )
        self._sides = self.model.patch_sides
        grid = tuple(length // side for length, side in zip(lengths, self._sides, strict=True))
        if mask == "tube" and len(grid) == 2:
            raise ConfigError("config.objective.mask='tube': is for clips; write 'random'")
        # Masks are drawn for the places of a part of the patches, and are the same in all parts.
        self._parts = grid[0] if mask == "tube" else 1
        self._places = math.prod(grid) // self._parts
        kept = round(self._places * (1 - mask_ratio))
        if not 0 < kept < self._places:
            raise ConfigError(
                f"config.objective.mask_ratio={mask_ratio}: leaves {kept} of {self._places} "
                "patches visible; use a ratio that masks some patches, not all"
            )
        self._visible = kept * self._parts
        self._normalize = normalize
        decoder = PatchDecoder(
            grid,
            self.model.prefix_tokens,
            math.prod(self._sides) * channels,
            decoder_width,
            decoder_depth,
            decoder_heads,
            self.model.dtype,
        )
        self.network = MaskedAutoencoder(self.model, decoder)

    def init_network(self, rng: jax.Array, image: jax.Array) -> Mapping[str, Any]:
        """Initial variables of the network from an image `[1, ..., C]`."""
        keep, restore = self.draw_mask(rng, 1)
        return self.network.init({"params": rng}, image, keep, restore, train=False)

    def draw_mask(self, rng: jax.Array, batch: int) -> tuple[jax.Array, jax.Array]:
        """Random `keep` int `[B, n]` and `restore` int `[B, N]`, see `MaskedAutoencoder`."""
        order = jnp.argsort(jax.random.uniform(rng, (batch, self._places)), axis=1)
        rank = jnp.argsort(order, axis=1)[:, None]
        kept, part = self._visible // self._parts, jnp.arange(self._parts)[:, None]
        keep = order[:, None, :kept] + part * self._places
        hidden = self._visible + part * (self._places - kept) + rank - kept
        restore = jnp.where(rank < kept, part * kept + rank, hidden)
        return keep.reshape(batch, -1), restore.reshape(batch, -1)

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Mean squared error of the masked patches (section 3); features of the visible ones."""
        mask_rng, model_rng = jax.random.split(rng)
        keep, restore = self.draw_mask(mask_rng, len(batch["image"]))
        args = (batch["image"], keep, restore)
        (tokens, decoded), state = self.apply(params, model_state, *args, rng=model_rng)
        patches = to_patches(batch["image"], self._sides)
        masked = (restore >= self._visible).astype(jnp.float32)
        loss = losses.masked_patch_mse(decoded, patches, masked, self._normalize)
        # As in `ViT`: the class token or the mean.
        patches = tokens[:, self.model.prefix_tokens :]
        features = tokens[:, 0] if self.model.pool == "cls" else jnp.mean(patches, axis=1)
        return jnp.mean(loss), features, state, {}

    def reconstruct(self, params, model_state, batch, rng) -> dict[str, jax.Array]:
        """Images `[B, ..., C]` in evaluation mode: "input", "masked" and "output".

        In the output, masked patches are decoded and visible ones copied from the input. If the
        targets are normalized, decoded patches get the mean and variance of the input back.
        """
        image = batch["image"]
        keep, restore = self.draw_mask(rng, len(image))
        variables = {"params": params, **model_state}
        _, decoded = cast(tuple, self.network.apply(variables, image, keep, restore, train=False))
        patches = to_patches(image, self._sides)
        if self._normalize:
            mean = jnp.mean(patches, axis=-1, keepdims=True)
            decoded = decoded * jnp.std(patches, axis=-1, keepdims=True, ddof=1) + mean
        is_masked = (restore >= self._visible)[:, :, None]
        shape = image.shape
        masked = from_patches(jnp.where(is_masked, 0.0, patches), self._sides, shape)
        output = from_patches(jnp.where(is_masked, decoded, patches), self._sides, shape)
        return {"input": image, "masked": masked, "output": output}

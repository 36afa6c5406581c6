"""Heads on a backbone: projectors, and decoders that reconstruct images and volumes."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.conv import conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.layers.operations import LayerNorm
from imgcls.models.layers.positions import sincos_positions
from imgcls.models.layers.transformer import Block


class Projector(nn.Module):
    """MLP: `layers - 1` times dense, BatchNorm, ReLU; then a dense layer. Computed in float32.

    Attributes:
      hidden: width of all layers but the last.
      features: width of the last layer.
      layers: number of dense layers; 1 is a linear map.
      last_norm: whether BatchNorm follows the last layer (SimCLR's code) or not (BYOL).
      virtual_batch_size: see `BatchNorm`.
    """

    hidden: int
    features: int
    layers: int = 2
    last_norm: bool = False
    virtual_batch_size: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, D]` -> `[B, features]`."""
        for index in range(self.layers - 1):
            x = nn.Dense(self.hidden, use_bias=False, name=f"fc{index}")(x)
            x = nn.relu(BatchNorm(self.virtual_batch_size, name=f"bn{index}")(x, train=train))
        last = self.layers - 1
        x = nn.Dense(self.features, use_bias=not self.last_norm, name=f"fc{last}")(x)
        if self.last_norm:
            x = BatchNorm(self.virtual_batch_size, name=f"bn{last}")(x, train=train)
        return x


class ConvDecoder(nn.Module):
    """Decodes features to an image or volume: a dense layer to a small map, then upsampling by two.

    After the decoder of context encoders (Pathak et al. 2016, arXiv:1604.07379, section 3.2). Each
    up-convolution is nearest-neighbor upsampling and a 3x3 convolution, which avoids checkerboard
    artifacts (Odena et al. 2016, https://distill.pub/2016/deconv-checkerboard).

    Attributes:
      shape: (H, W, C) of the image, or (D, H, W, C).
      width: channels of the smallest map; each upsampling halves them, down to 32.
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    shape: tuple[int, ...]
    width: int = 256
    virtual_batch_size: int | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, D]` -> float32 `[B, *shape]`."""
        *sides, channels = self.shape
        axes = len(sides)
        # The smallest map has at most 7x7 pixels, like 224 / 2^5, or 4x4x4 voxels.
        largest, doublings = 7 if axes == 2 else 4, 0
        while max(sides) > largest * 2**doublings:
            doublings += 1
        small = [-(-side // 2**doublings) for side in sides]
        x = nn.Dense(math.prod(small) * self.width, dtype=self.dtype, name="fc")(x)
        x = x.reshape(-1, *small, self.width)
        for index in range(doublings + 1):
            if index:
                x = _double(x)
            maps = max(self.width // 2**index, 32)
            x = conv(maps, 3, axes=axes, dtype=self.dtype, name=f"conv{index}")(x)
            norm = BatchNorm(self.virtual_batch_size, dtype=self.dtype, name=f"bn{index}")
            x = nn.relu(norm(x, train=train))
        # Scaled by the fan-in: he_normal (fan-out) suits a following BatchNorm, and here would
        # make the outputs far too large.
        init = {"use_bias": True, "kernel_init": nn.initializers.lecun_normal()}
        x = conv(channels, 3, axes=axes, **init, dtype=self.dtype, name="out")(x)
        return x[:, *(slice(side) for side in sides)].astype(jnp.float32)


def _double(x: jax.Array) -> jax.Array:
    """Repeats each pixel of `[B, ..., C]` along every spatial axis."""
    batch, *sides, channels = x.shape
    x = jnp.expand_dims(x, range(2, 2 * len(sides) + 1, 2))
    x = jnp.broadcast_to(x, (batch, *(n for side in sides for n in (side, 2)), channels))
    return x.reshape(batch, *(2 * side for side in sides), channels)


class PatchDecoder(nn.Module):
    """Decodes all patches from the visible ones with a small ViT.

    He et al. 2021 (MAE, arXiv:2111.06377), section 3, "MAE decoder".

    Attributes:
      grid: number of patches along each axis of the image or volume.
      prefix: number of tokens before the patch tokens, such as a class token.
      outputs: values per patch.
      width: channels of a token.
      depth: number of blocks.
      num_heads: attention heads.
      dtype: of the computation.
    """

    grid: tuple[int, ...]
    prefix: int
    outputs: int
    width: int
    depth: int
    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, tokens: jax.Array, restore: jax.Array, *, train: bool) -> jax.Array:
        """Decodes patches.

        Args:
          tokens: `[B, prefix + n, D]`, the prefix tokens, then the tokens of n visible patches.
          restore: int `[B, N]`, for each place in the image the index of its patch in the list of
            n visible patches followed by N - n masked patches.
          train: whether the blocks run in training mode; there is no dropout.

        Returns:
          float32 `[B, N, outputs]`.
        """
        x = nn.Dense(self.width, dtype=self.dtype, name="embed")(tokens)
        prefix, x = x[:, : self.prefix], x[:, self.prefix :]
        hidden = self.param("mask_token", nn.initializers.normal(0.02), (1, 1, self.width))
        shape = (x.shape[0], math.prod(self.grid) - x.shape[1], self.width)
        hidden = jnp.broadcast_to(hidden.astype(self.dtype), shape)
        x = jnp.concatenate([x, hidden], axis=1)
        x = jnp.take_along_axis(x, restore[:, :, None], axis=1)
        x = x + jnp.asarray(sincos_positions(self.grid, self.width), self.dtype)
        x = jnp.concatenate([prefix, x], axis=1)
        for index in range(self.depth):
            block = Block(
                self.num_heads, 4 * self.width, 0.0, 0.0, None, self.dtype, name=f"block{index}"
            )
            x = block(x, train)
        x = LayerNorm(dtype=self.dtype, name="norm")(x, train=train)
        x = nn.Dense(self.outputs, dtype=self.dtype, name="out")(x)
        return x[:, self.prefix :].astype(jnp.float32)

"""What objectives put on a backbone: projectors, and decoders that draw pictures."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from imgcls.models.layers.conv import conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.layers.operations import LayerNorm
from imgcls.models.layers.positions import sincos2d
from imgcls.models.vit import Block


class Projector(nn.Module):
    """MLP `layers - 1` times dense, BatchNorm, ReLU; then a dense layer. Computed in float32.

    Attributes:
      hidden: width of all layers but the last.
      features: width of the last.
      layers: number of dense layers; 1 is a linear map.
      last_norm: whether BatchNorm ends it (SimCLR's own code) or not (BYOL).
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
    """Draws a picture from a vector: a small map that is doubled until it has the picture's size.

    After the decoder of context encoders (Pathak et al. 2016, arXiv:1604.07379, section 3.2), with
    each up-convolution a nearest-neighbour doubling and a 3x3 convolution, which leaves no
    checkerboard (Odena et al. 2016, https://distill.pub/2016/deconv-checkerboard).

    Attributes:
      shape: of the picture, (H, W, C).
      width: channels of the smallest map; each doubling halves them, down to a minimum of 32.
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    shape: tuple[int, int, int]
    width: int = 256
    virtual_batch_size: int | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, D]` -> float32 `[B, H, W, C]`."""
        height, width, channels = self.shape
        doublings = 0
        # The smallest map has at most 7 pixels a side, as 224 / 2^5.
        while max(height, width) > 7 * 2**doublings:
            doublings += 1
        rows, columns = -(-height // 2**doublings), -(-width // 2**doublings)
        x = nn.Dense(rows * columns * self.width, dtype=self.dtype, name="fc")(x)
        x = rearrange(x, "b (h w c) -> b h w c", h=rows, w=columns)
        for index in range(doublings + 1):
            if index:
                x = repeat(x, "b h w c -> b (h 2) (w 2) c")
            maps = max(self.width // 2**index, 32)
            x = conv(maps, 3, dtype=self.dtype, name=f"conv{index}")(x)
            norm = BatchNorm(self.virtual_batch_size, dtype=self.dtype, name=f"bn{index}")
            x = nn.relu(norm(x, train=train))
        # By the fan in: that of the fan out, as before a BatchNorm, would draw far too much.
        init = {"use_bias": True, "kernel_init": nn.initializers.lecun_normal()}
        x = conv(channels, 3, **init, dtype=self.dtype, name="out")(x)
        return x[:, :height, :width].astype(jnp.float32)


class PatchDecoder(nn.Module):
    """Draws all patches from the encoded visible ones: a light ViT (He et al. 2021, MAE, 3).

    Attributes:
      grid: patches of the picture, (rows, columns).
      prefix: tokens before those of the patches, such as a class token.
      outputs: values of a patch.
      width: channels of a token.
      depth: blocks.
      num_heads: attention heads.
      dtype: of the computation.
    """

    grid: tuple[int, int]
    prefix: int
    outputs: int
    width: int
    depth: int
    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, tokens: jax.Array, restore: jax.Array, *, train: bool) -> jax.Array:
        """Patches from tokens.

        Args:
          tokens: `[B, prefix + n, D]`, of the visible patches, behind those that are no patches.
          restore: int `[B, N]`: which of the n visible and then of the N - n hidden patches, each
            in the order of the tokens, comes at each place.
          train: of the dropouts, of which there are none.

        Returns:
          float32 `[B, N, outputs]`.
        """
        rows, columns = self.grid
        x = nn.Dense(self.width, dtype=self.dtype, name="embed")(tokens)
        prefix, x = x[:, : self.prefix], x[:, self.prefix :]
        hidden = self.param("mask_token", nn.initializers.normal(0.02), (1, 1, self.width))
        shape = (x.shape[0], rows * columns - x.shape[1], self.width)
        hidden = jnp.broadcast_to(hidden.astype(self.dtype), shape)
        x = jnp.concatenate([x, hidden], axis=1)
        x = jnp.take_along_axis(x, restore[:, :, None], axis=1)
        x = x + jnp.asarray(sincos2d(rows, columns, self.width), self.dtype)
        x = jnp.concatenate([prefix, x], axis=1)
        for index in range(self.depth):
            block = Block(
                self.num_heads, 4 * self.width, 0.0, 0.0, None, self.dtype, name=f"block{index}"
            )
            x = block(x, train)
        x = LayerNorm(dtype=self.dtype, name="norm")(x, train=train)
        x = nn.Dense(self.outputs, dtype=self.dtype, name="out")(x)
        return x[:, self.prefix :].astype(jnp.float32)

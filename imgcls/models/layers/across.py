"""Pooling of the features of a row of images: slices of a volume, or frames of a clip."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.operations import LayerNorm
from imgcls.models.layers.positions import sincos_positions
from imgcls.models.layers.transformer import Block

_xavier = nn.initializers.xavier_uniform()


class LSTMAcross(nn.Module):
    """The mean of the outputs of a bidirectional LSTM (Hochreiter & Schmidhuber 1997).

    Donahue et al. 2014, arXiv:1411.4389, section 3, and a second LSTM from the last image to the
    first.

    Attributes:
      width: units of each direction.
      depth: number of layers.
    """

    width: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x float32 `[B, T, F]` -> float32 `[B, 2 * width]`; depends on the order."""
        for index in range(self.depth):
            outputs = []
            for name, reverse in (("forward", False), ("backward", True)):
                cell = nn.OptimizedLSTMCell(self.width, name=f"{name}{index}")
                outputs.append(nn.RNN(cell, reverse=reverse, keep_order=True)(x))
            x = jnp.concatenate(outputs, axis=-1)
        return jnp.mean(x, axis=1)


class AttentionAcross(nn.Module):
    """A Transformer over the images, of which the class token is returned.

    Arnab et al. 2021, ViViT, arXiv:2103.15691, section 3.3, model 2. Images have fixed positions,
    so that rows of any length have the same parameters.

    Attributes:
      width: channels of a token.
      depth: number of blocks.
      num_heads: attention heads.
      drop_rate: dropout rate in the blocks.
    """

    width: int
    depth: int
    num_heads: int
    drop_rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x float32 `[B, T, F]` -> float32 `[B, width]`; depends on the order."""
        x = nn.Dense(self.width, kernel_init=_xavier, name="embed")(x)
        x = x + sincos_positions(x.shape[1:2], self.width)
        token = self.param("cls_token", nn.initializers.zeros, (1, 1, self.width), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        for index in range(self.depth):
            block = Block(
                *(self.num_heads, 4 * self.width, self.drop_rate, 0.0, None, jnp.float32),
                name=f"block{index}",
            )
            x = block(x, train)
        return LayerNorm(name="norm")(x, train=train)[:, 0]

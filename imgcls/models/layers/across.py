"""Pooling of the features of a row of images: slices of a volume, or frames of a clip.

Rows of a batch may have been padded to the same number of images. `length`, int `[B]`, is then
the number of images of each row, 1 or more, and no result depends on those after it; None: all are
images.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.operations import LayerNorm
from imgcls.models.layers.positions import sincos_positions
from imgcls.models.layers.transformer import Block

# Cells of `RecurrentAcross`: Hochreiter & Schmidhuber 1997, Cho et al. 2014 (arXiv:1406.1078) with
# the reset gate after the product, and Elman 1990.
CELLS = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "rnn": nn.SimpleCell}
RECURRENT_POOLS = ("last", "mean", "attention")

_xavier = nn.initializers.xavier_uniform()


def mean_across(x: jax.Array, length: jax.Array | None = None) -> jax.Array:
    """Mean of x `[B, T, F]` over the images of each row: `[B, F]`."""
    if length is None:
        return jnp.mean(x, axis=1)
    mask = _mask(x, length)[..., None]
    return jnp.sum(jnp.where(mask, x, 0), axis=1) / jnp.sum(mask, axis=1)


class RecurrentAcross(nn.Module):
    """A recurrent network over the images (Donahue et al. 2014, arXiv:1411.4389, section 3).

    With two directions, each layer has a second cell that goes from the last image to the first
    (Schuster & Paliwal 1997), and the next layer gets the outputs of both.

    Attributes:
      width: units of each direction.
      depth: number of layers.
      cell: one of `CELLS`.
      bidirectional: whether there are two directions.
      pool: what of the outputs of the last layer is returned: "last" (the state of each direction
        after its last image), "mean", or "attention", see `AttentionMean`.
    """

    width: int
    depth: int
    cell: str = "lstm"
    bidirectional: bool = True
    pool: str = "mean"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, length: jax.Array | None = None) -> jax.Array:
        """x float32 `[B, T, F]` -> float32 `[B, width]`, or `[B, 2 * width]` of two directions."""
        del train
        if length is not None:
            length = jnp.clip(length, 1, x.shape[1])
        directions = {"forward": False, "backward": True}
        outputs = []
        for index in range(self.depth):
            outputs = []
            for name in list(directions)[: 1 + self.bidirectional]:
                cell = CELLS[self.cell](self.width, name=f"{name}{index}")
                rnn = nn.RNN(cell, reverse=directions[name], keep_order=True)
                outputs.append(rnn(x, seq_lengths=length))
            x = jnp.concatenate(outputs, axis=-1)
        if self.pool == "last":
            last = x.shape[1] - 1 if length is None else length[:, None, None] - 1
            state = jnp.take_along_axis(outputs[0], jnp.full((len(x), 1, 1), last), axis=1)[:, 0]
            # The other direction ends at the first image.
            return jnp.concatenate([state, *(output[:, 0] for output in outputs[1:])], axis=-1)
        if self.pool == "attention":
            return AttentionMean(self.width, name="pool")(x, length)
        return mean_across(x, length)


class AttentionMean(nn.Module):
    """A mean with learned weights: the softmax of u . tanh(W x + b) over the images.

    Yang et al. 2016, Hierarchical attention networks for document classification, equations 5 to 7.

    Attributes:
      width: rows of W.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, length: jax.Array | None = None) -> jax.Array:
        """x float32 `[B, T, F]` -> float32 `[B, F]`."""
        hidden = nn.tanh(nn.Dense(self.width, kernel_init=_xavier, name="hidden")(x))
        scores = nn.Dense(1, use_bias=False, kernel_init=_xavier, name="score")(hidden)
        mask = None if length is None else _mask(x, length)[..., None]
        return jnp.sum(x * jax.nn.softmax(scores, axis=1, where=mask), axis=1)


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


def _mask(x: jax.Array, length: jax.Array) -> jax.Array:
    """Which of the images of x `[B, T, F]` are no padding: bool `[B, T]`, at least the first."""
    return jnp.arange(x.shape[1]) < jnp.maximum(length, 1)[:, None]

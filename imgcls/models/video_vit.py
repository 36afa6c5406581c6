"""Transformers of clips `[B, T, H, W, C]`: the patches, positions and blocks of `vit.py`, with
attention over the patches of a frame and over time apart.

- TimeSformer: Bertasius et al. 2021, arXiv:2102.05095, section 3 and figure 2, "divided space-time
  attention": every block has both, each with its own weights.
- ViViT: Arnab et al. 2021, arXiv:2103.15691, section 3.3, model 2, "factorised encoder": one
  Transformer over the patches of a frame, and a second one over the frames.

Weights of ViTs of images initialize the blocks of frames, and the positions in a frame. Attention
over time starts as no operation in TimeSformer, so that a clip of equal frames has the logits of
the ViT of images.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from imgcls.core.errors import ConfigError
from imgcls.models.layers.base import tap
from imgcls.models.layers.operations import LayerNorm, dot_general
from imgcls.models.layers.positions import resample_positions
from imgcls.models.layers.transformer import Attention, Block, Mlp
from imgcls.models.registry import ModelEntry, register_model, register_pattern
from imgcls.models.vit import SIZES, ViT

_zeros = nn.initializers.zeros


class ClipViT(ViT, kw_only=True):
    """Base of Transformers of clips whose patches have the positions of an image.

    The attributes are those of `ViT`; there is no distillation token, and no `scan`.
    """

    spatial_axes: ClassVar[int] = 3
    explained_by: ClassVar = "gradient"
    keeps_patches: ClassVar[bool] = False

    @property
    def position_axes(self) -> int:
        """Two: the rows and columns of a frame."""
        return 2

    def embed_clip(self, x: jax.Array, train: bool) -> tuple[jax.Array, tuple[int, int, int]]:
        """Clips `[B, T, H, W, C]` -> tokens of each frame `[B * T', N, D]`, and `(T', H', W')`.

        Raises:
          ConfigError: an option is invalid, or the clip does not divide into patches.
        """
        x = self.check_input(x)
        self._check(x)
        if self.distilled or self.scan:
            option = "distilled" if self.distilled else "scan"
            raise ConfigError(f"model.{option}=True: is for ViTs of images: leave it out")
        x = self._embed_patches(x)
        _, *grid, _ = x.shape
        x = self._embed(rearrange(x, "b t h w d -> (b t) h w d"))
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        if self.pre_norm:
            x = LayerNorm(self.norm_epsilon, self.dtype, name="norm_pre")(x, train=train)
        time, height, width = grid
        return x, (time, height, width)

    def time_positions(self, name: str, length: int, prefix: int, init) -> jax.Array:
        """Learned positions of frames `[1, prefix + length, D]`, resampled for other lengths."""
        shape = (1, prefix + length, self.width)
        if self.has_variable("params", name):
            learned = self.get_variable("params", name)
            if learned.shape != shape:
                return resample_positions(learned, (length,), prefix)
        return self.param(name, init, shape, jnp.float32)

    def classify_features(self, x: jax.Array, features: bool) -> jax.Array:
        """Features `[B, D]` -> logits unless `features`; float32. The head starts as zeros."""
        if features:
            return x
        return nn.Dense(self.num_classes, kernel_init=_zeros, name="head")(x)


class DividedBlock(Block):
    """x + time_proj(time_attention(norm(x))) of the patches at each position, then x +
    attention(norm(x)) in each frame, then x + mlp(norm(x)).

    The tokens before the patches take part in the attention of each frame, and get its mean over
    the frames. The attributes are those of `Block`.
    """

    @nn.compact
    def __call__(self, x: tuple[jax.Array, jax.Array], train: bool) -> tuple[jax.Array, jax.Array]:
        """x: tokens before the patches `[B, P, D]`, and patches `[B, T, N, D]`."""
        prefix, patches = x
        batch, frames, number, width = patches.shape

        def norm(name, x):
            return LayerNorm(self.epsilon, self.dtype, name=name)(x, train=train)

        def attend(name, x):
            return Attention(self.num_heads, self.attention, self.dtype, name=name)(x, train=train)

        branch = norm("time_norm", rearrange(patches, "b t n d -> (b n) t d"))
        branch = attend("time_attn", branch)
        branch = rearrange(branch, "(b n) t d -> b t n d", b=batch)
        branch = self._regularize(branch, "time_ls", train)
        # Zeros: at the start it adds nothing.
        dense = nn.Dense(
            width, kernel_init=_zeros, dtype=self.dtype, dot_general=dot_general, name="time_proj"
        )
        patches = patches + dense(branch)

        rows = jnp.broadcast_to(prefix[:, None], (batch, frames, *prefix.shape[1:]))
        rows = jnp.concatenate([rows, patches], axis=2)
        branch = attend("attn", norm("norm1", rearrange(rows, "b t n d -> (b t) n d")))
        branch = rearrange(branch, "(b t) n d -> b t n d", b=batch)
        branch = self._regularize(branch, "ls1", train)
        before = prefix.shape[1]
        prefix = prefix + jnp.mean(branch[:, :, :before], axis=1)
        patches = patches + branch[:, :, before:]

        tokens = rearrange(patches, "b t n d -> b (t n) d")
        tokens = jnp.concatenate([prefix, tokens], axis=1)
        mlp = Mlp(self.mlp_dim, self.drop_rate, self.dtype, self.activation, name="mlp")
        branch = self._regularize(mlp(norm("norm2", tokens), train=train), "ls2", train)
        tokens = tokens + branch
        patches = rearrange(tokens[:, before:], "b (t n) d -> b t n d", n=number)
        return tokens[:, :before], patches


class TimeSformer(ClipViT, kw_only=True):
    """TimeSformer with divided space-time attention; the attributes are those of `ViT`.

    `pool="gap"` is the mean of the patches of all frames.
    """

    @property
    def patch_sides(self) -> tuple[int, ...]:
        """Sides of a patch along T, H and W."""
        return (1, self.patch_size, self.patch_size)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, T, H, W, C]` -> logits `[B, num_classes]`, or features `[B, width]`; float32.

        Raises:
          ConfigError: an option is invalid, or the patch size does not divide the frames.
        """
        batch = len(x)
        x, (frames, height, width) = self.embed_clip(x, train)
        x = rearrange(x, "(b t) n d -> b t n d", b=batch)
        # The tokens before the patches are the same in each frame.
        prefix, patches = x[:, 0, : self.prefix_tokens], x[:, :, self.prefix_tokens :]
        times = self.time_positions("time_embed", frames, 0, _zeros)
        patches = patches + times[:, :, None].astype(self.dtype)
        patches = nn.Dropout(self.drop_rate, deterministic=not train)(patches)
        tokens = prefix, patches
        for index, rate in enumerate(self._drop_path_rates()):
            if index == self.depth - 1:
                grid = rearrange(tokens[1], "b t (h w) d -> b t h w d", h=height, w=width)
                tokens = tokens[0], tap(self, grid).reshape(tokens[1].shape)
            tokens = self._block(DividedBlock, rate, name=f"block{index}")(tokens, train)
        x = jnp.concatenate([tokens[0], rearrange(tokens[1], "b t n d -> b (t n) d")], axis=1)
        if not self.fc_norm:
            x = LayerNorm(self.norm_epsilon, self.dtype, name="norm")(x, train=train)
        return self.classify_features(self._pool(x.astype(jnp.float32), train), features)


class ViViT(ClipViT, kw_only=True):
    """ViViT with a factorised encoder; the other attributes are those of `ViT`.

    Attributes:
      tubelet: frames of a patch.
      time_depth: blocks of the Transformer over the frames.
    """

    inflated_patches: ClassVar = "center"

    tubelet: int = 2
    time_depth: int = 4

    @property
    def patch_sides(self) -> tuple[int, ...]:
        """Sides of a patch along T, H and W."""
        return (self.tubelet, self.patch_size, self.patch_size)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, T, H, W, C]` -> logits `[B, num_classes]`, or features `[B, width]`; float32.

        Raises:
          ConfigError: an option is invalid, or the tubelets do not divide the clip.
        """
        batch = len(x)
        x, grid = self.embed_clip(x, train)
        for index, rate in enumerate(self._drop_path_rates()):
            if index == self.depth - 1:
                x = self._tap(x, batch, grid)
            x = self._block(Block, rate, name=f"block{index}")(x, train)
        if not self.fc_norm:
            x = LayerNorm(self.norm_epsilon, self.dtype, name="norm")(x, train=train)
        x = self._pool(x.astype(jnp.float32), train).astype(self.dtype)
        x = self._encode_frames(rearrange(x, "(b t) d -> b t d", b=batch), train)
        return self.classify_features(x.astype(jnp.float32), features)

    def _encode_frames(self, x: jax.Array, train: bool) -> jax.Array:
        """Features of frames `[B, T, D]` -> the class token of the clip `[B, D]`."""
        token = self.param("time_cls_token", _zeros, (1, 1, self.width), jnp.float32)
        token = jnp.broadcast_to(token.astype(self.dtype), (len(x), 1, self.width))
        init = nn.initializers.normal(0.02)
        times = self.time_positions("time_pos_embed", x.shape[1], 1, init)
        x = jnp.concatenate([token, x], axis=1) + times.astype(self.dtype)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        for index in range(self.time_depth):
            x = self._block(Block, self.drop_path, name=f"time_block{index}")(x, train)
        return LayerNorm(self.norm_epsilon, self.dtype, name="time_norm")(x, train=train)[:, 0]

    def _tap(self, x: jax.Array, batch: int, grid: tuple[int, int, int]) -> jax.Array:
        """Exposes the patches of x `[B * T, N, D]` as one map, see `tap`."""
        time, height, width = grid
        prefix, patches = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        grid_map = patches.reshape(batch, time, height, width, -1)
        return jnp.concatenate([prefix, tap(self, grid_map).reshape(patches.shape)], axis=1)


@register_pattern(r"timesformer_(ti|s|b|l|h)([1-9]\d*)")
def timesformer_entry(size: str, patch_size: str) -> ModelEntry:
    """Entry of a TimeSformer of any size and patch size, such as "timesformer_s8"."""
    defaults = {"patch_size": int(patch_size), **SIZES[size]}
    return ModelEntry(TimeSformer, defaults, input_frames=8)


@register_pattern(r"vivit_(ti|s|b|l|h)([1-9]\d*)x([1-9]\d*)")
def vivit_entry(size: str, patch_size: str, tubelet: str) -> ModelEntry:
    """Entry of a ViViT of any size and tubelets, such as "vivit_s8x2"."""
    defaults = {"patch_size": int(patch_size), "tubelet": int(tubelet), **SIZES[size]}
    return ModelEntry(ViViT, defaults, input_frames=32)


register_model(
    "timesformer_b16",
    input_frames=8,
    source="Bertasius et al. 2021; facebookresearch/TimeSformer",
    patch_size=16,
    **SIZES["b"],
)(TimeSformer)
register_model(
    "vivit_b16x2",
    input_frames=32,
    source="Arnab et al. 2021; google-research/scenic",
    patch_size=16,
    **SIZES["b"],
)(ViViT)

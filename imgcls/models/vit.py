"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929), pre-norm, with exact GELU.

Kernels are shaped for tensor parallelism: `attn/qkv` `[D, 3, heads, head_dim]`, `attn/proj`
`[heads, head_dim, D]`, `mlp/fc1` `[D, M]`, `mlp/fc2` `[M, D]`.

The distilled variant of DeiT (Touvron et al. 2020, arXiv:2012.12877, section 4) has a second token
and a second head; its logits are the mean of both heads.

Initialization follows big_vision: Xavier uniform kernels, small MLP biases, a head of zeros.
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from imgcls.core.errors import ConfigError
from imgcls.models.layers.attention import attend
from imgcls.models.layers.base import EXPLAIN, ImageModel, is_explained
from imgcls.models.layers.operations import (
    PRODUCTS_BY_EIGEN,
    LayerNorm,
    dot_general,
    gelu,
    is_fast,
)
from imgcls.models.layers.positions import resample_positions, sincos2d
from imgcls.models.layers.residual import DropPath, LayerScale, drop_path_rates
from imgcls.models.registry import ModelEntry, register_model, register_pattern

_xavier = nn.initializers.xavier_uniform()
# Query, key and value share a kernel with three times the outputs, but each is initialized as its
# own square matrix: doubling the variance corrects the larger fan.
_xavier_qkv = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762); the softmax is float32.

    Attributes:
      num_heads: number of heads; must divide D.
      implementation: see `imgcls.models.layers.attention.attend`.
      dtype: of the computation.
    """

    num_heads: int
    implementation: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, N, D]` -> `[B, N, D]`."""
        width = x.shape[-1]
        dense = functools.partial(nn.DenseGeneral, dtype=self.dtype, dot_general=dot_general)
        heads = (self.num_heads, width // self.num_heads)
        qkv = dense((3, *heads), kernel_init=_xavier_qkv, name="qkv")(x)
        if is_explained(self):
            self.put_variable(EXPLAIN, "attention", attention_weights(qkv[:, :, 0], qkv[:, :, 1]))
        x = attend(qkv, train=train, implementation=self.implementation)
        return dense(width, axis=(-2, -1), kernel_init=_xavier, name="proj")(x)


def _mean(first: jax.Array, *others: jax.Array) -> jax.Array:
    return sum(others, start=first) / (1 + len(others))


def attention_weights(query: jax.Array, key: jax.Array) -> jax.Array:
    """Attention weights, float32 `[B, heads, N, N]`, of query and key `[B, N, heads, head_dim]`."""
    query, key = (x.astype(jnp.float32) for x in (query, key))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    return jax.nn.softmax(scores, axis=-1)


class Mlp(nn.Module):
    """Two dense layers with an exact GELU between them.

    Attributes:
      hidden: width between the layers.
      drop_rate: dropout rate after the GELU.
      dtype: of the computation.
    """

    hidden: int
    drop_rate: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, N, D]` -> `[B, N, D]`."""
        width = x.shape[-1]
        dense = functools.partial(
            nn.Dense,
            kernel_init=_xavier,
            bias_init=nn.initializers.normal(1e-6),
            dtype=self.dtype,
            dot_general=dot_general,
        )
        x = dense(self.hidden, name="fc1")(x)
        x = gelu(x) if train and is_fast(x) else nn.gelu(x, approximate=False)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return dense(width, name="fc2")(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
      num_heads: attention heads.
      mlp_dim: hidden width of the MLP.
      drop_rate: dropout rate of both branches.
      drop_path: stochastic depth rate of both branches.
      layer_scale: initial value of LayerScale on both branches; None: no LayerScale.
      dtype: dtype of the computation.
      attention: see `imgcls.models.layers.attention.attend`.
    """

    num_heads: int
    mlp_dim: int
    drop_rate: float
    drop_path: float
    layer_scale: float | None
    dtype: jnp.dtype
    attention: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, N, D]` -> `[B, N, D]`. `train` is positional for `nn.remat`."""
        branch = LayerNorm(dtype=self.dtype, name="norm1")(x, train=train)
        branch = Attention(self.num_heads, self.attention, self.dtype, name="attn")(
            branch, train=train
        )
        x = x + self._regularize(branch, "ls1", train)
        branch = LayerNorm(dtype=self.dtype, name="norm2")(x, train=train)
        branch = Mlp(self.mlp_dim, self.drop_rate, self.dtype, name="mlp")(branch, train=train)
        return x + self._regularize(branch, "ls2", train)

    def _regularize(self, branch: jax.Array, scale_name: str, train: bool) -> jax.Array:
        branch = nn.Dropout(self.drop_rate, deterministic=not train)(branch)
        if self.layer_scale is not None:
            branch = LayerScale(self.layer_scale, self.dtype, name=scale_name)(branch)
        return DropPath(self.drop_path)(branch, train=train)


class ViT(ImageModel, kw_only=True):
    """Vision Transformer, with dropout after the position embedding, in the MLPs and on branches
    (appendix B.1 of the paper).

    Attributes:
      patch_size: side of a patch in pixels; must divide height and width.
      width: channels D of a token.
      depth: number of blocks.
      num_heads: attention heads.
      mlp_dim: hidden width of the MLPs.
      pool: "cls": the features are the class token after the last norm; "gap": there is no class
        token, and the features are the mean of the patch tokens after the last norm, as in
        big_vision (timm normalizes the mean).
      distilled: whether to add a distillation token and its head `head_dist`.
      pos_embed: "learned", resampled for images of another size, or "sincos2d", which is fixed.
      drop_path: stochastic depth rate of the last block, see `drop_path_rates`.
      uniform_drop_path: whether all blocks have the rate `drop_path` (CaiT, DeiT III).
      layer_scale: initial value of LayerScale (1e-4 in DeiT III); None: no LayerScale.
      attention: "cudnn", "xla" or "auto", see `imgcls.models.layers.attention.attend`.
      scan: whether to compile one block and scan over all blocks: compilation is faster, memory
        holds one more copy of the parameters. Checkpoints are the same; dropout differs.
    """

    compiler_options: ClassVar = {"cpu": PRODUCTS_BY_EIGEN}
    explained_by: ClassVar = "attention"

    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    pool: str = "cls"
    distilled: bool = False
    pos_embed: str = "learned"
    drop_path: float = 0.0
    uniform_drop_path: bool = False
    layer_scale: float | None = None
    attention: str = "auto"
    scan: bool = False

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens before the patch tokens."""
        return (self.pool == "cls") + self.distilled

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        features: bool = False,
        keep: jax.Array | None = None,
    ) -> jax.Array:
        """x `[B, H, W, C]` -> logits `[B, num_classes]`, or features `[B, width]`; float32.

        The features of the distilled variant are the mean of its two tokens.

        With `keep`, int `[B, n]`, only the patches with these indices (in row order) are encoded,
        and all tokens are returned, float32 `[B, prefix_tokens + n, width]` (He et al. 2021, MAE,
        arXiv:2111.06377, section 3).

        Raises:
          ConfigError: an option is invalid, or the patch size does not divide the image size.
        """
        self._check(x)
        x = self._embed(self.check_input(x))
        if keep is not None:
            prefix = x[:, : self.prefix_tokens]
            patches = jnp.take_along_axis(x, self.prefix_tokens + keep[:, :, None], axis=1)
            x = jnp.concatenate([prefix, patches], axis=1)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        x = self._encode(x, train)
        x = LayerNorm(dtype=self.dtype, name="norm")(x, train=train).astype(jnp.float32)
        if keep is not None:
            return x
        heads = {"head": x[:, 0] if self.pool == "cls" else jnp.mean(x, axis=1)}
        if self.distilled:
            heads["head_dist"] = x[:, 1]
        if features:
            return _mean(*heads.values())
        zeros = nn.initializers.zeros
        logits = [
            nn.Dense(self.num_classes, kernel_init=zeros, name=name)(token)
            for name, token in heads.items()
        ]
        return _mean(*logits)

    def _encode(self, x: jax.Array, train: bool) -> jax.Array:
        """Applies all blocks to tokens `[B, N, D]`, in a loop or by `jax.lax.scan`."""
        rates = drop_path_rates(self.drop_path, self.depth)
        if self.uniform_drop_path:
            rates = [self.drop_path] * self.depth

        def block(rate, **placement):
            sizes = (self.num_heads, self.mlp_dim, self.drop_rate)
            options = (self.layer_scale, self.dtype, self.attention)
            return self.block(Block)(*sizes, rate, *options, **placement)

        if self.scan and not self.is_initializing() and not is_explained(self):
            return self._scan(block, rates, x, train)
        for index, rate in enumerate(rates):
            x = block(rate, name=f"block{index}")(x, train)
        return x

    def _scan(self, block, rates: list[float], x: jax.Array, train: bool) -> jax.Array:
        blocks = [self.variables["params"][f"block{index}"] for index in range(self.depth)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
        random = train and max(self.drop_rate, *rates) > 0
        rngs = jax.random.split(self.make_rng("dropout"), self.depth) if random else None

        def step(x, inputs):
            params, rate, rng = inputs
            module = block(rate if max(rates) > 0 else 0.0, parent=None)
            rngs = {"dropout": rng} if random else None
            return module.apply({"params": params}, x, train, rngs=rngs), None

        return jax.lax.scan(step, x, (stacked, jnp.asarray(rates, jnp.float32), rngs))[0]

    def _check(self, x: jax.Array) -> None:
        for option, allowed in (("pool", ("cls", "gap")), ("pos_embed", ("learned", "sincos2d"))):
            if (value := getattr(self, option)) not in allowed:
                choices = " or ".join(map(repr, allowed))
                raise ConfigError(f"ViT {option} is {value!r}: write {choices}")
        if self.distilled and self.pool != "cls":
            raise ConfigError("ViT: the distilled variant needs a class token: write pool='cls'")
        if self.width % self.num_heads:
            raise ConfigError(
                f"ViT: width {self.width} does not divide into {self.num_heads} heads: "
                "make the width a multiple of num_heads"
            )
        _, height, width, _ = x.shape
        if height % self.patch_size or width % self.patch_size:
            raise ConfigError(
                f"ViT: images of {height}x{width} do not divide into patches of "
                f"{self.patch_size}: make the image size a multiple of {self.patch_size}"
            )

    def _embed(self, x: jax.Array) -> jax.Array:
        """Images `[B, H, W, C]` -> tokens with positions `[B, N, D]`, prefix tokens first."""
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(
            self.width, patch, strides=patch, padding="VALID", dtype=self.dtype, name="patch_embed"
        )(x)
        batch, rows, columns, _ = x.shape
        x = rearrange(x, "b h w d -> b (h w) d")
        prefix = self._prefix_tokens()
        if prefix:
            tokens = jnp.concatenate(prefix, axis=1).astype(self.dtype)
            x = jnp.concatenate([jnp.broadcast_to(tokens, (batch, *tokens.shape[1:])), x], axis=1)
        if self.pos_embed == "learned":
            positions = self._learned_positions(rows, columns, len(prefix))
        else:
            # Prefix tokens have no position: their embedding is zero (MoCo v3).
            positions = np.pad(sincos2d(rows, columns, self.width), ((len(prefix), 0), (0, 0)))
        return x + jnp.asarray(positions, self.dtype)

    def _prefix_tokens(self) -> list[jax.Array]:
        names = (["cls_token"] if self.pool == "cls" else []) + ["dist_token"] * self.distilled
        shape = (1, 1, self.width)
        return [self.param(name, nn.initializers.zeros, shape, jnp.float32) for name in names]

    def _learned_positions(self, rows: int, columns: int, prefix: int) -> jax.Array:
        shape = (1, prefix + rows * columns, self.width)
        if self.has_variable("params", "pos_embed"):
            learned = self.get_variable("params", "pos_embed")
            if learned.shape != shape:
                return resample_positions(learned, (rows, columns), prefix)
        return self.param("pos_embed", nn.initializers.normal(0.02), shape, jnp.float32)


_SIZES = {
    "ti": dict(width=192, depth=12, num_heads=3, mlp_dim=768),
    "s": dict(width=384, depth=12, num_heads=6, mlp_dim=1536),
    "b": dict(width=768, depth=12, num_heads=12, mlp_dim=3072),
    "l": dict(width=1024, depth=24, num_heads=16, mlp_dim=4096),
    "h": dict(width=1280, depth=32, num_heads=16, mlp_dim=5120),
}


@register_pattern(r"vit_(ti|s|b|l|h)([1-9]\d*)")
def vit_entry(size: str, patch_size: str) -> ModelEntry:
    """Entry of a ViT of any size and patch size, such as "vit_s4"."""
    return ModelEntry(ViT, {"patch_size": int(patch_size), **_SIZES[size]})


_AUGREG = "timm, augreg_in21k_ft_in1k, pre-trained on ImageNet-21k"
_DEIT = "Touvron et al. 2020, table 5"
for _size, _patch, _top1, _source in (
    ("ti", 16, 75.46, _AUGREG),
    ("s", 16, 81.40, _AUGREG),
    ("s", 32, 75.99, _AUGREG),
    ("b", 16, 81.07, "torchvision, IMAGENET1K_V1"),
    ("b", 32, 75.91, "torchvision, IMAGENET1K_V1"),
    ("l", 16, 79.66, "torchvision, IMAGENET1K_V1"),
    ("l", 32, 76.97, "torchvision, IMAGENET1K_V1"),
    ("h", 14, 85.71, "torchvision, IMAGENET1K_SWAG_LINEAR_V1, pre-trained on 3.6 billion images"),
):
    register_model(
        f"vit_{_size}{_patch}", top1=_top1, source=_source, patch_size=_patch, **_SIZES[_size]
    )(ViT)
for _size, _top1 in (("ti", 74.5), ("s", 81.2), ("b", 83.4)):
    register_model(
        f"deit_{_size}16_distilled",
        top1=_top1,
        source=_DEIT,
        patch_size=16,
        distilled=True,
        **_SIZES[_size],
    )(ViT)

"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929), pre-norm, with exact GELU.

The distilled variant of DeiT (Touvron et al. 2020, arXiv:2012.12877, section 4) has a second token
and a second head; its logits are the mean of both heads.

Initialization follows big_vision: Xavier uniform kernels, small MLP biases, a head of zeros.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from imgcls.core.errors import ConfigError
from imgcls.models.layers.base import ImageModel, is_explained
from imgcls.models.layers.conv import conv
from imgcls.models.layers.operations import PRODUCTS_BY_EIGEN, LayerNorm
from imgcls.models.layers.positions import resample_positions, sincos_positions
from imgcls.models.layers.residual import drop_path_rates
from imgcls.models.layers.transformer import ACTIVATIONS, AttentionPool, Block
from imgcls.models.registry import ModelEntry, register_model, register_pattern


def _mean(first: jax.Array, *others: jax.Array) -> jax.Array:
    return sum(others, start=first) / (1 + len(others))


class ViT(ImageModel, kw_only=True):
    """Vision Transformer, with dropout after the position embedding, in the MLPs and on branches
    (appendix B.1 of the paper).

    Attributes:
      patch_size: side of a patch in pixels; must divide height and width.
      width: channels D of a token.
      depth: number of blocks.
      num_heads: attention heads.
      mlp_dim: hidden width of the MLPs.
      pool: "cls": the features are the class token; "gap": they are the mean of the patch tokens;
        "map": attention of a learned query to the patch tokens (SigLIP), see `AttentionPool`.
      class_token: whether there is a class token; None: only if `pool` needs it.
      fc_norm: whether the last norm is after pooling, as in timm, instead of before it, as in
        big_vision.
      pre_norm: whether the tokens are normalized before the first block, and patches have no bias
        (CLIP: Radford et al. 2021, arXiv:2103.00020, section 2.4).
      norm_epsilon: epsilon of all norms.
      activation: of the MLPs: "gelu" or "quick_gelu", see `ACTIVATIONS`.
      distilled: whether to add a distillation token and its head `head_dist`.
      registers: number of tokens after the class token that only the blocks use (Darcet et al.
        2023, arXiv:2309.16588, section 2.2).
      pos_embed: "learned", resampled for images of another size, or "sincos2d" ("sincos3d" of
        volumes), which is fixed.
      embed_prefix: whether learned position embeddings have entries for the tokens before the
        patches; without (DeiT III), they are added to the patches alone.
      drop_path: stochastic depth rate of the last block, see `drop_path_rates`.
      uniform_drop_path: whether all blocks have the rate `drop_path` (CaiT, DeiT III).
      layer_scale: initial value of LayerScale (1e-4 in DeiT III); None: no LayerScale.
      attention: "cudnn", "xla" or "auto", see `imgcls.models.layers.attention.attend`.
      scan: whether to compile one block and scan over all blocks: compilation is faster, memory
        holds one more copy of the parameters. Checkpoints are the same; dropout differs.
    """

    compiler_options: ClassVar = {"cpu": PRODUCTS_BY_EIGEN}
    explained_by: ClassVar = "attention"
    keeps_patches: ClassVar[bool] = True  # Whether there is the argument `keep`.

    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    pool: str = "cls"
    class_token: bool | None = None
    fc_norm: bool = False
    pre_norm: bool = False
    norm_epsilon: float = 1e-6
    activation: str = "gelu"
    distilled: bool = False
    registers: int = 0
    pos_embed: str = "learned"
    embed_prefix: bool = True
    drop_path: float = 0.0
    uniform_drop_path: bool = False
    layer_scale: float | None = None
    attention: str = "auto"
    scan: bool = False

    @property
    def patch_sides(self) -> tuple[int, ...]:
        """Sides of a patch along each axis."""
        return (self.patch_size,) * self.spatial_axes

    @property
    def position_axes(self) -> int:
        """Number of axes of the grid of the position embeddings."""
        return self.spatial_axes

    @property
    def has_class_token(self) -> bool:
        """Whether the first token is a class token."""
        return self.pool == "cls" if self.class_token is None else self.class_token

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens before the patch tokens."""
        return self.has_class_token + self.distilled + self.registers

    @property
    def prefix_positions(self) -> int:
        """Number of position embeddings before those of the patches."""
        return self.prefix_tokens if self.embed_prefix else 0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        features: bool = False,
        keep: jax.Array | None = None,
    ) -> jax.Array:
        """x `[B, ..., C]` -> logits `[B, num_classes]`, or features `[B, width]`; float32.

        The features of the distilled variant are the mean of its two tokens.

        With `keep`, int `[B, n]`, only the patches with these indices (in row order) are encoded,
        and all tokens are returned, float32 `[B, prefix_tokens + n, width]` (He et al. 2021, MAE,
        arXiv:2111.06377, section 3); with `fc_norm` they are not normalized.

        Raises:
          ConfigError: an option is invalid, or the patch size does not divide the image size.
        """
        self._check(x := self.check_input(x))
        x = self._embed(self._embed_patches(x))
        if keep is not None:
            prefix = x[:, : self.prefix_tokens]
            patches = jnp.take_along_axis(x, self.prefix_tokens + keep[:, :, None], axis=1)
            x = jnp.concatenate([prefix, patches], axis=1)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        if self.pre_norm:
            x = LayerNorm(self.norm_epsilon, self.dtype, name="norm_pre")(x, train=train)
        x = self._encode(x, train)
        if not self.fc_norm:
            x = LayerNorm(self.norm_epsilon, self.dtype, name="norm")(x, train=train)
        x = x.astype(jnp.float32)
        if keep is not None:
            return x
        heads = {"head": self._pool(x, train)}
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

    def _pool(self, x: jax.Array, train: bool) -> jax.Array:
        """Tokens `[B, N, D]` -> features `[B, D]`; float32."""
        if self.pool == "map":
            pool = AttentionPool(
                *(self.num_heads, self.mlp_dim, self.dtype, self.activation, self.norm_epsilon),
                name="attn_pool",
            )
            patches = x[:, self.prefix_tokens :].astype(self.dtype)
            x = pool(patches, train=train).astype(jnp.float32)
        else:
            x = x[:, 0] if self.pool == "cls" else jnp.mean(x[:, self.prefix_tokens :], axis=1)
        if self.fc_norm:
            x = LayerNorm(self.norm_epsilon, name="fc_norm")(x, train=train)
        return x

    def _encode(self, x: jax.Array, train: bool) -> jax.Array:
        """Applies all blocks to tokens `[B, N, D]`, in a loop or by `jax.lax.scan`."""
        rates = self._drop_path_rates()
        if self.scan and not self.is_initializing() and not is_explained(self):
            return self._scan(rates, x, train)
        for index, rate in enumerate(rates):
            x = self._block(Block, rate, name=f"block{index}")(x, train)
        return x

    def _drop_path_rates(self) -> list[float]:
        rates = drop_path_rates(self.drop_path, self.depth)
        return [self.drop_path] * self.depth if self.uniform_drop_path else rates

    def _block(self, module: type[Block], rate: Any, **placement) -> Any:
        sizes = (self.num_heads, self.mlp_dim, self.drop_rate)
        options = (self.layer_scale, self.dtype, self.attention, self.activation)
        return self.block(module)(*sizes, rate, *options, self.norm_epsilon, **placement)

    def _scan(self, rates: list[float], x: jax.Array, train: bool) -> jax.Array:
        blocks = [self.variables["params"][f"block{index}"] for index in range(self.depth)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
        random = train and max(self.drop_rate, *rates) > 0
        rngs = jax.random.split(self.make_rng("dropout"), self.depth) if random else None

        def step(x, inputs):
            params, rate, rng = inputs
            module = self._block(Block, rate if max(rates) > 0 else 0.0, parent=None)
            rngs = {"dropout": rng} if random else None
            return module.apply({"params": params}, x, train, rngs=rngs), None

        return jax.lax.scan(step, x, (stacked, jnp.asarray(rates, jnp.float32), rngs))[0]

    def _check(self, x: jax.Array) -> None:
        for option, allowed in (
            ("pool", ("cls", "gap", "map")),
            ("pos_embed", ("learned", f"sincos{self.position_axes}d")),
            ("activation", ACTIVATIONS),
        ):
            if (value := getattr(self, option)) not in allowed:
                choices = " or ".join(map(repr, allowed))
                raise ConfigError(f"ViT {option} is {value!r}: write {choices}")
        if self.pool == "cls" and not self.has_class_token:
            raise ConfigError("ViT: pool='cls' needs a class token: write class_token=True")
        if self.registers < 0:
            raise ConfigError(f"ViT registers is {self.registers}: write a number of 0 or more")
        if self.distilled and self.pool != "cls":
            raise ConfigError("ViT: the distilled variant needs a class token: write pool='cls'")
        if self.distilled and (self.registers or self.fc_norm):
            raise ConfigError(
                "ViT: the distilled variant has no registers and no fc_norm: write registers=0 "
                "and fc_norm=False"
            )
        if self.width % self.num_heads:
            raise ConfigError(
                f"ViT: width {self.width} does not divide into {self.num_heads} heads: "
                "make the width a multiple of num_heads"
            )
        sides, patch = x.shape[1:-1], self.patch_sides
        if any(side % part for side, part in zip(sides, patch, strict=True)):
            what, size = "x".join(map(str, sides)), str(self.patch_size)
            size = size if set(patch) == {self.patch_size} else "x".join(map(str, patch))
            raise ConfigError(
                f"ViT: images of {what} do not divide into patches of {size}: make the image size "
                f"a multiple of {size}"
            )

    def _embed_patches(self, x: jax.Array) -> jax.Array:
        """Images `[B, ..., C]` -> patches on their grid `[B, ..., D]`."""
        return conv(
            self.width,
            self.patch_sides,
            self.patch_sides,
            padding=0,
            axes=self.spatial_axes,
            use_bias=not self.pre_norm,
            kernel_init=nn.initializers.lecun_normal(),
            dtype=self.dtype,
            name="patch_embed",
        )(x)

    def _embed(self, x: jax.Array) -> jax.Array:
        """Patches `[B, ..., D]` -> tokens with positions `[B, N, D]`, prefix tokens first."""
        batch, *grid, _ = x.shape
        x = rearrange(x, "b ... d -> b (...) d")
        prefix = self._prefix_tokens()
        if prefix:
            tokens = jnp.concatenate(prefix, axis=1).astype(self.dtype)
            prefix = [jnp.broadcast_to(tokens, (batch, *tokens.shape[1:]))]
        if prefix and self.embed_prefix:
            x = jnp.concatenate([*prefix, x], axis=1)
        if self.pos_embed == "learned":
            positions = self._learned_positions(grid)
        else:
            # Prefix tokens have no position: their embedding is zero (MoCo v3).
            pads = ((self.prefix_positions, 0), (0, 0))
            positions = np.pad(sincos_positions(grid, self.width), pads)
        x = x + jnp.asarray(positions, self.dtype)
        return jnp.concatenate([*prefix, x], axis=1) if prefix and not self.embed_prefix else x

    def _prefix_tokens(self) -> list[jax.Array]:
        names = ["cls_token"] * self.has_class_token + ["dist_token"] * self.distilled
        zeros, shape = nn.initializers.zeros, (1, 1, self.width)
        tokens = [self.param(name, zeros, shape, jnp.float32) for name in names]
        if self.registers:
            # Not zeros: equal registers would stay equal.
            normal, shape = nn.initializers.normal(1e-6), (1, self.registers, self.width)
            tokens.append(self.param("reg_token", normal, shape, jnp.float32))
        return tokens

    def _learned_positions(self, grid: Sequence[int]) -> jax.Array:
        prefix = self.prefix_positions
        shape = (1, prefix + math.prod(grid), self.width)
        if self.has_variable("params", "pos_embed"):
            learned = self.get_variable("params", "pos_embed")
            if learned.shape != shape:
                return resample_positions(learned, grid, prefix)
        return self.param("pos_embed", nn.initializers.normal(0.02), shape, jnp.float32)


SIZES = {
    "ti": dict(width=192, depth=12, num_heads=3, mlp_dim=768),
    "s": dict(width=384, depth=12, num_heads=6, mlp_dim=1536),
    "b": dict(width=768, depth=12, num_heads=12, mlp_dim=3072),
    "l": dict(width=1024, depth=24, num_heads=16, mlp_dim=4096),
    "h": dict(width=1280, depth=32, num_heads=16, mlp_dim=5120),
    # Shape-optimized (Alabdulmohsin et al. 2023, arXiv:2305.13035).
    "so400m": dict(width=1152, depth=27, num_heads=16, mlp_dim=4304),
}


@register_pattern(r"vit_(ti|s|b|l|h)([1-9]\d*)")
def vit_entry(size: str, patch_size: str) -> ModelEntry:
    """Entry of a ViT of any size and patch size, such as "vit_s4"."""
    return ModelEntry(ViT, {"patch_size": int(patch_size), **SIZES[size]})


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
        f"vit_{_size}{_patch}", top1=_top1, source=_source, patch_size=_patch, **SIZES[_size]
    )(ViT)
for _size, _top1 in (("ti", 74.5), ("s", 81.2), ("b", 83.4)):
    register_model(
        f"deit_{_size}16_distilled",
        top1=_top1,
        source=_DEIT,
        patch_size=16,
        distilled=True,
        **SIZES[_size],
    )(ViT)
for _size, _top1, _top1_registers in (("s", 81.1, 80.9), ("b", 84.5, 84.6), ("l", 86.3, 86.7)):
    for _name, _value, _options in (
        (f"vit_{_size}14_dinov2", _top1, {}),
        (f"vit_{_size}14_reg4_dinov2", _top1_registers, dict(registers=4, embed_prefix=False)),
    ):
        register_model(
            _name,
            input_size=518,
            top1=_value,
            source="facebookresearch/dinov2, README: a linear layer on frozen features",
            patch_size=14,
            layer_scale=1e-5,
            **_options,
            **SIZES[_size],
        )(ViT)
for _size, _patch, _top1 in (("s", 16, 81.4), ("b", 16, 83.8), ("l", 16, 84.9), ("h", 14, 85.2)):
    register_model(
        f"deit3_{_size}{_patch}",
        top1=_top1,
        source="facebookresearch/deit, README_revenge.md, ImageNet-1k",
        patch_size=_patch,
        embed_prefix=False,
        layer_scale=1e-6,
        **SIZES[_size],
    )(ViT)
_OPENCLIP = "mlfoundations/open_clip, README: LAION-2B, zero-shot"
_OPENAI = "mlfoundations/open_clip, README: OpenAI's weights, zero-shot"
for _name, _size, _patch, _activation, _top1, _source in (
    ("vit_b32_clip", "b", 32, "gelu", 66.6, _OPENCLIP),
    ("vit_b16_clip", "b", 16, "gelu", 70.2, _OPENCLIP),
    ("vit_l14_clip", "l", 14, "gelu", 75.3, _OPENCLIP),
    ("vit_h14_clip", "h", 14, "gelu", 78.0, _OPENCLIP),
    ("vit_b32_clip_quickgelu", "b", 32, "quick_gelu", 63.2, _OPENAI),
    ("vit_b16_clip_quickgelu", "b", 16, "quick_gelu", 68.3, _OPENAI),
    ("vit_l14_clip_quickgelu", "l", 14, "quick_gelu", 75.5, _OPENAI),
):
    register_model(
        _name,
        top1=_top1,
        source=_source,
        patch_size=_patch,
        pre_norm=True,
        norm_epsilon=1e-5,
        activation=_activation,
        **SIZES[_size],
    )(ViT)
for _size, _patch, _side, _top1 in (
    ("b", 16, 224, 78.2),
    ("b", 32, 256, 74.0),
    ("l", 16, 256, 82.5),
    ("so400m", 14, 224, 83.2),
    ("so400m", 16, 256, 83.4),
):
    register_model(
        f"vit_{_size}{_patch}_siglip",
        input_size=_side,
        top1=_top1,
        source="google-research/big_vision, README_siglip2.md: SigLIP 2, zero-shot",
        patch_size=_patch,
        pool="map",
        **SIZES[_size],
    )(ViT)

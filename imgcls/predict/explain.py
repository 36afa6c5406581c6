"""Heat maps: Grad-CAM for convolutional networks and attention rollout for ViTs."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import batch as batch_transforms
from imgcls.distributed import sharding
from imgcls.models.layers.base import EXPLAIN, ImageModel
from imgcls.objectives.backbone import clip_options
from imgcls.predict.slices import center_of, contact_sheet, montage
from imgcls.runs.trained import Trained, check_classifies, model_variables

# Largest number of images and of volumes in a batch.
BATCH = 32
VOLUMES = 4


def heat_maps(
    trained: Trained, images: np.ndarray, classes: np.ndarray, lengths: np.ndarray | None = None
) -> np.ndarray:
    """Computes how much each pixel or voxel contributes to a class, with a maximum of 1 per image.

    A model with a feature map before its pooling is explained by Grad-CAM, a ViT by attention
    rollout, which does not depend on the class, and a Transformer of clips by Grad-CAM on the
    patches before its last block. The program is compiled once for a model, an image
    size and B rounded up to a power of two.

    Args:
      trained: model that classifies; the head of a pretrained model is its probe.
      images: uint8 `[B, H, W, C]`, volumes `[B, D, H, W, C]` or clips `[B, T, H, W, C]`, output of
        the evaluation transform.
      classes: int `[B]`, class to explain for each image.
      lengths: int `[B]`, the frames of each clip that are no padding; None: all. The others have no
        heat, and models with `takes_length` do not see them.

    Returns:
      Float32 `[B, H, W]` or `[B, D, H, W]`, 0 to 1; all zeros without evidence for the class.

    Raises:
      ConfigError: the model has no classes, or it has neither a feature map nor attention.
    """
    check_classifies(trained, "this model")
    model, data = trained.objective.model, trained.config.data
    variables = model_variables(trained)
    count, shards = len(images), sharding.num_shards(trained.mesh)
    size = min(BATCH if images.ndim == 4 else VOLUMES, 1 << max(count - 1, 0).bit_length())
    size = -(-size // shards) * shards
    maps = np.zeros(images.shape[:-1], np.float32)
    for start in range(0, count, size):
        part = slice(start, start + size)
        arrays = {"image": images[part], "label": np.asarray(classes[part], np.int32)}
        batch = {name: _pad(array, size) for name, array in arrays.items()}
        if lengths is not None:
            # A mean over no frames is not a number.
            batch["length"] = np.maximum(_pad(lengths[part].astype(np.int32), size), 1)
        batch = jax.device_put(batch, sharding.batch_sharding(trained.mesh))
        heat = _explain(model, tuple(data.mean), tuple(data.std), variables, batch)
        maps[part] = np.asarray(heat)[: count - start]
    return maps


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _explain(model: nn.Module, mean: tuple, std: tuple, variables: dict, batch: dict) -> jax.Array:
    """Computes heat maps `[B, ...]` of a batch of images `[B, ..., C]` and classes."""
    x, options = batch_transforms.normalize(batch["image"], mean, std), clip_options(model, batch)
    if isinstance(model, ImageModel) and model.explained_by == "attention":
        heat = attention_rollout(model, variables, x)
    else:
        heat = grad_cam(model, variables, x, batch["label"], **options)
    heat = jax.image.resize(heat, x.shape[:-1], "linear")
    if "length" in batch:
        real = jnp.arange(x.shape[1]) < batch["length"][:, None]
        heat = jnp.where(real[:, :, None, None], heat, 0.0)
    top = jnp.max(heat, axis=range(1, heat.ndim), keepdims=True)
    return jnp.where(top > 0, heat / jnp.where(top > 0, top, 1.0), 0.0)


def grad_cam(
    model: nn.Module, variables: dict, x: jax.Array, classes: jax.Array, **options
) -> jax.Array:
    """Computes Grad-CAM (Selvaraju et al. 2016, arXiv:1610.02391, equations 1 and 2).

    Args:
      model: model with a head.
      variables: variables of the model.
      x: normalized images `[B, ..., C]`.
      classes: int `[B]`; for a model with one logit, 1 is the class of the logit, 0 the other one.
      **options: arguments of the model's call, see `clip_options`.

    Returns:
      Float32 `[B, ...]` of the size of the feature map, 0 or more.

    Raises:
      ConfigError: the model has no feature map before its pooling.
    """
    _, shapes = jax.eval_shape(lambda: model.apply(variables, x, mutable=[EXPLAIN], **options))
    if _find_map(shapes.get(EXPLAIN, {})) is None:
        raise ConfigError(
            f"{type(model).__name__} has no feature map before its pooling, so there are no heat "
            "maps for it"
        )

    def score(offset: Mapping) -> tuple[jax.Array, Mapping]:
        seen = {**variables, EXPLAIN: offset}
        logits, state = model.apply(seen, x, mutable=[EXPLAIN], **options)
        if logits.shape[-1] == 1:
            logits = jnp.concatenate([-logits, logits], axis=-1)
        # Examples are independent in evaluation, so the gradient of the sum is that of each.
        return jnp.sum(jnp.take_along_axis(logits, classes[:, None], axis=-1)), state[EXPLAIN]

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[EXPLAIN])
    gradients, maps = jax.grad(score, has_aux=True)(zeros)
    gradient, last = (_find_map(tree).astype(jnp.float32) for tree in (gradients, maps))
    weights = jnp.mean(gradient, axis=range(1, gradient.ndim - 1))
    heat = nn.relu(jnp.einsum("b...d,bd->b...", last, weights))
    if len(heat) != len(x):
        # A model of images has seen the slices of all volumes, or the frames of all clips.
        heat = heat.reshape(len(x), -1, *heat.shape[1:])
        heat = jnp.moveaxis(heat, 1, 1 + getattr(model, "axis", 0))
    return heat


def _find_map(tree: Mapping) -> Any:
    """The last map before pooling that `layers.base.tap` exposes; None if there is none."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    maps = [leaf for path, leaf in leaves if getattr(path[-1], "key", "") == "map"]
    return maps[0] if len(maps) == 1 else None


def attention_rollout(model: Any, variables: dict, x: jax.Array) -> jax.Array:
    """Computes attention rollout (Abnar & Zuidema 2020, arXiv:2005.00928, equation 1).

    It is the share of each patch in the class token, or in the average over the patches or the
    attention pooling if the model pools by it. Heads are averaged, and the residual connection
    counts as half of each layer.

    Args:
      model: model explained by attention, with the fields of `imgcls.models.vit.ViT`.
      variables: variables of the model.
      x: normalized images `[B, ..., C]`.

    Returns:
      Float32 `[B, ...]`, one value for each patch.
    """
    _, state = model.apply(variables, x, features=True, mutable=[EXPLAIN])
    layers = [state[EXPLAIN][f"block{i}"]["attn"]["attention"] for i in range(model.depth)]
    tokens = layers[0].shape[-1]
    patches = tokens - model.prefix_tokens
    mean = jnp.pad(jnp.full(patches, 1 / patches), (model.prefix_tokens, 0))
    start = jnp.eye(tokens)[0] if model.pool == "cls" else mean
    if model.pool == "map":
        pooled = jnp.mean(state[EXPLAIN]["attn_pool"]["attention"][:, :, 0], axis=1)
        start = jnp.pad(pooled, ((0, 0), (model.prefix_tokens, 0)))
    row = jnp.broadcast_to(start, (len(x), tokens))
    # From the last layer to the first, a product of a row and a matrix instead of two matrices.
    for attention in reversed(layers):
        row = 0.5 * jnp.einsum("bq,bqk->bk", row, jnp.mean(attention, axis=1)) + 0.5 * row
    sides = zip(x.shape[1:-1], model.patch_sides, strict=True)
    grid = [side // patch for side, patch in sides]
    return row[:, model.prefix_tokens :].reshape(len(x), *grid)


def overlay(image: np.ndarray, heat: np.ndarray, is_clip: bool = False) -> np.ndarray:
    """Draws a heat map over an image, from dark violet to yellow: uint8 `[H, W, 3]`.

    Args:
      image: uint8 `[H, W, C]`, a volume `[D, H, W, C]` or a clip `[T, H, W, C]`, see `draw`.
      heat: `[H, W]`, `[D, H, W]` or `[T, H, W]`, 0 to 1.
      is_clip: whether four axes are those of a clip.
    """
    if image.ndim == 4:
        tiles = draw(255 * heat[..., None], heat, is_clip)[..., 0]
        return overlay(draw(image, heat, is_clip), tiles.astype(np.float32) / 255)
    from matplotlib import colormaps

    # The image is gray, so that all colors are from the heat map.
    gray = np.mean(image, axis=-1, keepdims=True)
    colors = 255 * colormaps["plasma"](heat)[..., :3]
    return np.round(0.5 * gray + 0.5 * colors).astype(np.uint8)


def draw(image: np.ndarray, heat: np.ndarray, is_clip: bool) -> np.ndarray:
    """Draws a clip by four frames, and a volume by the slices through its hottest voxel."""
    return contact_sheet(image) if is_clip else montage(image, center_of(heat))


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    return np.pad(array, [(0, size - len(array)), *[(0, 0)] * (array.ndim - 1)])

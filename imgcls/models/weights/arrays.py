"""Conversion of arrays between the layouts of torch, `[out, in, ...]`, and flax."""

import re

import numpy as np

from imgcls.models.weights.layout import Layout

# Layers of attention whose outputs or inputs are `[..., heads, head_dim]`.
_TO_HEADS = r"\b(time_)?attn(_pool)?/(qkv|q|kv)/"
_FROM_HEADS = r"\b(time_)?attn(_pool)?/proj/"


def from_theirs(
    path: str, shape: tuple[int, ...], layout: Layout, parts: list[np.ndarray]
) -> np.ndarray:
    """Converts arrays of another project to the array at `path` in this package.

    The result has the rank of `shape`, but kernels of images for a model of volumes; its sides may
    differ from `shape` if the classes, the image channels or the resolution differ.

    Args:
      path: path in this package, such as "block0/attn/qkv/kernel".
      shape: shape in this package.
      layout: layout of the other project.
      parts: arrays of the other project; more than one are stacked.

    Raises:
      ValueError: the arrays can't be converted.
    """
    if not layout.torch:
        axis = len(shape) - 3
        return np.stack(parts, axis) if len(parts) > 1 else parts[0]
    (array,) = parts
    if not path.endswith("/kernel"):
        return array.reshape(shape) if re.search(_TO_HEADS, path) else array
    if re.search(f"{_TO_HEADS}|{_FROM_HEADS}", path):
        return array.T.reshape(shape)
    if re.search(layout.dense, path):
        array = array.reshape(array.shape[0], -1, *shape[:2])
    if re.search(layout.pointwise, path):
        array = array.reshape(array.shape[:2])
    return array.transpose(*range(2, array.ndim), 1, 0)


def to_theirs(path: str, array: np.ndarray, layout: Layout) -> np.ndarray:
    """Converts the array at `path` to the layout of torch: the inverse of `from_theirs`."""
    if not path.endswith("/kernel"):
        return array.reshape(-1) if re.search(_TO_HEADS, path) else array
    if re.search(_TO_HEADS, path):
        return array.reshape(array.shape[0], -1).T
    if re.search(_FROM_HEADS, path):
        return array.reshape(-1, array.shape[-1]).T
    array = array.transpose(-1, -2, *range(array.ndim - 2))
    if re.search(layout.pointwise, path):
        return array[..., None, None, None]
    return array.reshape(len(array), -1) if re.search(layout.dense, path) else array

"""The layout of arrays: torch's `[out, in, h, w]` against flax's `[h, w, in, out]`."""

import re

import numpy as np

from imgcls.models.weights.tables import Layout


def from_theirs(
    path: str, shape: tuple[int, ...], layout: Layout, parts: list[np.ndarray]
) -> np.ndarray:
    """Our array at `path`, made of theirs.

    The result has our rank; its sides may still differ from `shape`, where the classes, the
    channels of the picture or the resolution do.

    Args:
      path: ours, such as "block0/attn/qkv/kernel".
      shape: ours.
      layout: theirs.
      parts: theirs; more than one are stacked.

    Raises:
      ValueError: theirs can't be laid out so.
    """
    if not layout.torch:
        axis = len(shape) - 3
        return np.stack(parts, axis) if len(parts) > 1 else parts[0]
    (array,) = parts
    if not path.endswith("/kernel"):
        return array.reshape(shape) if "/attn/qkv/" in path else array
    if "/attn/" in path:
        return array.T.reshape(shape)
    if len(shape) == 4:
        if re.search(layout.dense, path):
            array = array.reshape(array.shape[0], -1, *shape[:2])
        return array.transpose(2, 3, 1, 0)
    return array.T


def to_theirs(path: str, array: np.ndarray, layout: Layout) -> np.ndarray:
    """The array that torch has for ours: the inverse of `from_theirs`."""
    if not path.endswith("/kernel"):
        return array.reshape(-1) if "/attn/qkv/" in path else array
    if "/attn/qkv/" in path:
        return array.reshape(array.shape[0], -1).T
    if "/attn/proj/" in path:
        return array.reshape(-1, array.shape[-1]).T
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
        return array.reshape(len(array), -1) if re.search(layout.dense, path) else array
    return array.T

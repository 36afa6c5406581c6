"""Weights of models of images for models of volumes and clips."""

import numpy as np

from imgcls.models.layers.positions import equal_side


def inflate(kernel: np.ndarray, depth: int) -> np.ndarray:
    """Repeats a kernel `[h, w, C, F]` along a new first axis, divided by its length.

    On a volume of equal slices the output is then that of the kernel on a slice (Carreira &
    Zisserman 2017, I3D, arXiv:1705.07750, section 2.4).

    Returns:
      `[depth, h, w, C, F]`.
    """
    return np.repeat(kernel[None] / np.float32(depth), depth, axis=0)


def center(kernel: np.ndarray, depth: int) -> np.ndarray:
    """The kernel `[h, w, C, F]` in the middle of a new first axis, zeros elsewhere.

    Arnab et al. 2021, ViViT, arXiv:2103.15691, equation 9.

    Returns:
      `[depth, h, w, C, F]`.
    """
    inflated = np.zeros((depth, *kernel.shape), kernel.dtype)
    inflated[depth // 2] = kernel
    return inflated


def inflate_all(
    arrays: dict[str, np.ndarray],
    wanted: dict[str, tuple[int, ...]],
    prefixes: list[int],
    patches: str = "mean",
) -> list[str]:
    """Brings the arrays of a model of images to the axes of a model of volumes, in place.

    Position embeddings of a square become those of a cube, the same in each slice; kernels that the
    model of volumes applies along planes (ACS) stay.

    Args:
      arrays: arrays by path.
      wanted: shapes of the model of volumes by path.
      prefixes: numbers of position embeddings that may stand before those of the patches, the
        likeliest first; empty: position embeddings stay those of a square.
      patches: "mean": the kernel of patches is inflated as the others; "center": see `center`.

    Returns:
      What was changed, for the log; empty: the arrays are of a model of volumes.
    """
    changed = []
    for path, array in arrays.items():
        shape = wanted.get(path, ())
        if array.ndim == 4 and len(shape) == 5:
            centered = patches == "center" and path == "patch_embed/kernel"
            arrays[path] = (center if centered else inflate)(array, shape[0])
            if shape[0] > 1:
                changed.append("kernels (inflated)")
    if prefixes and "patch_embed/kernel" in arrays and changed and "pos_embed" in arrays:
        arrays["pos_embed"] = _to_cube(arrays["pos_embed"], prefixes)
        changed.append("pos_embed (repeated along the depth)")
    copied = _copy_attention(arrays, wanted)
    return list(dict.fromkeys(changed + copied))


def _copy_attention(arrays: dict[str, np.ndarray], wanted: dict) -> list[str]:
    """Attention over time starts as that over space (facebookresearch/TimeSformer, helpers.py)."""
    copied = []
    for path in wanted:
        source = path.replace("/time_attn/", "/attn/").replace("/time_norm/", "/norm1/")
        if path not in arrays and source != path and source in arrays:
            copied.append((path, arrays[source]))
    arrays.update(copied)
    return ["attention over time (as over space)"] if copied else []


def _to_cube(positions: np.ndarray, prefixes: list[int]) -> np.ndarray:
    """`[1, prefix + side^2, D]` -> `[1, prefix + side^3, D]`; as it is if there is no square."""
    for prefix in prefixes:
        if side := equal_side(positions.shape[1] - prefix, 2):
            table = positions[:, prefix:]
            return np.concatenate([positions[:, :prefix], *[table] * side], axis=1)
    return positions

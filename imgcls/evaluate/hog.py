"""Hand-made features of images: histograms of oriented gradients, and of colors."""

import numpy as np

ORIENTATIONS = 9
# Side of a cell in pixels; a block is 2 x 2 cells.
CELL = 8
_EPSILON = 1e-5
# Largest entry of a normalized block, before it is normalized again (L2-Hys).
_CLIP = 0.2


def hog(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients (Dalal & Triggs 2005, "Histograms of Oriented Gradients for
    Human Detection", sections 6.1 to 6.4).

    9 unsigned orientations in cells of 8 x 8 pixels, and overlapping blocks of 2 x 2 cells with
    L2-Hys normalization. At each pixel the channel with the largest gradient counts. The values are
    those of `skimage.feature.hog` with `cells_per_block=(2, 2)`.

    Args:
      images: uint8 `[N, H, W, C]`; H and W are multiples of 8, at least 16.

    Returns:
      float32 `[N, (H / 8 - 1) * (W / 8 - 1) * 36]`.
    """
    rows, columns = _gradients(np.asarray(images, np.float32))
    count, height, width = rows.shape
    strength = np.hypot(rows, columns)
    direction = np.rad2deg(np.arctan2(rows, columns)) % 180
    # A negative angle near 0 is rounded to 180.
    bins = np.minimum(direction // (180 / ORIENTATIONS), ORIENTATIONS - 1)
    cells = (count, height // CELL, CELL, width // CELL, CELL)
    histograms = np.stack(
        [(strength * (bins == i)).reshape(cells).mean((2, 4)) for i in range(ORIENTATIONS)], -1
    )
    down, right = height // CELL - 1, width // CELL - 1
    parts = [histograms[:, i : i + down, j : j + right] for i in (0, 1) for j in (0, 1)]
    blocks = _normalize(np.concatenate(parts, axis=-1))
    return _normalize(np.minimum(blocks, _CLIP)).reshape(count, -1).astype(np.float32)


def color_histogram(images: np.ndarray) -> np.ndarray:
    """Square roots of the shares of 4 x 4 x 4 colors.

    Args:
      images: uint8 `[N, H, W, 3]`.

    Returns:
      float32 `[N, 64]`.
    """
    count = len(images)
    codes = ((images >> 6).astype(int) @ np.array([16, 4, 1])).reshape(count, -1)
    found = np.bincount((codes + 64 * np.arange(count)[:, None]).ravel(), minlength=64 * count)
    return np.sqrt(found.reshape(count, 64) / codes.shape[1]).astype(np.float32)


def _gradients(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertical and horizontal central differences `[N, H, W]`, 0 at the border."""
    rows, columns = np.zeros_like(images), np.zeros_like(images)
    rows[:, 1:-1] = images[:, 2:] - images[:, :-2]
    columns[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    channel = np.hypot(rows, columns).argmax(-1)[..., None]
    rows, columns = (np.take_along_axis(x, channel, -1)[..., 0] for x in (rows, columns))
    return rows, columns


def _normalize(blocks: np.ndarray) -> np.ndarray:
    return blocks / np.sqrt((blocks**2).sum(-1, keepdims=True) + _EPSILON**2)

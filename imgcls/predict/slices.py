"""A volume or a clip on a page, in one image.

A volume is three orthogonal slices and the maximum along one axis; a clip is four of its frames.
"""

import cv2
import numpy as np

_GAP = 1


def center_of(heat: np.ndarray) -> tuple[int, int, int]:
    """The voxel that the slices go through: that of the most heat `[D, H, W]`, or the center."""
    if np.ptp(heat) == 0:
        return middle(heat.shape)
    d, h, w = np.unravel_index(int(heat.argmax()), heat.shape)
    return int(d), int(h), int(w)


def middle(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The central voxel of a shape `[D, H, W, ...]`."""
    return shape[0] // 2, shape[1] // 2, shape[2] // 2


def montage(
    volume: np.ndarray,
    at: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] | None = None,
    side: int | None = None,
) -> np.ndarray:
    """Draws slices across D and H in the upper row, across W and the maximum along D below.

    Axis 0 of a slice points up and axis 1 to the right. For scans in RAS these are the axial, the
    coronal and the sagittal slice with superior or anterior up and the patient's right on the
    right.

    Args:
      volume: `[D, H, W, C]`, 0 to 255.
      at: voxel that the slices go through; None is the center.
      spacing: of the voxels along D, H and W; None is 1.
      side: side of each tile in pixels; None is the longest side of the volume.

    Returns:
      uint8 `[2 side + 1, 2 side + 1, C]`.
    """
    d, h, w = middle(volume.shape) if at is None else at
    planes = (
        (volume[d], (1, 2)),
        (volume[:, h], (0, 2)),
        (volume[:, :, w], (0, 1)),
        (volume.max(0), (1, 2)),
    )
    lengths = np.multiply(volume.shape[:3], spacing or (1, 1, 1))
    edge = max(volume.shape[:3]) if side is None else side
    scale = edge / lengths.max()
    tiles = []
    for plane, axes in planes:
        height, width = (max(1, round(float(lengths[axis] * scale))) for axis in axes)
        # The first axis grows to superior or anterior, which is up.
        tiles.append(_fit(_to_uint8(plane[::-1]), height, width, edge))
    return _tile(*tiles)


def contact_sheet(clip: np.ndarray) -> np.ndarray:
    """Draws four evenly spaced frames of a clip, the first two above the others.

    Args:
      clip: `[T, H, W, C]`, 0 to 255.

    Returns:
      uint8 `[2 H + 1, 2 W + 1, C]`.
    """
    first, second, third, last = clip[np.linspace(0, len(clip) - 1, 4).round().astype(int)]
    return _tile(*map(_to_uint8, (first, second, third, last)))


def _tile(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Four images of one size `[H, W, C]` with gaps between: a and b above c and d."""
    gap = np.zeros((len(a), _GAP, a.shape[-1]), np.uint8)
    rows = [np.concatenate([left, gap, right], 1) for left, right in ((a, b), (c, d))]
    gap = np.zeros((_GAP, *rows[0].shape[1:]), np.uint8)
    return np.concatenate([rows[0], gap, rows[1]])


def _fit(plane: np.ndarray, height: int, width: int, side: int) -> np.ndarray:
    """Resizes `[h, w, C]` and pads it to a square."""
    if plane.shape[:2] != (height, width):
        shrinks = height * width < plane.shape[0] * plane.shape[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
        plane = cv2.resize(np.ascontiguousarray(plane), (width, height), interpolation=method)
        plane = plane.reshape(height, width, -1)
    top, left = (side - height) // 2, (side - width) // 2
    pads = [(top, side - height - top), (left, side - width - left), (0, 0)]
    return np.pad(plane, pads)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    return np.clip(np.rint(values.astype(np.float32)), 0, 255).astype(np.uint8)

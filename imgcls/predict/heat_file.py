"""The heat map of a volume as NIfTI, in the place of the scan that it explains.

The heat map keeps the voxels of the model's input. Its affine leads from these through resampling,
resizing, cropping and padding back to the coordinates of the file, so that a viewer that has both
open shows one over the other.
"""

import gzip
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import DataError
from imgcls.data.decode.volume import decode_volume
from imgcls.data.decode.voxels import Volume, require
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import (
    TRANSFORMS,
    SpacingTransform,
    Transform,
    ValueTransform,
)

# Voxels that the affine is fitted to.
_SAMPLES = 20_000


def encode_heat(heat: np.ndarray, scan: bytes | np.ndarray, name: str, config: ConfigDict) -> bytes:
    """Encodes the heat map `[D, H, W]` of a scan as `.nii.gz`; nothing of its header is copied.

    Args:
      heat: heat map of the volume after the evaluation transforms.
      scan: bytes of the file of the volume, or its voxels `[D, H, W, C]`.
      name: name of the scan for messages.
      config: config of the model.

    Raises:
      DataError: the file can't be read, or the transforms deform volumes.
    """
    transforms = spec.parse(config.data.eval_transform, TRANSFORMS, "config.data.eval_transform")
    volume = decode_volume(scan, name) if isinstance(scan, bytes) else Volume(scan)
    affine = _world(volume) @ find_grid(volume, transforms, name)
    nibabel = require("nibabel", name)
    image = nibabel.Nifti1Image(np.ascontiguousarray(heat.T, np.float32), affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)


def find_grid(volume: Volume, transforms: Sequence[Transform], name: str) -> np.ndarray:
    """The affine `[4, 4]` from voxels (w, h, d) after the transforms to those of the file.

    Each axis of the file is transformed as a volume that counts its voxels from 1, and 0 is what
    the transforms have added.

    Args:
      volume: volume of the file.
      transforms: transforms that move voxels along straight lines; those of values are left out.
      name: name for messages.

    Raises:
      DataError: the transforms deform volumes.
    """
    shape, rows = volume.voxels.shape[:3], []

    def move(count: np.ndarray) -> np.ndarray:
        ramp = np.broadcast_to(count, shape)[..., None]
        return _move(ramp, volume.spacing, transforms)[..., 0]

    covered = move(np.ones((1, 1, 1), np.float32)) > 0.999
    for axis in (2, 1, 0):
        count = np.arange(1, shape[axis] + 1, dtype=np.float32)
        moved = move(count.reshape([-1 if a == axis else 1 for a in range(3)]))
        rows.append(_fit(np.where(covered, moved, 0), shape[axis]))
    affine = np.array([*(row for row, _ in rows), [0, 0, 0, 1]])
    if max(error for _, error in rows) > 0.5:
        raise DataError(f"{name}: its transforms deform volumes, so a heat map has no place in it")
    return affine


def _move(ramp: np.ndarray, spacing: tuple | None, transforms: Sequence[Transform]) -> np.ndarray:
    rng = np.random.default_rng(0)
    for transform in transforms:
        if isinstance(transform, SpacingTransform):
            ramp, spacing = transform.fn(ramp, spacing)
        elif not isinstance(transform, ValueTransform):
            ramp = transform(ramp, rng)
    return ramp


def _fit(ramp: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Coefficients of (w, h, d, 1) that give the voxels of the file, and their largest error.

    Smoothing bends the ends, so the fit is to the middle of the axis.
    """
    low, high = (0.25 * count + 0.5, 0.75 * count + 0.5) if count >= 8 else (0.5, count + 0.5)
    inside = np.argwhere((ramp >= low) & (ramp <= high))
    if not len(inside):
        inside = np.argwhere(ramp > 0)
    inside = inside[:: -(-len(inside) // _SAMPLES)]
    values = ramp[tuple(inside.T)].astype(float) - 1
    positions = np.c_[inside[:, ::-1], np.ones(len(inside))]
    row, *_ = np.linalg.lstsq(positions, values, rcond=None)
    return row, float(np.abs(positions @ row - values).max(initial=0))


def _world(volume: Volume) -> np.ndarray:
    """The affine `[4, 4]` from voxels (w, h, d) of the file to its coordinates."""
    if volume.affine is not None:
        return volume.affine
    return np.diag([*(volume.spacing or (1, 1, 1))[::-1], 1.0])

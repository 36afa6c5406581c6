"""Measurements of volumes, in the place of those of images."""

import hashlib

import numpy as np
from scipy import ndimage

from imgcls.audit import headers
from imgcls.core.errors import DataError
from imgcls.data.decode.bands import is_npy_image
from imgcls.data.decode.volume import decode_volume, name_format
from imgcls.data.decode.volume import is_volume as is_volume_file
from imgcls.data.decode.voxels import Volume
from imgcls.predict.slices import montage

# Side of the cubes that duplicates are found by, and of the thumbnails.
CUBE, THUMB = 20, 32
# A volume is nearly empty if at most this share of its voxels differs from that in the corner.
_EMPTY = 1e-3
# Smallest ratio of the numbers of voxels of a volume and of the median that is odd.
_ODD = 8


def is_volume(image: bytes | np.ndarray, name: str, channels: int = 3) -> bool:
    """Whether an example is a volume: an array `[D, H, W, C]` or a file of one.

    A `.npy` file of `[H, W, channels]` is an image.
    """
    if not isinstance(image, bytes):
        return image.ndim == 4
    return is_volume_file(image, name) and not is_npy_image(image, name, channels)


def measure(image: bytes | np.ndarray, name: str) -> dict:
    """Measures one volume; returns its entry in each array of `ImageTable`.

    Raises:
      DataError: the volume can't be decoded.
    """
    file = image if isinstance(image, bytes) else None
    voxels, spacing, _ = _decode(image, name)
    first = voxels[..., 0]
    cube = shrink(first, THUMB)
    projections = np.stack([_stretch(cube.mean(axis)) for axis in range(3)], axis=-1)
    finite = voxels.dtype.kind != "f" or bool(np.isfinite(voxels).all())
    low, high = (float(f(voxels)) for f in (np.nanmin, np.nanmax)) if finite else (np.nan, np.nan)
    spacings = spacing or (np.nan,) * 3
    return {
        "file_hash": hashlib.blake2b(file, digest_size=16).digest() if file else b"",
        "pixel_hash": _hash(voxels),
        "thumbs": projections,
        "grays": projections[..., 0],
        "cubes": high_pass(shrink(cube, CUBE)),
        "format": "" if file is None else name_format(file, name),
        "mode": voxels.dtype.name,
        "used_bits": 0,
        "values": {
            **dict(zip(("depth", "height", "width"), voxels.shape, strict=False)),
            **{f"spacing {axis}": s for axis, s in zip("DHW", spacings, strict=True)},
            "smallest value": low,
            "largest value": high,
            "mean value": float(voxels.mean(dtype=np.float64)) if finite else np.nan,
            "file size": len(file) if file else np.nan,
        },
        "raw_quality": {
            "constant": float(low == high),
            "filled": float((first != first.flat[0]).mean()),
            "finite": float(finite),
            "voxels": float(first.size),
        },
        "texts": headers.read_origin(file, name) if file else {},
    }


def draw(image: bytes | np.ndarray, name: str) -> np.ndarray:
    """Slices of a volume for display, see `montage`: uint8 `[H, W, 3]`."""
    voxels, spacing, _ = _decode(image, name)
    page = montage(_stretch(voxels[..., 0])[..., None], spacing=spacing)
    return np.repeat(page, 3, axis=-1)


def find_issues(raw: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Finds constant, nearly empty and odd volumes, and those with values that are not numbers.

    Args:
      raw: `raw_quality` of `measure`, float `[N]` each.

    Returns:
      `{issue: (indices, scores)}`, worst first; 0 is the worst score and 1 the best.
    """
    ratio = raw["voxels"] / np.median(raw["voxels"])
    scores = {
        "constant": 1 - raw["constant"],
        "nearly_empty": np.where(raw["constant"] > 0, 1, raw["filled"]),
        "not_finite": raw["finite"],
        "odd_size": np.minimum(ratio, 1 / ratio),
    }
    bounds = {"constant": 0, "nearly_empty": _EMPTY, "not_finite": 0, "odd_size": 1 / _ODD}
    flagged = {}
    for issue, score in scores.items():
        indices = np.flatnonzero(score <= bounds[issue])
        indices = indices[np.argsort(score[indices], kind="stable")]
        flagged[issue] = (indices, score[indices])
    return flagged


def shrink(voxels: np.ndarray, side: int) -> np.ndarray:
    """Averages `[D, H, W]` over a grid of cells, float32 `[side, side, side]`.

    A cell may cover parts of voxels, so that volumes of the same scan with different spacings give
    the same cells.
    """
    along, *across = (_cells(count, side) for count in voxels.shape)
    planes = [across[0] @ np.nan_to_num(p.astype(np.float32)) @ across[1].T for p in voxels]
    return np.tensordot(along, np.stack(planes), 1)


def high_pass(cube: np.ndarray) -> np.ndarray:
    """Details of a cube as a unit vector, so that dot products are correlations; float16.

    Volumes of one organ have alike coarse shapes. The vector is 0 for a constant cube.
    """
    details = cube - ndimage.gaussian_filter(cube, 1.0)
    details -= details.mean()
    norm = float(np.linalg.norm(details))
    return (details / norm if norm > 1e-6 * np.abs(cube).max() else 0 * details).astype(np.float16)


def _cells(count: int, side: int) -> np.ndarray:
    """Weights `[side, count]` of voxels in cells of equal length."""
    edges = np.linspace(0, count, side + 1)
    first, last = np.arange(count), np.arange(1, count + 1)
    overlap = np.minimum(edges[1:, None], last) - np.maximum(edges[:-1, None], first)
    return (np.maximum(overlap, 0) * (side / count)).astype(np.float32)


def _stretch(values: np.ndarray) -> np.ndarray:
    """Maps the percentiles 1 and 99.5 to 0 and 255, uint8."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0, 1)
    if high <= low:
        low, high = float(finite.min(initial=0)), float(finite.max(initial=1))
    scaled = (np.nan_to_num(values.astype(np.float32)) - low) * (255 / max(high - low, 1e-30))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _hash(voxels: np.ndarray) -> bytes:
    """Hash of shape and values, whatever the dtype."""
    found = hashlib.blake2b(np.array(voxels.shape, np.int32).tobytes(), digest_size=16)
    for plane in voxels:
        found.update(plane.astype(np.float32).tobytes())
    return found.digest()


def _decode(image: bytes | np.ndarray, name: str) -> Volume:
    if isinstance(image, bytes):
        return decode_volume(image, name)
    if not image.size:
        raise DataError(f"{name}: has the shape {list(image.shape)}")
    return Volume(image)

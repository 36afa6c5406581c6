"""Transforms that move the voxels of a volume, on the host: `fn(volume, rng) -> volume`.

Volumes are `[D, H, W, C]`; for transforms of their values see `values.py` and `intensity.py`.

All randomness comes from `rng`, and no transform modifies its input. Axes are 0, 1, 2 for D, H, W.
Flips and rotations of the cube move voxels and are exact; others interpolate with `scipy.ndimage`,
and round if the volume is uint8. The dtype is kept, but int16 becomes float32 by interpolation.

A flip mirrors a volume. Where handedness matters, as for molecules and for organs on one side of
the body, the result is an example that does not exist. Rotations are safe.
"""

import itertools
from typing import Any

import numpy as np

from imgcls.data.transforms import spec
from imgcls.data.transforms.resampling import by_slab, check_order, resize
from imgcls.data.transforms.transform import Transform, register_volume_transform

Size3D = int | tuple[int, int, int]

_MODES = ("constant", "nearest", "reflect", "wrap")


# ---- Resizing, cropping and padding.


@register_volume_transform("resize3d")
def resize3d(size: Size3D, order: int = 1, antialias: bool = True) -> Transform:
    """Resizes to a cube or to (D, H, W).

    Voxels are centered in their cells, so that the volume keeps its borders.

    Args:
      size: side, or (D, H, W).
      order: order of the spline, 0 (nearest) to 3 (cubic).
      antialias: whether axes that shrink are smoothed first, by a Gaussian with a standard
        deviation of (factor - 1) / 2 voxels, as in scikit-image.
    """
    sides = check_sides(size)
    check_order(order)

    def transform(volume, rng):
        shape = volume.shape[:3]
        if shape == sides:
            return volume
        factors = np.divide(shape, sides)
        return resize(volume, sides, factors, (factors - 1) / 2, order, antialias)

    return transform


@register_volume_transform("center_crop3d")
def center_crop3d(size: Size3D) -> Transform:
    """Crops the center; axes that are shorter are kept as they are."""
    sides = check_sides(size)

    def transform(volume, rng):
        first = [max(0, (n - side) // 2) for n, side in zip(volume.shape, sides, strict=False)]
        return _crop(volume, first, sides)

    return transform


@register_volume_transform("random_crop3d")
def random_crop3d(size: Size3D, padding: int = 0) -> Transform:
    """Crops at a random position; all positions are equally likely.

    Args:
      size: side, or (D, H, W); axes that are shorter are kept as they are.
      padding: zeros that are added on every side first.
    """
    sides = check_sides(size)
    spec.check_integer("padding", padding, 0)

    def transform(volume, rng):
        if padding:
            volume = np.pad(volume, [(padding, padding)] * 3 + [(0, 0)])
        rooms = [max(0, n - side) for n, side in zip(volume.shape, sides, strict=False)]
        first = [int(rng.integers(room + 1)) for room in rooms]
        return _crop(volume, first, sides)

    return transform


@register_volume_transform("pad3d")
def pad3d(size: Size3D, value: int = 0) -> Transform:
    """Pads to a cube or to (D, H, W), with the volume in the center.

    Args:
      size: side, or (D, H, W); axes that are longer are kept as they are.
      value: value of the new voxels.
    """
    sides = check_sides(size)
    _check_value(value)

    def transform(volume, rng):
        missing = [max(0, side - n) for n, side in zip(volume.shape, sides, strict=False)]
        pads = [(number // 2, number - number // 2) for number in missing]
        return np.pad(volume, [*pads, (0, 0)], constant_values=value)

    return transform


# ---- Flips and rotations.


@register_volume_transform("flip3d")
def flip3d(axes: int | tuple[int, ...] = (0, 1, 2), p: float = 0.5) -> Transform:
    """Mirrors along each of some axes, independently, with probability p.

    Args:
      axes: one axis or several: 0, 1, 2 for D, H, W.
      p: probability per axis.
    """
    axes = _axes(axes)
    spec.check_number("p", p, 0, 1)

    def transform(volume, rng):
        chosen = tuple(axis for axis in axes if rng.random() < p)
        return np.flip(volume, chosen) if chosen else volume

    return transform


@register_volume_transform("cube_rotation")
def cube_rotation(axis: int | None = None) -> Transform:
    """Rotates by one of the 24 rotations of the cube, drawn uniformly; exact.

    Args:
      axis: rotate about this axis alone, by 0, 90, 180 or 270 degrees; None: all 24.

    The sides that are exchanged must be equal, as those of a cube are, or examples have different
    shapes.
    """
    if axis is not None:
        _axes(axis)
    rotations = [r for r in CUBE_ROTATIONS if axis is None or r[0][axis] == axis and r[1][axis] > 0]

    def transform(volume, rng):
        return rotate_cube(volume, *rotations[rng.integers(len(rotations))])

    return transform


def _cube_rotations() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(order of the axes, direction of each) of all signed permutations with determinant 1."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            if np.linalg.det(np.diag(signs) @ np.eye(3)[list(order)]) > 0:
                found.append((order, signs))
    return found


# The first is the identity.
CUBE_ROTATIONS = _cube_rotations()


def rotate_cube(volume: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """One of `CUBE_ROTATIONS` of a volume `[D, H, W, C]`, as a view."""
    turned = np.transpose(volume, (*order, 3))
    return turned[tuple(slice(None, None, sign) for sign in signs)]


@register_volume_transform("rotate3d")
def rotate3d(
    degrees: float = 180.0, axis: int | None = None, order: int = 1, mode: str = "constant"
) -> Transform:
    """Rotates about the center, by a random rotation or about one axis.

    Args:
      degrees: without an axis, the angle is at most this about an axis that is drawn uniformly from
        the sphere; at 180 the rotation is drawn uniformly from all (Shoemake 1992). With an axis,
        the angle is uniform in [-degrees, degrees].
      axis: axis of the rotation: 0, 1, 2 for D, H, W; None: any.
      order: order of the spline, 0 (nearest) to 3 (cubic).
      mode: what is beyond the border: constant (zeros), nearest, reflect or wrap.
    """
    spec.check_number("degrees", degrees, 0, 180)
    if axis is not None:
        _axes(axis)
    check_order(order)
    spec.check_choice("mode", mode, _MODES)

    def transform(volume, rng):
        return _affine(volume, _random_rotation(rng, degrees, axis), np.zeros(3), order, mode)

    return transform


@register_volume_transform("affine3d")
def affine3d(
    degrees: float = 10.0,
    scale: tuple[float, float] = (0.9, 1.1),
    translate: float = 0.1,
    shear: float = 0.0,
    order: int = 1,
    mode: str = "constant",
) -> Transform:
    """Rotates, scales, shears and moves about the center, in one interpolation.

    Args:
      degrees: see `rotate3d`.
      scale: range of the factor of each axis, uniform in the logarithm; above 1 enlarges.
      translate: largest shift along each axis, as a fraction of the side; uniform.
      shear: largest shear of each axis by each other one; uniform.
      order, mode: see `rotate3d`.
    """
    spec.check_number("degrees", degrees, 0, 180)
    spec.check_range("scale", scale, 0.1, 10)
    spec.check_number("translate", translate, 0, 1)
    spec.check_number("shear", shear, 0, 1)
    check_order(order)
    spec.check_choice("mode", mode, _MODES)

    def transform(volume, rng):
        rotation = _random_rotation(rng, degrees, None)
        factors = np.exp(rng.uniform(*np.log(scale), size=3))
        shears = np.eye(3) + np.triu(rng.uniform(-shear, shear, (3, 3)), 1)
        shift = rng.uniform(-translate, translate, 3) * volume.shape[:3]
        return _affine(volume, rotation @ shears @ np.diag(factors), shift, order, mode)

    return transform


@register_volume_transform("elastic3d")
def elastic3d(
    displacement: float = 2.0,
    points: int = 5,
    order: int = 1,
    mode: str = "constant",
    p: float = 1.0,
) -> Transform:
    """Deforms smoothly: a grid of points moves at random, and the voxels between with it.

    The displacement is a cubic B-spline (Rueckert et al. 1999, IEEE TMI 18(8)). While it is below
    0.4 times the distance of the points, nothing folds over (Choi & Lee 2000, Graphical
    Models 62(6)).

    Args:
      displacement: largest displacement along each axis, in voxels; uniform at each point.
      points: number of points along each axis, the first and the last at the borders.
      order, mode: see `rotate3d`.
      p: probability.
    """
    spec.check_number("displacement", displacement, 0)
    spec.check_integer("points", points, 2)
    check_order(order)
    spec.check_choice("mode", mode, _MODES)
    spec.check_number("p", p, 0, 1)

    def transform(volume, rng):
        from scipy import ndimage

        if rng.random() >= p:
            return volume
        shape = volume.shape[:3]
        moves = rng.uniform(-displacement, displacement, (3, points, points, points))

        def move(channel, first, planes):
            positions = np.indices((planes, *shape[1:]), np.float32)
            positions[0] += first
            for axis, coefficients in enumerate(moves.astype(np.float32)):
                positions[axis] += _spline(coefficients, shape, first, planes)
            return ndimage.map_coordinates(
                channel,
                positions,
                output=np.float32,
                order=order,
                mode=_scipy_mode(mode),
            )

        return by_slab(volume, shape, move)

    return transform


def _spline(points: np.ndarray, shape: tuple[int, ...], first: int, planes: int) -> np.ndarray:
    """The cubic B-spline with these coefficients `[N, N, N]`, from border to border of a volume."""
    from scipy import ndimage

    steps = (np.array(points.shape) - 1) / np.maximum(np.array(shape) - 1, 1)
    start: Any = (steps[0] * first, 0, 0)  # scipy takes one number for each axis
    sides = (planes, *shape[1:])
    return ndimage.affine_transform(
        points, steps, start, sides, order=3, mode="nearest", prefilter=False
    )


def _random_rotation(rng: np.random.Generator, degrees: float, axis: int | None) -> np.ndarray:
    """A rotation matrix `[3, 3]`, see `rotate3d`."""
    if axis is None:
        if degrees == 180:
            # Uniform among all rotations: a uniform unit quaternion, Shoemake 1992.
            return _from_quaternion(rng.standard_normal(4))
        direction, angle = rng.standard_normal(3), rng.uniform(0, degrees)
    else:
        direction, angle = np.eye(3)[axis], rng.uniform(-degrees, degrees)
    half = np.deg2rad(angle) / 2
    direction = direction / np.linalg.norm(direction)
    return _from_quaternion(np.array([np.cos(half), *(np.sin(half) * direction)]))


def _from_quaternion(q: np.ndarray) -> np.ndarray:
    """The rotation matrix `[3, 3]` of a quaternion (w, x, y, z) of any length but zero."""
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _affine(
    volume: np.ndarray, matrix: np.ndarray, shift: np.ndarray, order: int, mode: str
) -> np.ndarray:
    """Moves voxel x, relative to the center, to `matrix @ x + shift`."""
    from scipy import ndimage

    inverse = np.linalg.inv(matrix)
    center = (np.array(volume.shape[:3]) - 1) / 2
    offset = center - inverse @ (center + shift)

    def move(channel, first, planes):
        start: Any = offset + inverse[:, 0] * first  # scipy takes one number for each axis
        return ndimage.affine_transform(
            channel,
            inverse,
            start,
            (planes, *channel.shape[1:]),
            output=np.float32,
            order=order,
            mode=_scipy_mode(mode),
        )

    return by_slab(volume, volume.shape[:3], move)


def _scipy_mode(mode: str) -> str:
    # "constant" of scipy interpolates between voxels only; "grid-constant" fades into the zeros.
    return {"constant": "grid-constant", "wrap": "grid-wrap"}.get(mode, mode)


def _crop(volume: np.ndarray, first: list[int], sides: tuple[int, ...]) -> np.ndarray:
    return volume[tuple(slice(i, i + side) for i, side in zip(first, sides, strict=True))]


def check_sides(size: Size3D) -> tuple[int, int, int]:
    """(D, H, W) of a side or a triple; raises a ValueError unless they are integers from 1."""
    sides = (size,) * 3 if isinstance(size, int) else size
    if not (isinstance(sides, tuple | list) and len(sides) == 3):
        raise ValueError(f"size={size!r} must be an integer or a triple (depth, height, width)")
    for side in sides:
        spec.check_integer("size", side, 1)
    return sides[0], sides[1], sides[2]


def _axes(axes: int | tuple[int, ...]) -> tuple[int, ...]:
    several = (axes,) if isinstance(axes, int) else axes
    valid = isinstance(several, tuple | list) and several and set(several) <= {0, 1, 2}
    if not valid or len(set(several)) < len(several):
        raise ValueError(f"axes={axes!r} must be some of 0, 1, 2 (depth, height, width), once each")
    return tuple(several)


def _check_value(value: int) -> None:
    spec.check_number("value", value, 0, 255)

"""Transforms of volumes: exact ones against loops, the others against scipy and geometry."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import resampling, spec
from imgcls.data.transforms import volume as volume_transforms
from imgcls.data.transforms.transform import TRANSFORMS, check_rank
from imgcls.data.transforms.volume import CUBE_ROTATIONS, rotate_cube

RECIPES = (
    *("resize3d(5)", "resize3d((9, 4, 7), order=3)", "center_crop3d(4)", "pad3d((9, 12, 7))"),
    *("random_crop3d(5, padding=2)", "flip3d", "flip3d(axes=1)", "cube_rotation"),
    *("cube_rotation(axis=0)", "rotate3d", "rotate3d(20, axis=2, order=3, mode='nearest')"),
    *("affine3d", "affine3d(shear=0.2, mode='wrap')"),
    *("elastic3d", "elastic3d(1.0, points=3, order=3, mode='reflect', p=0.5)"),
)


def build(recipe: str):
    (transform,) = spec.parse(recipe, TRANSFORMS, "test")
    return transform


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", [1, 2])
def test_deterministic_in_the_generator_and_pure(recipe, channels):
    volume, transform = draw(8, 8, 8, channels), build(recipe)
    before = volume.copy()
    first, again = (transform(volume, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(volume, before)
    assert first.dtype == np.uint8 and first.ndim == 4 and first.shape[-1] == channels
    for channel in range(channels):
        alone = transform(volume[..., [channel]], np.random.default_rng(3))
        np.testing.assert_array_equal(first[..., [channel]], alone)


def as_matrix(order, signs) -> np.ndarray:
    return np.diag(signs) @ np.eye(3)[list(order)]


def test_cube_rotations_are_those_of_scipy():
    group = {tuple(np.rint(m).astype(int).ravel()) for m in Rotation.create_group("O").as_matrix()}
    ours = {tuple(as_matrix(*rotation).astype(int).ravel()) for rotation in CUBE_ROTATIONS}
    assert ours == group and len(CUBE_ROTATIONS) == 24
    assert CUBE_ROTATIONS[0] == ((0, 1, 2), (1, 1, 1))


def test_cube_rotations_form_a_group_and_move_voxels():
    volume = draw(3, 3, 3, 1)
    turned = [rotate_cube(volume, *rotation) for rotation in CUBE_ROTATIONS]
    assert len({t.tobytes() for t in map(np.ascontiguousarray, turned)}) == 24
    for rotation, image in zip(CUBE_ROTATIONS, turned, strict=True):
        matrix = as_matrix(*rotation).astype(int)
        for position in itertools.product((-1, 0, 1), repeat=3):
            moved = matrix @ position + 1
            assert image[tuple(moved)] == volume[tuple(np.add(position, 1))]
        (inverse,) = (r for r in CUBE_ROTATIONS if (as_matrix(*r) == matrix.T).all())
        np.testing.assert_array_equal(rotate_cube(image, *inverse), volume)


def test_cube_rotation_draws_all_uniformly():
    volume, rng = draw(3, 3, 3, 1), np.random.default_rng(0)
    for recipe, number in (("cube_rotation", 24), ("cube_rotation(axis=1)", 4)):
        transform = build(recipe)
        seen = [np.ascontiguousarray(transform(volume, rng)).tobytes() for _ in range(2400)]
        counts = np.unique(seen, return_counts=True)[1]
        assert len(counts) == number
        assert np.abs(counts - 2400 / number).max() < 5 * np.sqrt(2400 / number)
    axis = {np.rot90(volume, k, (0, 2)).tobytes() for k in range(4)}
    assert set(seen) == axis


def test_flips():
    volume = draw(4, 5, 6, 2)
    for axes in ((0,), (1,), (2,), (0, 2)):
        flipped = build(f"flip3d({axes}, p=1.0)")(volume, np.random.default_rng(0))
        np.testing.assert_array_equal(flipped, np.flip(volume, axes))
    rng, transform = np.random.default_rng(0), build("flip3d")
    seen = [np.ascontiguousarray(transform(volume, rng)).tobytes() for _ in range(800)]
    counts = np.unique(seen, return_counts=True)[1]
    assert len(counts) == 8 and np.abs(counts - 100).max() < 50


def test_crops_and_padding():
    volume, rng = draw(7, 8, 5, 1), np.random.default_rng(0)
    cropped = build("center_crop3d((3, 4, 9))")(volume, rng)
    np.testing.assert_array_equal(cropped, volume[2:5, 2:6])
    padded = build("pad3d((10, 8, 6), value=7)")(volume, rng)
    assert padded.shape == (10, 8, 6, 1)
    np.testing.assert_array_equal(padded[1:8, :, :5], volume)
    assert (padded == 7).sum() >= 10 * 8 * 6 - volume.size
    places, transform = set(), build("random_crop3d((7, 7, 3))")
    for _ in range(200):
        found = transform(volume, rng)
        hits = [
            (h, w)
            for h, w in itertools.product(range(2), range(3))
            if (found == volume[:, h : h + 7, w : w + 3]).all()
        ]
        places.update(hits)
        assert len(hits) == 1
    assert len(places) == 6
    shifted = build("random_crop3d((7, 8, 5), padding=2)")(volume, rng)
    assert shifted.shape == volume.shape


@pytest.mark.parametrize("order", [0, 1, 3])
def test_resize_against_scipy(order):
    volume = draw(6, 8, 10, 1)
    resized = build(f"resize3d((9, 16, 10), order={order})")(volume, np.random.default_rng(0))
    values = volume[..., 0].astype(np.float32)
    # `grid_mode` centers voxels in their cells, as here.
    expected = ndimage.zoom(values, (1.5, 2, 1), order=order, mode="nearest", grid_mode=True)
    difference = resized[..., 0] - np.clip(np.rint(expected), 0, 255)
    assert np.abs(difference).max() <= (0 if order < 3 else 1)


@pytest.mark.parametrize("size", [16, 48, (16, 32, 64)])
def test_resize_keeps_the_volume_of_a_sphere(size):
    grid = np.indices((32, 32, 32)) - 15.5
    sphere = np.uint8(255 * (np.square(grid).sum(0) < 12**2))[..., None]
    resized = build(f"resize3d({size})")(sphere, np.random.default_rng(0))
    share = resized.mean() / 255
    assert share == pytest.approx(4 / 3 * np.pi * 12**3 / 32**3, rel=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_by_a_right_angle_is_exact(axis, monkeypatch):
    """About an axis; the direction is that of the right-hand rule in (D, H, W)."""
    volume = draw(8, 8, 8, 1)
    matrix = Rotation.from_rotvec(np.deg2rad(90) * np.eye(3)[axis]).as_matrix()
    monkeypatch.setattr(volume_transforms, "_random_rotation", lambda *_: matrix)
    turned = build(f"rotate3d(axis={axis})")(volume, np.random.default_rng(0))
    (rotation,) = (r for r in CUBE_ROTATIONS if np.allclose(as_matrix(*r), matrix))
    np.testing.assert_array_equal(turned, rotate_cube(volume, *rotation))


def test_random_rotations_against_scipy():
    """They are rotations; about an axis by that angle; at 180 degrees uniform over all."""
    rng = np.random.default_rng(0)
    q = rng.standard_normal(4)
    expected = Rotation.from_quat(q, scalar_first=True).as_matrix()
    np.testing.assert_allclose(volume_transforms._from_quaternion(q), expected, atol=1e-12)
    angles = []
    for _ in range(300):
        matrix = volume_transforms._random_rotation(rng, 30, 1)
        vector = Rotation.from_matrix(matrix).as_rotvec(degrees=True)
        assert np.allclose(vector[[0, 2]], 0)
        angles.append(vector[1])
    assert -30 <= min(angles) < -25 and 25 < max(angles) <= 30
    small = [volume_transforms._random_rotation(rng, 20, None) for _ in range(300)]
    assert max(Rotation.from_matrix(small).magnitude()) <= np.deg2rad(20) + 1e-9
    every = np.array([volume_transforms._random_rotation(rng, 180, None) for _ in range(4000)])
    # Of uniform rotations every entry has mean 0 and variance 1/3.
    assert np.abs(every.mean(0)).max() < 0.05
    np.testing.assert_allclose(every.var(0), 1 / 3, atol=0.03)


def test_affine_moves_and_scales_a_ball():
    grid = np.indices((32, 32, 32)) - 15.5
    ball = np.uint8(255 * (np.square(grid).sum(0) < 6**2))[..., None]
    rng = np.random.default_rng(0)
    moved = build("affine3d(degrees=0, scale=(1, 1), translate=0.2)")(ball, rng)
    center = ndimage.center_of_mass(moved[..., 0])
    rng = np.random.default_rng(0)
    rng.standard_normal(3), rng.uniform(0, 0), rng.uniform(0, 0, 3), rng.uniform(0, 0, (3, 3))
    expected = 15.5 + rng.uniform(-0.2, 0.2, 3) * 32
    np.testing.assert_allclose(center, expected, atol=0.05)
    grown = build("affine3d(degrees=90, scale=(1.5, 1.5), translate=0)")(ball, rng)
    assert grown.mean() / ball.mean() == pytest.approx(1.5**3, rel=0.02)


def test_elastic_displacement_is_a_spline():
    """The cubic B-spline of the points' moves, by its formula; within the bound nothing folds."""
    shape, rng = (13, 11, 9), np.random.default_rng(0)
    moves = rng.uniform(-1.2, 1.2, (3, 4, 4, 4)).astype(np.float32)
    found = np.stack([volume_transforms._spline(move, shape, 0, 13) for move in moves])

    def weights(side: int) -> np.ndarray:
        """Share of each of the 4 points in each voxel `[side, 4]`; borders are repeated."""
        shares = np.zeros((side, 4))
        for voxel in range(side):
            position = voxel * 3 / (side - 1)
            for neighbor in range(int(position) - 1, int(position) + 3):
                t = abs(position - neighbor)
                share = 2 / 3 - t**2 + t**3 / 2 if t < 1 else max(0, 2 - t) ** 3 / 6
                shares[voxel, min(max(neighbor, 0), 3)] += share
        return shares

    expected = np.einsum("aijk,di,hj,wk->adhw", moves, *map(weights, shape))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The points are 4, 10 / 3 and 8 / 3 voxels apart: 0.4 of it is 1.07.
    positions = np.indices(shape) + found / 1.2 * 1.06
    gradients = [np.gradient(position) for position in positions]
    assert np.linalg.det(np.moveaxis(gradients, (0, 1), (-2, -1))).min() > 0


def test_elastic_moves_voxels_by_the_displacement(monkeypatch):
    volume = draw(7, 8, 9, 2)
    shift = itertools.cycle((1.0, 0.0, -2.0))
    monkeypatch.setattr(volume_transforms, "_spline", lambda *_: np.float32(next(shift)))
    moved = build("elastic3d(3.0)")(volume, np.random.default_rng(0))
    np.testing.assert_array_equal(moved[:6, :, 2:], volume[1:, :, :7])
    assert not moved[6].any() and not moved[:, :, :2].any()
    volume = draw(12, 12, 12, 1)
    monkeypatch.undo()
    for recipe in ("elastic3d(0.0)", "elastic3d(p=0)"):
        still = build(recipe)(volume, np.random.default_rng(0))
        np.testing.assert_array_equal(still, volume)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "recipe",
    [
        "resize3d((16, 9, 8), order=ORDER)",
        "resize3d((40, 20, 12), order=ORDER)",
        "resize3d((64, 13, 12), order=ORDER, antialias=False)",
        "affine3d(30, translate=0.2, order=ORDER)",
        "rotate3d(180, order=ORDER, mode='reflect')",
        "elastic3d(2.0, order=ORDER)",
    ],
)
def test_slabs_make_no_difference(recipe, order, monkeypatch):
    """Of sizes where no voxel lies between two of the old, whose rounding is arbitrary."""
    volume = np.random.default_rng(0).normal(size=(60, 14, 12, 2)).astype(np.float32)
    transform = build(recipe.replace("ORDER", str(order)))
    at_once = transform(volume, np.random.default_rng(1))
    monkeypatch.setattr(resampling, "SLAB", 3 * 14 * 12)
    in_slabs = transform(volume, np.random.default_rng(1))
    np.testing.assert_allclose(in_slabs, at_once, atol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("resize3d((3, 4))", "must be an integer or a triple"),
        ("resize3d(0)", "at least 1"),
        ("resize3d(4, order=7)", "order=7 must be 0, 1, 2 or 3"),
        ("flip3d(axes=3)", "must be some of 0, 1, 2"),
        ("flip3d(axes=(1, 1))", "once each"),
        ("cube_rotation(axis=5)", "must be some of 0, 1, 2"),
        ("rotate3d(200)", "degrees=200"),
        ("rotate3d(mode='mirror')", "mode='mirror'"),
        ("pad3d(9, value=300)", "value=300"),
        ("affine3d(scale=(0, 1))", "scale="),
        ("elastic3d(points=1)", "points=1"),
        ("elastic3d(-1)", "displacement=-1"),
        ("flip3(p=1)", "did you mean 'flip3d'"),
    ],
)
def test_wrong_arguments(recipe, message):
    with pytest.raises(ConfigError, match=message):
        build(recipe)


def test_images_and_volumes_have_their_own_transforms():
    image, volume = draw(8, 8, 3), draw(8, 8, 8, 1)
    check_rank(build("flip"), image)
    check_rank(build("flip3d"), volume)
    with pytest.raises(ConfigError, match="the transform flip3d is for volumes"):
        check_rank(build("flip3d"), image)
    with pytest.raises(ConfigError, match="one of the transforms is for images"):
        check_rank(build("flip"), volume)
    for recipe in ("random_resized_crop(8)", "resize(8)", "rand_augment"):
        name = recipe.split("(")[0]
        with pytest.raises(ConfigError, match=f"the transform {name} is for images"):
            check_rank(build(recipe), volume)

"""Heat maps of volumes: where they are, on pages and in files."""

import gzip

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import DataError
from imgcls.data.decode.voxels import Volume
from imgcls.data.files import read_example
from imgcls.data.info import DataInfo
from imgcls.data.loading.reader import Reader
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS
from imgcls.models.create import create_model
from imgcls.objectives.create import create_objective
from imgcls.predict import explain
from imgcls.predict.heat_file import encode_heat, find_grid
from imgcls.predict.images import ImageInputs
from imgcls.predict.slices import center_of, montage
from imgcls.runs.trained import Trained
from tests.conftest import make_mesh
from tests.data.scans import ORIENTATIONS, write_dicom, write_nifti

SHAPE = (8, 12, 16)


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A 3D ResNet of three classes with random parameters."""
    config = default_config()
    config.data.channels, config.data.mean, config.data.std = 1, (0.5,), (0.5,)
    config.model = dict(name="resnet3d_10", stem="stride2", width=4, stage_sizes=(1, 1))
    info = DataInfo(("a", "b", "c"), False, (*SHAPE, 1))
    objective = create_objective(config, info)
    batch = {"image": jax.ShapeDtypeStruct((1, *SHAPE, 1), jnp.uint8)}
    shapes, state = jax.eval_shape(lambda: objective.init(jax.random.key(0), batch))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape, scale=0.3).astype(s.dtype), shapes)
    state = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), state)
    return Trained(config, info, objective, make_mesh(), params, state)


def test_grad_cam_of_a_pooled_linear_head_is_cam(trained):
    """Over three axes: the weights of the class times the feature map before pooling."""
    volumes = np.random.default_rng(1).integers(0, 256, (5, *SHAPE, 1), np.uint8)
    classes = np.array([0, 1, 2, 0, 1])
    model, variables = trained.objective.model, {"params": trained.params, **trained.model_state}
    x = (volumes / 255 - 0.5) / 0.5
    _, state = model.apply(
        variables,
        x,
        capture_intermediates=lambda module, _: module.name == "layer2_0",
        mutable="intermediates",
    )
    last = np.asarray(state["intermediates"]["layer2_0"]["__call__"][0], np.float64)
    assert last.shape[1:4] == (2, 3, 4)
    kernel = trained.params["head"]["kernel"].astype(np.float64)
    expected = np.maximum(np.einsum("bdhwc,cb->bdhw", last, kernel[:, classes]), 0)
    found = explain.grad_cam(model, variables, x, classes)
    np.testing.assert_allclose(np.asarray(found) * 24, expected, rtol=1e-3, atol=1e-4)

    # In batches of four, and enlarged.
    heat = explain.heat_maps(trained, volumes, classes)
    assert heat.shape == (5, *SHAPE) and heat.dtype == np.float32
    assert {float(h.max()) for h in heat} <= {0.0, 1.0} and heat.max() == 1
    cells = heat.reshape(5, 2, 4, 3, 4, 4, 4)[:, :, 1:3, :, 1:3, :, 1:3].mean((2, 4, 6))
    hot = expected.max((1, 2, 3)) > 0
    scaled = expected[hot] / expected[hot].max((1, 2, 3), keepdims=True)
    assert np.corrcoef(cells[hot].ravel(), scaled.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(("axis", "pool"), [(0, "mean"), (2, "attention")])
def test_a_model_of_slices_sees_each_slice(axis, pool):
    options = dict(axis=axis, pool=pool, pool_width=8, pool_heads=2)
    small = dict(stem="cifar", width=2, stage_sizes=(1, 1))
    model = create_model("slices2d", 3, in_channels=1, backbone_options=small, **options)
    x = jax.ShapeDtypeStruct((2, *SHAPE, 1), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    classes = jnp.zeros(2, int)
    heat = jax.eval_shape(lambda v, x: explain.grad_cam(model, v, x, classes), variables, x)
    assert heat.shape == {0: (2, 8, 6, 8), 2: (2, 4, 6, 16)}[axis]


def test_slices():
    volume = np.random.default_rng(0).integers(0, 200, (4, 5, 6, 1), np.uint8)
    page = montage(volume, (1, 2, 3))[..., 0]
    assert page.shape == (13, 13)
    tiles = {"D": page[:6, :6], "H": page[:6, 7:], "W": page[7:, :6], "most": page[7:, 7:]}
    voxels = volume[..., 0]
    # Up is the last row of an axis; the rest of a tile is black.
    np.testing.assert_array_equal(tiles["D"][0:5], voxels[1, ::-1])
    np.testing.assert_array_equal(tiles["H"][1:5], voxels[::-1, 2])
    np.testing.assert_array_equal(tiles["W"][1:5, 0:5], voxels[::-1, :, 3])
    np.testing.assert_array_equal(tiles["most"][0:5], voxels.max(0)[::-1])
    assert not tiles["W"][:, 5].any() and not page[6].any() and not page[:, 6].any()
    # Thick slices are drawn thick; float values are rounded.
    thick = montage(volume.astype(np.float32) + 0.2, (1, 2, 3), (3.0, 1.0, 1.0), side=12)[..., 0]
    np.testing.assert_array_equal(thick[0:12:3, 16:22], voxels[::-1, 2])
    heat = np.zeros((4, 5, 6), np.float32)
    assert center_of(heat) == (2, 2, 3)
    heat[3, 0, 5] = 1
    assert center_of(heat) == (3, 0, 5)
    drawn = explain.overlay(volume, heat)
    assert drawn.shape == (13, 13, 3) and drawn.dtype == np.uint8


def blob(shape: tuple, at: tuple) -> np.ndarray:
    """A bright ball, int16 `[D, H, W]`."""
    grid = np.indices(shape)
    distance = sum((g - a) ** 2 for g, a in zip(grid, at, strict=True))
    return (1000 * np.exp(-distance / 6)).astype(np.int16)


CHAINS = [
    "window(500, 1000)",
    "resample((1.5, 1.5, 1.5))|center_crop3d(20)|pad3d(24)|window(500, 1000)",
    "resize3d((16, 20, 12))|window(500, 1000)",
    "window(500, 1000)|pad3d(40)|resize3d(20)",
]


def see(path: str, chain: str) -> np.ndarray:
    """What the model sees of a file, uint8 `[D, H, W]`."""
    inputs = ImageInputs(path, ("a",), axes=3)
    reader = Reader(inputs, spec.parse(chain, TRANSFORMS, "test"), seed=0, shuffle=False)
    return reader.example(0)["image"][..., 0]


def center(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Center of mass of `[W, H, D]` in the coordinates of an affine."""
    at = np.indices(values.shape).reshape(3, -1) @ values.ravel().astype(float) / values.sum()
    return affine[:3, :3] @ at + affine[:3, 3]


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("orientation", [ORIENTATIONS[7], ORIENTATIONS[30], "dicom"])
def test_heat_lies_over_the_scan(tmp_path, chain, orientation):
    """The input of the model, written as if it were its heat map, is where the scan is."""
    import nibabel

    voxels = blob((18, 24, 30), (7, 13, 12))
    config = default_config()
    config.data.eval_transform = chain
    if orientation == "dicom":
        path = write_dicom(tmp_path, voxels, (2.0, 1.0, 1.25))[0]
        expected = center(voxels.T, _dicom_affine(voxels.shape, (2.0, 1.0, 1.25)))
    else:
        path = write_nifti(tmp_path / "scan.nii", voxels, orientation, (2.0, 1.0, 1.25))
        scan = nibabel.load(path)
        expected = center(np.asarray(scan.dataobj), scan.affine)
    seen = see(str(path), chain)
    data = encode_heat(seen / 255, read_example(str(path)), str(path), config)
    heat = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
    np.testing.assert_allclose(heat.get_fdata(), seen.T / 255, atol=1e-6)
    np.testing.assert_allclose(center(heat.get_fdata(), heat.affine), expected, atol=0.3)


def _dicom_affine(shape: tuple, spacing: tuple) -> np.ndarray:
    """RAS coordinates of what `write_dicom` writes: columns from right to left."""
    d, h, w = spacing
    affine = np.diag([w, h, d, 1.0])
    affine[:3, 3] = (30 - (shape[2] - 1) * w, 12 - (shape[1] - 1) * h, 7)
    return affine


def test_deformed_volumes_have_no_place():
    transforms = spec.parse("elastic3d(5)", TRANSFORMS, "test")
    with pytest.raises(DataError, match="scan: its transforms deform volumes"):
        find_grid(Volume(np.zeros((20, 20, 20, 1), np.uint8)), transforms, "scan")

"""Weights of models of images in models of volumes: inflation, ACS convolutions, slices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from safetensors.numpy import save_file

from imgcls.models.create import create_model
from imgcls.models.layers.base import EXPLAIN
from imgcls.models.weights import load as weights
from imgcls.models.weights.inflate import inflate
from imgcls.models.weights.tables import layouts
from tests.models.test_resnet import formula

KEY = jax.random.key(0)
RESNET: dict[str, Any] = dict(stem="cifar", width=4, stage_sizes=(1,))
DENSENET: dict[str, Any] = dict(stem="cifar", width=4, growth=4, stage_sizes=(1, 1))
VIT: dict[str, Any] = dict(width=12, depth=1, num_heads=2, mlp_dim=16)


def shapes(model, shape):
    return jax.eval_shape(model.init, KEY, jnp.zeros((1, *shape)))


def from_images(image_model, model, path=None, shape=(8, 8, 8, 1)):
    """(variables of images, variables of volumes, report), through a file or as a run."""
    variables = formula(shapes(image_model, (8, 8, 3)))
    wanted = shapes(model, shape)
    if path is None:
        loaded, report = weights.load("/runs/1", model, wanted, trained=variables)
    else:
        named = weights.dump(image_model, variables, layouts(image_model)[0])
        save_file(named, path)
        loaded, report = weights.load(str(path), model, wanted)
    return variables, loaded, report


def test_inflated_model_on_equal_slices_is_the_model_of_images():
    """In the middle slice, which the zeros around the volume do not reach."""
    image_model = create_model("resnet18", 2, **RESNET)
    model = create_model("resnet3d_18", 2, **RESNET)
    image, volume, report = from_images(image_model, model, shape=(8, 8, 8, 3))
    assert "kernels (inflated)" in report.adapted and not report.new
    x = np.sin(np.arange(8 * 8 * 3) ** 1.2).reshape(1, 8, 8, 3).astype(np.float32)

    @jax.jit
    def maps(x):
        deep = jnp.repeat(x[:, None], 9, axis=1)
        flat = image_model.apply(image, x, mutable=[EXPLAIN])[1]
        return flat[EXPLAIN]["map"], model.apply(volume, deep, mutable=[EXPLAIN])[1][EXPLAIN]["map"]

    flat, deep = maps(x)
    np.testing.assert_allclose(deep[:, 4], flat, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (("resnet18", "resnet3d_18"), RESNET),
        (("densenet121", "densenet3d_121"), DENSENET),
        (("seresnet50", "seresnet3d_50"), {**RESNET, "width": 16}),
    ],
)
def test_files_of_images_and_color(names, options, tmp_path):
    """The stem's channels are summed for volumes of one channel, and its kernel is inflated."""
    image_model = create_model(names[0], 2, **options)
    model = create_model(names[1], 2, in_channels=1, **options)
    image, volume, report = from_images(image_model, model, tmp_path / "w.safetensors")
    assert report.adapted == ["kernels (inflated)", "conv1 (3 -> 1 channels)"]
    kernels = (tree["params"]["conv1"]["kernel"] for tree in (image, volume))
    flat, deep = kernels
    expected = np.broadcast_to(flat.sum(axis=2, keepdims=True) / 3, deep.shape)
    np.testing.assert_allclose(deep, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(
        volume["params"]["head"]["kernel"], image["params"]["head"]["kernel"]
    )


def test_files_of_volumes(tmp_path):
    """A file of MONAI or MedicalNet has the same names and kernels of five axes."""
    model = create_model("resnet3d_18", 2, in_channels=1, **RESNET)
    variables = formula(shapes(model, (8, 8, 8, 1)))
    (layout,) = layouts(model, "torchvision")
    save_file(weights.dump(model, variables, layout), tmp_path / "w.safetensors")
    loaded, report = weights.load(str(tmp_path / "w.safetensors"), model, variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    assert not report.adapted


@pytest.mark.parametrize("side", [8, 16])
def test_positions_are_repeated_along_the_depth(side, tmp_path):
    image_model = create_model("vit_ti4", 2, **VIT)
    model = create_model("vit3d_ti4", 2, in_channels=3, **VIT)
    image, volume, report = from_images(
        image_model, model, tmp_path / "w.safetensors", (side, side, side, 3)
    )
    flat, deep = (np.asarray(t["params"]["pos_embed"]) for t in (image, volume))
    np.testing.assert_array_equal(deep[:, 0], flat[:, 0])
    grid = deep[:, 1:].reshape(side // 4, -1, 12)
    np.testing.assert_allclose(grid, np.broadcast_to(grid[:1], grid.shape), atol=1e-6)
    if side == 8:
        np.testing.assert_array_equal(grid[0], flat[0, 1:])
    assert ("pos_embed (2x2x2 -> 4x4x4)" in report.adapted) == (side == 16)
    assert "pos_embed (repeated along the depth)" in report.adapted


def test_inflated_kernel_sums_to_the_kernel():
    kernel = formula(jax.ShapeDtypeStruct((3, 3, 2, 4), jnp.float32))
    np.testing.assert_allclose(inflate(kernel, 7).sum(axis=0), kernel, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("features", "stride"), [(5, 1), (4, 2), (2, 1)])
def test_acs_convolution(features, stride):
    """It is a convolution by cubes that are zero outside of one plane."""
    x = jnp.asarray(np.sin(np.arange(6 * 7 * 5 * 2) ** 1.2).reshape(1, 6, 7, 5, 2), jnp.float32)
    model = create_model("resnet3d_10", 2, acs=True)
    layer = model.convolution(features, 3, stride, name="conv")
    variables = formula(jax.eval_shape(layer.init, KEY, x))
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (3, 3, 2, features)
    cubes = np.zeros((3, 3, 3, 2, features), np.float32)
    for axis, channels in enumerate(np.array_split(np.arange(features), 3)):
        np.moveaxis(cubes, axis, 0)[1][..., channels] = kernel[..., channels]
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    strides, padding = (stride,) * 3, ((1, 1),) * 3
    expected = lax.conv_general_dilated(
        x, jnp.asarray(cubes), strides, padding, dimension_numbers=numbers
    )
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def test_acs_model_takes_the_kernels_as_they_are():
    image_model = create_model("resnet18", 2, **RESNET)
    model = create_model("resnet3d_18", 2, acs=True, **RESNET)
    image, volume, report = from_images(image_model, model, shape=(8, 8, 8, 3))
    jax.tree.map(np.testing.assert_array_equal, volume, image)
    assert not report.adapted


@pytest.mark.parametrize("as_file", [True, False])
def test_backbone_of_slices(as_file, tmp_path):
    image_model = create_model("resnet18", 7, **RESNET)
    model = create_model(
        "slices2d", 2, in_channels=1, pool="lstm", pool_width=4, backbone_options=RESNET
    )
    path = tmp_path / "w.safetensors" if as_file else None
    image, volume, report = from_images(image_model, model, path)
    assert report.new == ["across", "head"] and "head" not in volume["params"]
    block = volume["params"]["backbone"]["layer1_0"]
    jax.tree.map(np.testing.assert_array_equal, block, image["params"]["layer1_0"])
    assert report.adapted == ["conv1 (3 -> 1 channels)"]
    assert report.left_out

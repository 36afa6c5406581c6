"""Options of ViTs for the weights of other projects: tokens, norms and pooling."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.layers.positions import resample_positions
from imgcls.models.registry import model_entry
from tests.models.test_vit import random_images, random_variables, shapes, tiny


# Of timm 1.0.31 with 1,000 classes: sum(p.numel() for p in timm.create_model(...).parameters()).
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit_s14_dinov2", 22_441_192),
        ("vit_b14_dinov2", 87_348_712),
        ("vit_s14_reg4_dinov2", 22_442_344),
        ("vit_b14_reg4_dinov2", 87_351_016),
        ("vit_b32_clip", 88_225_000),
        ("vit_b16_clip", 86_568_424),
        ("vit_b16_siglip", 93_653_224),
        ("deit3_s16", 22_059_496),
        ("deit3_b16", 86_585_320),
    ],
)
def test_parameter_count(name, count):
    leaves = jax.tree.leaves(shapes(create_model(name, 1000), model_entry(name).input_size))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == count


def test_options_change_the_parameters():
    plain = set(shapes(tiny(), 8)["params"])
    assert set(shapes(tiny(pool="gap", class_token=True), 8)["params"]) == plain
    assert set(shapes(tiny(fc_norm=True), 8)["params"]) == plain - {"norm"} | {"fc_norm"}
    pooled = shapes(tiny(pool="map"), 8)["params"]
    assert set(pooled) == plain - {"cls_token"} | {"attn_pool"}
    assert set(pooled["attn_pool"]) == {"latent", "q", "kv", "proj", "norm", "mlp"}
    params = shapes(tiny(pre_norm=True), 8)["params"]
    assert set(params) == plain | {"norm_pre"} and "bias" not in params["patch_embed"]
    params = shapes(tiny(registers=3), 8)["params"]
    assert set(params) == plain | {"reg_token"}
    assert params["reg_token"].shape == (1, 3, 8) and params["pos_embed"].shape == (1, 8, 8)
    params = shapes(tiny(registers=3, embed_prefix=False), 8)["params"]
    assert params["pos_embed"].shape == (1, 4, 8)


def layer_norm(x, p):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


@pytest.mark.parametrize("embed_prefix", [True, False])
@pytest.mark.parametrize("fc_norm", [True, False])
@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_features_without_blocks_against_numpy(pool, fc_norm, embed_prefix):
    options = dict(class_token=True, registers=2, depth=0)
    model = tiny(pool=pool, fc_norm=fc_norm, embed_prefix=embed_prefix, **options)
    params = random_variables(model)["params"]
    x = random_images()
    features = jax.jit(lambda p: model.apply({"params": p}, x, features=True))(params)
    patches = x.reshape(2, 2, 4, 2, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 48)
    patches = patches @ params["patch_embed"]["kernel"].reshape(48, 8)
    patches += params["patch_embed"]["bias"] + params["pos_embed"][:, -4:]
    first = params["cls_token"][:, 0]
    if embed_prefix:
        first = first + params["pos_embed"][:, 0]
    norm = lambda tokens: layer_norm(tokens, params["fc_norm" if fc_norm else "norm"])  # noqa: E731
    if pool == "cls":
        expected = np.repeat(norm(first), 2, axis=0)
    else:
        expected = norm(patches.mean(axis=1)) if fc_norm else norm(patches).mean(axis=1)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


def test_blocks_use_the_registers():
    model = tiny(registers=2)
    variables, x = random_variables(model), random_images()
    without = jax.tree.map(lambda leaf: leaf, variables)
    without["params"]["reg_token"] = 0 * variables["params"]["reg_token"]
    assert np.abs(model.apply(variables, x) - model.apply(without, x)).max() > 1e-2


def test_registers_are_not_equal_at_the_start():
    params = jax.jit(tiny(registers=2).init)(jax.random.key(0), random_images())["params"]
    first, second = params["reg_token"][0]
    assert 0 < np.abs(first - second).max() < 1e-4


def test_positions_of_patches_alone_at_another_size():
    model = tiny(registers=2, embed_prefix=False)
    variables = random_variables(model)
    x = np.random.default_rng(2).normal(size=(2, 16, 24, 3)).astype(np.float32)
    larger = jax.tree.map(lambda leaf: leaf, variables)
    larger["params"]["pos_embed"] = resample_positions(
        variables["params"]["pos_embed"], (4, 6), prefix=0
    )
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(variables, x), apply(larger, x), rtol=1e-5, atol=1e-6)


def test_tokens_of_visible_patches_include_all_prefix_tokens():
    model = tiny(registers=2, embed_prefix=False, fc_norm=True)
    variables, keep = random_variables(model), jnp.array([[0, 3], [1, 2]])
    tokens = model.apply(variables, random_images(), keep=keep)
    assert tokens.shape == (2, 5, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(class_token=False), "pool='cls' needs a class token: write class_token=True"),
        (dict(activation="relu"), "activation is 'relu': write 'gelu' or 'quick_gelu'"),
        (dict(registers=-1), "registers is -1: write a number of 0 or more"),
        (dict(distilled=True, registers=4), "write registers=0"),
        (dict(distilled=True, fc_norm=True), "fc_norm=False"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        shapes(tiny(**options), 8)
    assert "\n" not in str(error.value)

"""Heat maps against NumPy and by hand."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import colormaps
from scipy.special import erf, softmax

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.info import DataInfo
from imgcls.models.create import create_model
from imgcls.models.layers.base import EXPLAIN, ImageModel
from imgcls.models.registry import list_models, model_entry
from imgcls.objectives.create import create_objective
from imgcls.predict import explain
from imgcls.predict.slices import contact_sheet
from imgcls.runs.trained import Trained
from tests.conftest import make_mesh

RESNET = dict(name="resnet18", width=8, stage_sizes=(1, 1))
VIT = dict(name="vit_ti4", width=8, depth=3, num_heads=2, mlp_dim=16)


def make_trained(model: dict, side: int, objective: dict | None = None) -> Trained:
    """Makes a model of three classes with random parameters, including the head."""
    config = default_config()
    config.model, config.objective = model, objective or {"name": "supervised"}
    if objective:
        config.data.views = "two"
    info = DataInfo(("a", "b", "c"), False, (side, side, 3))
    made = create_objective(config, info)
    spec = {"image": jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)}
    shapes, state = jax.eval_shape(lambda: made.init(jax.random.key(0), spec))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape, scale=0.3).astype(s.dtype), shapes)
    state = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), state)
    return Trained(config, info, made, make_mesh(), params, state)


def draw_pictures(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), np.uint8)


def normalize(images: np.ndarray) -> np.ndarray:
    return (images / 255 - 0.5) / 0.5


def enlarge(heat: np.ndarray, side: int) -> np.ndarray:
    """Enlarges bilinearly (half-pixel centers, repeated border), and scales the maximum to 1."""

    def weights(size: int) -> np.ndarray:
        matrix = np.zeros((side, size))
        for i in range(side):
            at = np.clip((i + 0.5) * size / side - 0.5, 0, size - 1)
            low = int(at)
            matrix[i, low] += 1 - (at - low)
            matrix[i, min(low + 1, size - 1)] += at - low
        return matrix

    rows, columns = (weights(size) for size in heat.shape)
    large = rows @ heat @ columns.T
    return large / large.max() if large.max() > 0 else large


# ---- Grad-CAM.


@pytest.fixture(scope="module")
def resnet() -> Trained:
    return make_trained(RESNET, side=32)


def test_grad_cam_of_a_pooled_linear_head_is_cam(resnet):
    """The weights of the class times the feature map before pooling (Zhou et al. 2015)."""
    images, classes = draw_pictures(6, 32), np.array([0, 1, 2] * 2)
    found = explain.heat_maps(resnet, images, classes)
    assert found.dtype == np.float32 and found.shape == (6, 32, 32)

    model, variables = resnet.objective.model, {"params": resnet.params, **resnet.model_state}
    features, state = model.apply(
        variables,
        normalize(images),
        features=True,
        capture_intermediates=lambda module, _: module.name == "layer2_0",
        mutable="intermediates",
    )
    last = np.asarray(state["intermediates"]["layer2_0"]["__call__"][0], np.float64)
    np.testing.assert_allclose(last.mean((1, 2)), features, rtol=1e-4, atol=1e-5)
    kernel = resnet.params["head"]["kernel"].astype(np.float64)
    with_heat = 0
    for heat, activations, label in zip(found, last, classes, strict=True):
        expected = enlarge(np.maximum(activations @ kernel[:, label], 0), 32)
        np.testing.assert_allclose(heat, expected, atol=1e-4)
        with_heat += expected.max() > 0
    # Without evidence for the class there is no heat.
    assert 0 < with_heat < 6


def test_probe_is_the_head_of_a_pretrained_model(resnet):
    options = {"name": "simclr", "hidden": 4, "features": 4}
    pretrained = make_trained(RESNET, 32, options | {"probe": True})
    backbone = {k: v for k, v in resnet.params.items() if k != "head"}
    params = {**pretrained.params, "backbone": backbone, "probe": resnet.params["head"]}
    state = {"batch_stats": {"backbone": resnet.model_state["batch_stats"]}}
    pretrained = Trained(**{**vars(pretrained), "params": params, "model_state": state})
    images, classes = draw_pictures(3, 32), np.array([2, 0, 1])
    np.testing.assert_array_equal(
        explain.heat_maps(pretrained, images, classes), explain.heat_maps(resnet, images, classes)
    )
    with pytest.raises(ConfigError, match="this model: was trained as simclr without classes"):
        explain.heat_maps(make_trained(RESNET, 32, options), images, classes)


class Bright(ImageModel):
    """Predicts from brightness, with filters that are set by hand."""

    @nn.compact
    def __call__(self, x, *, train=False, features=False):
        x = nn.relu(nn.Conv(2, (3, 3), strides=2, dtype=self.dtype, name="conv")(x))
        return self.classify_map(x, train, features)


class Flat(ImageModel):
    """Has no feature map."""

    @nn.compact
    def __call__(self, x, *, train=False, features=False):
        return self.classify(x.reshape(len(x), -1), train)


def make_by_hand(outputs: int, mesh=None, **options) -> Trained:
    """Makes a model with a channel for bright pixels (class 1) and one for dark ones (class 0)."""
    kernel = np.ones((3, 3, 3, 2), np.float32) * [1, -1]
    head = np.array([[-1.0, 1.0], [1.0, -1.0]])[:, -outputs:]
    params = {
        "conv": {"kernel": kernel, "bias": np.full(2, -0.01)},
        "head": {"kernel": head, "bias": np.zeros(outputs)},
    }
    model = Bright(outputs, **options)
    objective = types.SimpleNamespace(
        model=model, backbone=None, task="softmax", logits=abs, scores=abs, example_loss=abs
    )
    info = DataInfo(("dark", "bright"), False, (32, 32, 3))
    config = default_config()
    config.data.mean = (127 / 255,) * 3  # so that gray is about 0
    return Trained(config, info, objective, mesh or make_mesh(), params, {})


def plant_squares(count: int, inside: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws gray images with a square of 6 pixels; returns them and masks, bool `[B, H, W]`."""
    rng = np.random.default_rng(2)
    images = np.full((count, 32, 32, 3), 127, np.uint8)
    masks = np.zeros((count, 32, 32), bool)
    for image, mask in zip(images, masks, strict=True):
        y, x = rng.integers(4, 22, 2)
        image[y : y + 6, x : x + 6] = inside
        mask[y : y + 6, x : x + 6] = True
    return images, masks


@pytest.mark.parametrize("outputs", [2, 1])
@pytest.mark.parametrize("label", [0, 1])
def test_heat_is_where_the_class_is(outputs, label):
    """With two logits, and with one logit for two classes."""
    images, masks = plant_squares(5, inside=255 * label)
    trained = make_by_hand(outputs)
    heat = explain.heat_maps(trained, images, np.full(5, label))
    for one, mask in zip(heat, masks, strict=True):
        assert mask[np.unravel_index(one.argmax(), one.shape)]
        assert one.max() == pytest.approx(1, abs=1e-6)
        # The 3x3 filter and the enlargement extend the heat by a few pixels.
        rows, columns = np.nonzero(mask)
        around = np.zeros_like(mask)
        around[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = True
        assert one[around].sum() > 0.999 * one.sum()
    # A bright square is no evidence for "dark": no heat, and no division by zero.
    other = explain.heat_maps(trained, images, np.full(5, 1 - label))
    assert (other[masks] == 0).all()


def test_batches_and_devices_do_not_change_the_result(monkeypatch):
    images, _ = plant_squares(7, inside=255)
    classes = np.array([1, 0, 1, 1, 0, 1, 1])
    expected = explain.heat_maps(make_by_hand(2), images, classes)
    monkeypatch.setattr(explain, "BATCH", 4)
    for trained in (make_by_hand(2), make_by_hand(2, make_mesh(data=2, fsdp=4))):
        found = explain.heat_maps(trained, images, classes)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert explain.heat_maps(make_by_hand(2), images[:0], classes[:0]).shape == (0, 32, 32)


def test_bfloat16():
    images, _ = plant_squares(4, inside=255)
    found, expected = (
        explain.heat_maps(make_by_hand(2, dtype=jnp.dtype(dtype)), images, np.ones(4))
        for dtype in ("bfloat16", "float32")
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_mistakes():
    trained, images = make_by_hand(2), np.zeros((1, 32, 32, 3), np.uint8)
    trained.objective.model = model = Flat(2)
    params = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3)))["params"]
    params = jax.tree.map(lambda s: np.zeros(s.shape), params)
    with pytest.raises(ConfigError, match="Flat has no feature map before its pooling"):
        explain.heat_maps(Trained(**{**vars(trained), "params": params}), images, np.zeros(1, int))


# ---- Attention rollout.


def numpy_attention(params: dict, images: np.ndarray, model) -> list[np.ndarray]:
    """Computes the attention of every block, `[B, heads, N, N]`, by a ViT in NumPy."""

    def norm(x, p):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p["scale"] + p["bias"]

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    side, width = model.patch_size, model.width
    batch, height, _, channels = images.shape
    grid = height // side
    x = images.reshape(batch, grid, side, grid, side, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, grid * grid, -1) @ params["patch_embed"]["kernel"].reshape(-1, width)
    x = x + params["patch_embed"]["bias"]
    tokens = [params[k] for k in ("cls_token", "dist_token") if k in params]
    x = np.concatenate([*(np.repeat(t, batch, 0) for t in tokens), x], 1) + params["pos_embed"]
    found = []
    for index in range(model.depth):
        p = params[f"block{index}"]
        kernel, bias = (p["attn"]["qkv"][k] for k in ("kernel", "bias"))
        branch = norm(x, p["norm1"])
        q, k, v = np.einsum("bnd,dche->cbhne", branch, kernel) + bias[:, None, :, None]
        attention = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1)
        found.append(attention)
        proj = p["attn"]["proj"]
        x = x + np.einsum("bhne,hed->bnd", attention @ v, proj["kernel"]) + proj["bias"]
        hidden = dense(norm(x, p["norm2"]), p["mlp"]["fc1"])
        x = x + dense(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, p["mlp"]["fc2"])
    return found


@pytest.mark.parametrize(
    ("options", "prefix"), [({}, 1), ({"pool": "gap"}, 0), ({"distilled": True}, 2)]
)
def test_rollout(options, prefix):
    trained = make_trained({**VIT, **options}, side=16)
    images = draw_pictures(2, 16)
    found = explain.heat_maps(trained, images, np.array([0, 1]))
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), trained.params)
    layers = numpy_attention(params, normalize(images), trained.objective.model)
    for i in range(2):
        rollout = np.eye(16 + prefix)
        for attention in layers:
            rollout = (0.5 * attention[i].mean(0) + 0.5 * np.eye(16 + prefix)) @ rollout
        row = rollout[0] if prefix else rollout.mean(0)
        expected = enlarge(row[prefix:].reshape(4, 4), 16)
        assert expected.min() < 0.95
        np.testing.assert_allclose(found[i], expected, atol=1e-4)


# ---- All families.

FAMILIES = {
    "airbench94": 3,
    "alexnet": 13,
    "vgg11": 14,
    "vgg11_bn": 14,
    "densenet121": 7,
    "inception_v1": 7,
    "inception_v2": 7,
    "inception_v3": 8,
    "resnet18": 7,
    "resnest50d": 7,
    "regnety_200mf": 7,
    "vit_ti16": 14,
    "deit_ti16_distilled": 14,
}


def test_every_family_is_listed():
    modules = {model_entry(name).module for name in FAMILIES}
    assert modules == {
        entry.module for entry in map(model_entry, list_models()) if entry.spatial_axes == 2
    }


def trace(name: str, **options) -> tuple:
    """Returns a model, and the shapes of its variables and of two images."""
    model = create_model(name, 3, **options)
    x = jax.ShapeDtypeStruct((2, *[model_entry(name).input_size] * 2, 3), jnp.float32)
    return model, jax.eval_shape(model.init, jax.random.key(0), x), x


@pytest.mark.parametrize(("name", "side"), FAMILIES.items())
def test_families_have_a_last_map_or_attention(name, side):
    model, variables, x = trace(name)
    assert EXPLAIN not in variables
    _, state = jax.eval_shape(lambda v, x: model.apply(v, x, mutable=[EXPLAIN]), variables, x)
    shapes = [leaf.shape for leaf in jax.tree.leaves(state[EXPLAIN])]
    if name.startswith(("vit", "deit")):
        tokens = side * side + model.prefix_tokens
        assert shapes == [(2, model.num_heads, tokens, tokens)] * model.depth
    else:
        assert len(shapes) == 1 and shapes[0][:3] == (2, side, side)


@pytest.mark.parametrize("name", ["vgg11", "vit_ti16"])
def test_with_recomputed_blocks(name):
    model, variables, x = trace(name, remat=True)
    if name == "vgg11":
        explained = lambda v, x: explain.grad_cam(model, v, x, jnp.zeros(2, int))  # noqa: E731
    else:
        explained = lambda v, x: explain.attention_rollout(model, v, x)  # noqa: E731
    heat = jax.eval_shape(explained, variables, x)
    assert heat.shape == (2, 14, 14) and heat.dtype == jnp.float32


@pytest.mark.parametrize("pool", ["map", "gap"])
def test_rollout_starts_with_the_pooling_and_leaves_prefix_tokens_out(pool):
    sizes = dict(width=8, depth=1, num_heads=2, mlp_dim=16)
    model = create_model("vit_ti4", 3, pool=pool, class_token=True, registers=2, **sizes)
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(0, 1, leaf.shape).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0), x),
    )
    heat = explain.attention_rollout(model, variables, x)
    _, state = model.apply(variables, x, mutable=[EXPLAIN])
    attention = np.asarray(state[EXPLAIN]["block0"]["attn"]["attention"]).mean(axis=1)
    start = np.zeros((2, 7))
    if pool == "map":
        start[:, 3:] = np.asarray(state[EXPLAIN]["attn_pool"]["attention"])[:, :, 0].mean(axis=1)
    else:
        start[:, 3:] = 1 / 4
    expected = 0.5 * start + 0.5 * np.einsum("bq,bqk->bk", start, attention)
    np.testing.assert_allclose(heat, expected[:, 3:].reshape(2, 2, 2), rtol=1e-4)


# ---- Overlays.


@pytest.mark.parametrize("channels", [1, 3])
def test_overlay(channels):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, channels), np.uint8)
    heat = np.linspace(0, 1, 20).reshape(4, 5)
    found = explain.overlay(image, heat)
    assert found.dtype == np.uint8 and found.shape == (4, 5, 3)
    for y in range(4):
        for x in range(5):
            color = np.array(colormaps["plasma"](heat[y, x])[:3]) * 255
            np.testing.assert_allclose(found[y, x], image[y, x].mean() / 2 + color / 2, atol=0.51)


def test_a_clip_is_shown_by_four_frames():
    clip = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 3), np.uint8)
    sheet = contact_sheet(clip)
    assert sheet.shape == (7, 9, 3)
    corners = (sheet[:3, :4], sheet[:3, 5:], sheet[4:, :4], sheet[4:, 5:])
    assert [np.unique(corner).tolist() for corner in corners] == [[0], [3], [6], [9]]
    heat = np.zeros((10, 3, 4), np.float32)
    heat[6] = 1
    drawn = explain.overlay(clip, heat, is_clip=True).astype(int)
    assert drawn.shape == sheet.shape
    hot, cold = drawn[4:, :4].mean((0, 1)), drawn[:3, :4].mean((0, 1))
    assert hot[0] > 100 and cold[0] < 50  # yellow and dark violet

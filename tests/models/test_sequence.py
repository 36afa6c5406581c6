"""Models of images on slices and frames: what the logits are, which pools know the order, options,
and the true lengths of padded clips.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from tests.models.test_resnet import formula

KEY = jax.random.key(0)
X = np.sin(np.arange(4 * 5 * 6 * 7) ** 1.2).reshape(4, 5, 6, 7, 1).astype(np.float32)
TINY: dict[str, Any] = dict(stem="cifar", width=4, stage_sizes=(1,))


def create(name="resnet18", options=TINY, **others):
    defaults = dict(in_channels=1, pool_width=8, backbone_options=options)
    return create_model("slices2d", 3, backbone=name, **{**defaults, **others})


def create_frames(name, **others):
    return create_model(name, 3, in_channels=1, backbone_options=TINY, **others)


def variables_of(model, x=X):
    return formula(jax.eval_shape(model.init, KEY, x[:1]))


def test_mean_is_the_mean_of_the_features_of_the_slices():
    model = create(axis=1)
    variables = variables_of(model)
    image = create_model("resnet18", 3, in_channels=1, **TINY)
    parts = {name: tree["backbone"] for name, tree in variables.items()}

    @jax.jit
    def both(x):
        total = jnp.zeros(())
        for row in range(x.shape[2]):
            total += jnp.asarray(image.apply(parts, x[:, :, row], features=True))
        return model.apply(variables, x), total / x.shape[2]

    logits, features = both(X)
    head = variables["params"]["head"]
    np.testing.assert_allclose(logits, features @ head["kernel"] + head["bias"], rtol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "lstm", "attention"])
def test_order(pool):
    """Without order, a mirrored volume has the logits of the volume, to rounding."""
    model = create(pool=pool)
    variables = variables_of(model)
    permuted, mirrored = X[:, [2, 0, 1, 4, 3]], X[:, ::-1]
    x = np.concatenate([X, permuted, mirrored])
    logits, *others = np.split(jax.jit(model.apply)(variables, x), 3)
    for other in others:
        difference = np.abs(logits - other).max()
        assert difference < 1e-5 if pool == "mean" else difference > 1e-3


@pytest.mark.parametrize("pool", ["lstm", "attention"])
def test_parameters_are_for_any_number_of_slices(pool):
    model = create(pool=pool, pool_depth=2)
    trees = [jax.eval_shape(model.init, KEY, x) for x in (X, X[:, :1])]
    assert trees[0] == trees[1]
    features = jax.eval_shape(lambda x: model.init_with_output(KEY, x, features=True)[0], X)
    assert features.shape == (4, {"lstm": 16, "attention": 8}[pool])


def test_training_depends_on_the_virtual_batch_alone():
    model = create(virtual_batch_size=2)
    variables = variables_of(model)

    @jax.jit
    def logits(x):
        return model.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    parts = jnp.concatenate([logits(X[:2]), logits(X[2:])])
    np.testing.assert_allclose(logits(X), parts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_ti16", "inception_v1", "vgg11"])
def test_any_backbone(name):
    model = create(name, None)
    x = jax.ShapeDtypeStruct((2, 3, 32, 48, 1), jnp.float32)
    logits, variables = jax.eval_shape(lambda x: model.init_with_output(KEY, x, train=True), x)
    assert logits.shape == (2, 3) and logits.dtype == jnp.float32
    assert set(variables["params"]) == {"backbone", "head"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(pool="max"), "model.pool='max': write 'mean' or 'lstm' or 'attention'"),
        (dict(axis=3), "model.axis=3: write 0 or 1 or 2"),
        (
            dict(name="resnet3d_10"),
            "model.backbone='resnet3d_10': is a model of volumes",
        ),
        (dict(name="airbench94"), "'airbench94': computes a layer from the images of the data"),
        (dict(name="resnet1"), "unknown model 'resnet1'; did you mean 'resnet"),
        (dict(options=dict(stm="cifar")), "no option 'stm'; did you mean 'stem'"),
        (dict(options=dict(in_channels=3)), "model.backbone_options has 'in_channels', which"),
        (dict(pool="attention", pool_heads=3), "pool_width=8: does not divide into 3 heads"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(create(**options).init, KEY, X)


def test_options_are_hashable():
    assert hash(create()) == hash(create()) and create() == create()


FRAMES = {
    "frame_average": ({}, 4),
    "cnn_lstm": (dict(units=6), 6),
    "cnn_gru": (dict(units=6, bidirectional=True, pool="attention"), 12),
    "cnn_rnn": (dict(units=6, pool="mean"), 6),
}


@pytest.mark.parametrize("name", FRAMES)
def test_padded_clips_have_the_logits_of_their_frames(name):
    """Whatever the frames after the true length are; without a length they count."""
    options, width = FRAMES[name]
    model = create_frames(name, **options)
    variables = variables_of(model)
    apply = jax.jit(lambda x, length=None: model.apply(variables, x, length=length))
    length = np.array([5, 3, 3, 3], np.int32)
    padded = np.where((np.arange(5) < length[:, None])[..., None, None, None], X, 100.0)
    logits, padding_counts = apply(padded, length), apply(padded)
    alone = np.concatenate([padding_counts[:1], apply(X[1:, :3])])
    np.testing.assert_allclose(logits, alone, rtol=1e-5, atol=1e-6)
    assert np.abs(padding_counts - logits)[1:].max(axis=1).min() > 1e-3
    features = jax.eval_shape(lambda x: model.apply(variables, x, features=True), X)
    assert features.shape == (4, width)


@pytest.mark.parametrize("name", FRAMES)
def test_order_of_frames(name):
    model = create_frames(name, **FRAMES[name][0])
    variables = variables_of(model)
    logits, mirrored = jax.jit(lambda x: model.apply(variables, x))(np.stack([X[0], X[0, ::-1]]))
    difference = np.abs(logits - mirrored).max()
    assert difference < 1e-5 if name == "frame_average" else difference > 1e-3


def test_recurrent_parameters():
    """ResNet-18 without its head, and four gates of an LSTM with one bias each."""
    x = jnp.zeros((1, 2, 32, 32, 3))
    params = jax.eval_shape(create_model("cnn_lstm", 400).init, KEY, x)["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    backbone = 11_689_512 - 513_000
    assert count == backbone + 4 * 512 * (512 + 512 + 1) + 513 * 400


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cnn_lstm", dict(cell="ltsm"), "model.cell='ltsm': write 'lstm' or 'gru' or 'rnn'"),
        ("cnn_lstm", dict(pool="max"), "model.pool='max': write 'last' or 'mean' or 'attention'"),
        ("cnn_gru", dict(layers=0), "model.layers=0: write a number of 1 or more"),
        ("frame_average", dict(backbone="cnn_rnn"), "'cnn_rnn': is a model of volumes or clips"),
    ],
)
def test_mistakes_of_frames(name, options, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(create_frames(name, **options).init, KEY, X)

"""Every model of clips: shapes, dtypes, options that it shares with others, and mistakes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.core.flops import count_flops
from imgcls.models.create import create_model
from imgcls.models.registry import list_models, model_entry
from tests.models.test_resnet import formula

KEY = jax.random.key(0)
_IMAGES = {"backbone_options": {"width": 4, "stage_sizes": (1,), "stem": "cifar"}}
_NET: dict[str, Any] = {"width": 8, "stage_sizes": (1, 1)}
_VIT = {"width": 12, "depth": 2, "num_heads": 2, "mlp_dim": 16}
# Options that make each model small, and the width of its features then.
SMALL: dict[str, tuple[dict[str, Any], int]] = {
    "frame_average": (_IMAGES, 4),
    **{f"cnn_{cell}": ({**_IMAGES, "units": 6}, 6) for cell in ("lstm", "gru", "rnn")},
    **{name: (_NET, 16) for name in ("r3d_18", "mc3_18", "r2plus1d_18", "tsm_r18")},
    **{name: (_NET, 64) for name in ("c2d_r50", "i3d_r50", "slow_r50", "tsm")},
    **{name: (_NET, 72) for name in ("slowfast_r50", "slowfast_r50_8x8")},
    "s3d": ({"width": 8}, 128),
    "timesformer_b16": (_VIT, 12),
    "vit3d_b16x2": (_VIT, 12),
    "vivit_b16x2": ({**_VIT, "time_depth": 1}, 12),
}


# Others of a family are tested with the slow tests.
FIRST = (
    *("frame_average", "cnn_lstm", "r2plus1d_18", "i3d_r50", "tsm_r18", "slowfast_r50", "s3d"),
    *("timesformer_b16", "vit3d_b16x2", "vivit_b16x2"),
)
FAMILIES = [n if n in FIRST else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]


def small(name, **options):
    return create_model(name, 5, in_channels=2, **{**SMALL[name][0], **options})


def clips(*shape):
    return jax.ShapeDtypeStruct((*shape, 2), jnp.float32)


def test_names():
    names = [name for name in list_models() if model_entry(name).input_frames is not None]
    assert names == sorted(SMALL)
    assert model_entry("r3d_18").input_shape == (16, 112, 112)
    assert create_model("vivit_ti8x4", 3).patch_sides == (4, 8, 8)
    assert create_model("vit3d_l16x4", 3).patch_sides == (4, 16, 16)
    assert create_model("timesformer_s8", 3).patch_sides == (1, 8, 8)


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_and_dtypes(name):
    """Logits, features and parameters are float32, whatever the computation is in."""
    model = small(name, dtype="bfloat16")
    x = clips(2, 8, 32, 32)
    logits, variables = jax.eval_shape(lambda x: model.init_with_output(KEY, x), x)
    assert logits.shape == (2, 5) and logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    features = jax.eval_shape(lambda v, x: model.apply(v, x, features=True), variables, x)
    assert features.shape == (2, SMALL[name][1]) and features.dtype == jnp.float32
    recomputed = jax.eval_shape(small(name, remat=True).init, KEY, x)
    assert jax.tree.map(jnp.shape, recomputed) == jax.tree.map(jnp.shape, variables)
    for other in (clips(2, 16, 16 if name != "s3d" else 32, 64), clips(1, 24, 32, 48)):
        assert jax.eval_shape(model.apply, variables, other).shape == (other.shape[0], 5)


@pytest.mark.parametrize("name", ["r2plus1d_18", "slowfast_r50_8x8", "timesformer_b16"])
def test_remat_computes_blocks_again(name):
    x, costs = clips(2, 8, 32, 32), []
    for remat in (False, True):
        model = small(name, remat=remat, drop_rate=0.0)
        variables = dict(jax.eval_shape(model.init, KEY, x))
        params, state = variables.pop("params"), variables

        def loss(params, state, x, model=model):
            variables = {"params": params, **state}
            return model.apply(variables, x, train=True, mutable=[*state])[0].sum()

        costs.append(count_flops(jax.make_jaxpr(jax.grad(loss))(params, state, x).jaxpr))
    assert costs[1] > 1.1 * costs[0]


SLOW = {"marks": pytest.mark.slow}


@pytest.mark.parametrize(
    "name", ["r2plus1d_18", pytest.param("s3d", **SLOW), pytest.param("slowfast_r50", **SLOW)]
)
def test_training_depends_on_the_virtual_batch_alone(name):
    model = small(name, virtual_batch_size=2, drop_rate=0.0)
    side = 32 if name == "s3d" else 16
    x = np.random.default_rng(0).normal(size=(4, 8, side, side, 2)).astype(np.float32)
    variables = formula(jax.eval_shape(model.init, KEY, x))
    apply = jax.jit(lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])[0])
    parts = jnp.concatenate([apply(x[:2]), apply(x[2:])])
    np.testing.assert_allclose(apply(x), parts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "shape", "message"),
    [
        ("r3d_18", {}, (1, 8, 8), r"takes volumes .* or clips \[B, T, H, W, C\]"),
        ("r3d_18", dict(stage_sizes=(1,) * 5), (1, 8, 8, 8), "stage_sizes has 5 stages: write"),
        ("r3d_18", dict(shortcut="pad"), (1, 8, 8, 8), "no shortcut but 'conv'"),
        ("i3d_r50", dict(factorized=True), (1, 8, 8, 8), "bottlenecks are not: write bottleneck"),
        ("slowfast_r50", {}, (1, 12, 8, 8), "model.alpha=8: does not divide the 12 frames"),
        ("slowfast_r50", dict(width=4), (1, 8, 8, 8), "model.beta=8: is more than model.width=4"),
        ("s3d", {}, (1, 4, 32, 32), "4x32x32 pixels are too small: the sides must have 5x17x17"),
        ("timesformer_b16", {}, (1, 8, 8, 16), "8x8x16 do not divide into patches of 1x16x16"),
        ("timesformer_b16", dict(scan=True), (1, 8, 16, 16), "scan=True: is for ViTs of images"),
        ("vivit_b16x2", {}, (1, 3, 16, 16), "3x16x16 do not divide into patches of 2x16x16"),
        ("vivit_b16x2", dict(distilled=True), (1, 2, 16, 16), "distilled=True: is for ViTs of im"),
    ],
)
def test_mistakes(name, options, shape, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(small(name, **options).init, KEY, clips(*shape))

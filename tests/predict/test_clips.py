"""Heat maps of clips: over time and space, for every family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.data.info import DataInfo
from imgcls.models.create import create_model
from imgcls.models.layers.base import EXPLAIN
from imgcls.objectives.create import create_objective
from imgcls.predict import explain
from imgcls.runs.trained import Trained
from tests.conftest import make_mesh
from tests.models.test_clips import FAMILIES, clips, small
from tests.models.test_resnet import formula

KEY = jax.random.key(0)
# Frames, rows and columns of the last map of a clip of 16x32x64.
GRIDS = {
    **dict.fromkeys(("frame_average", "cnn_lstm", "cnn_gru", "cnn_rnn"), (16, 32, 64)),
    **dict.fromkeys(("tsm", "tsm_r18", "slow_r50"), (16, 4, 8)),
    **dict.fromkeys(("c2d_r50", "i3d_r50"), (8, 4, 8)),
    **dict.fromkeys(("r3d_18", "r2plus1d_18"), (8, 8, 16)),
    "mc3_18": (16, 8, 16),
    "slowfast_r50": (2, 4, 8),
    "slowfast_r50_8x8": (4, 4, 8),
    "s3d": (2, 1, 2),
    "timesformer_b16": (16, 2, 4),
    "vivit_b16x2": (8, 2, 4),
}


def name_of(case) -> str:
    return case if isinstance(case, str) else case.values[0]


# Transformers of one sequence of tubelets have no map, as those of images.
@pytest.mark.parametrize("name", [case for case in FAMILIES if "vit3d" not in name_of(case)])
def test_every_family_has_a_map(name):
    model, x = small(name), clips(2, 16, 32, 64)
    variables = jax.eval_shape(model.init, KEY, clips(1, 16, 32, 32))
    classes = jnp.zeros(2, int)
    heat = jax.eval_shape(lambda v, x: explain.grad_cam(model, v, x, classes), variables, x)
    assert heat.shape == (2, *GRIDS[name])


def test_a_model_of_frames_sees_each_frame():
    """The heat of a frame is that of its image, divided by the number of frames."""
    options = dict(stem="cifar", width=4, stage_sizes=(1, 1))
    image = create_model("resnet18", 3, **options)
    model = create_model("frame_average", 3, backbone_options=options)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 12, 3)).astype(np.float32)
    variables = formula(jax.eval_shape(model.init, KEY, x))
    of_image = {name: dict(tree["backbone"]) for name, tree in variables.items()}
    of_image["params"]["head"] = variables["params"]["head"]
    classes = np.array([0, 2])
    heat = jax.jit(lambda x: explain.grad_cam(model, variables, x, classes))(x)
    expected = jax.jit(lambda x: explain.grad_cam(image, of_image, x, np.repeat(classes, 3)))(
        x.reshape(6, 8, 12, 3)
    )
    assert heat.shape == (2, 3, 4, 6)
    np.testing.assert_allclose(heat.reshape(6, 4, 6) * 3, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["timesformer_ti4", "vivit_ti4x1"])
def test_transformers_are_explained_by_the_patches_before_the_last_block(name):
    """Against finite differences of the logit in each channel of these patches."""
    sizes = dict(width=12, depth=1, num_heads=2, mlp_dim=16)
    model = create_model(name, 3, **sizes)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8, 3)).astype(np.float32)
    variables = formula(jax.eval_shape(model.init, KEY, x))
    step, grid = 0.02, (1, 3, 2, 2, 12)

    @jax.jit
    def measure(offsets):
        def logit(offset):
            logits, state = model.apply(
                {**variables, EXPLAIN: {"map": offset}}, x, mutable=[EXPLAIN]
            )
            return logits[0, 1], state[EXPLAIN]["map"]

        values, maps = jax.vmap(logit)(offsets)
        return values, maps[-1], explain.grad_cam(model, variables, x, jnp.array([1]))

    channels = step * np.eye(12, dtype=np.float32)[:, None, None, None, None]
    offsets = np.broadcast_to(np.concatenate([channels, -channels, 0 * channels[:1]]), (25, *grid))
    values, patches, heat = measure(offsets)
    # The mean of the gradient over the 12 patches.
    weights = (values[:12] - values[12:24]) / (2 * step) / 12
    expected = np.maximum(np.einsum("bthwd,d->bthw", patches, weights), 0)
    np.testing.assert_allclose(heat, expected, rtol=0.02, atol=0.01 * expected.max())


def test_frames_of_padding_have_no_heat():
    """The heat of a padded clip is that of the clip without its padding."""
    config = default_config()
    backbone = dict(stem="cifar", width=4, stage_sizes=(1, 1))
    config.model = dict(name="cnn_lstm", backbone="resnet18", backbone_options=backbone, units=8)
    info = DataInfo(("a", "b", "c"), False, (6, 8, 12, 3))
    objective = create_objective(config, info)
    variables = formula(jax.eval_shape(objective.model.init, KEY, jnp.zeros((1, 6, 8, 12, 3))))
    state = {name: tree for name, tree in variables.items() if name != "params"}
    trained = Trained(config, info, objective, make_mesh(), variables["params"], state)
    rng = np.random.default_rng(0)
    x, classes = rng.integers(0, 256, (2, 6, 8, 12, 3)).astype(np.uint8), np.array([0, 2])
    heat = explain.heat_maps(trained, x, classes, np.array([6, 4]))
    np.testing.assert_allclose(heat[0], explain.heat_maps(trained, x, classes)[0], atol=1e-5)
    expected = explain.heat_maps(trained, x[:, :4], classes)[1]
    assert expected.max() == 1
    np.testing.assert_allclose(heat[1, :4], expected, atol=1e-5)
    np.testing.assert_array_equal(heat[1, 4:], 0)
    # What is shown in the padding changes nothing.
    x[1, 4:] = 255 - x[1, 4:]
    np.testing.assert_array_equal(explain.heat_maps(trained, x, classes, np.array([6, 4])), heat)

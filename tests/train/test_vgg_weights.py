"""timm's VGGs compute other logits than this package at 256 pixels and more, which is logged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from imgcls.core.config import load
from imgcls.core.state import TrainState
from imgcls.data.create import create_reader, describe, open_split
from imgcls.models.create import create_model
from imgcls.models.weights import load as weights
from imgcls.models.weights.tables import layouts
from imgcls.objectives.create import create_objective
from imgcls.train.initialize import import_weights

SMALL = dict(widths=(2, 2, 2, 2, 2), hidden=4)


@pytest.mark.parametrize(
    ("project", "train", "evaluation", "warns"),
    [
        ("timm", 224, 224, False),
        ("timm", 224, 255, False),
        ("timm", 224, 256, True),
        ("timm", 288, 224, True),
        # By the names in the file.
        ("", 256, 256, True),
        # torchvision averages maps, as this package.
        ("torchvision", 256, 256, False),
    ],
)
def test_warning(tmp_path, capsys, project, train, evaluation, warns):
    model = create_model("vgg11", 10, in_channels=1, **SMALL)
    image = np.zeros((1, 32, 32, 1), np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    file = tmp_path / "model.safetensors"
    layout = layouts(model, project or "timm")[0]
    save_file(weights.dump(model, variables, layout), file)

    config = load("configs/digits.py")
    config.model = {"name": "vgg11", **SMALL}
    config.init_from = f"{project}:{file}" if project else str(file)
    config.data.train_transform = f"resize(({train}, {train}))"
    config.data.eval_transform = f"resize(({evaluation}, {evaluation}))"
    source = open_split(config, "train")
    info = describe(config, create_reader(config, source, train=True))
    objective = create_objective(config, info)
    spec = {"image": jax.ShapeDtypeStruct((1, train, train, 1), jnp.uint8)}
    params, state = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
    import_weights(config, objective, TrainState(jnp.int32(0), params, state, {}, None), source)
    lines = [line for line in capsys.readouterr().err.splitlines() if "VGG" in line]
    assert len(lines) == warns
    if warns:
        side = max(train, evaluation)
        assert lines[0].startswith(f"warning: init_from {config.init_from}: at 256 pixels and more")
        assert f"(here {side})" in lines[0] and "the logits differ from timm's" in lines[0]

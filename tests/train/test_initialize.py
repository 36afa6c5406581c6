"""Initial values from the training data or from other weights."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import DataError
from imgcls.core.state import TrainState
from imgcls.data.info import DataInfo
from imgcls.data.sources.open import create_source
from imgcls.objectives.create import create_objective
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained
from imgcls.train.initialize import arrays_from_data, import_weights


class Means:
    """A model whose initial parameter is the mean image."""

    def init_from_data(self, images):
        self.images = images
        return {"params": {"mean": images.mean(0)}}


def make_config():
    config = default_config()
    config.data.update({"channels": 1, "mean": (0.3,), "std": (0.4,)})
    config.data.train_transform, config.data.eval_transform = "flip", "resize((8, 8))"
    return config


def make_objective(model, backbone=None):
    return types.SimpleNamespace(model=model, backbone=backbone)


def test_images_are_the_first_training_images_normalized(monkeypatch):
    monkeypatch.setattr("imgcls.train.initialize.NUM_EXAMPLES", 40)
    source, model = create_source("digits", "train"), Means()
    arrays = arrays_from_data(make_config(), make_objective(model), source)
    images = np.stack([source[i]["image"] for i in range(40)])
    np.testing.assert_allclose(model.images, (images / 255 - 0.3) / 0.4, atol=1e-6)
    assert model.images.dtype == np.float32
    jax.tree.map(np.testing.assert_array_equal, arrays, {"params": {"mean": model.images.mean(0)}})


def test_few_images_and_a_backbone():
    source = create_source("digits", "train[:7]")
    model = Means()
    arrays = arrays_from_data(make_config(), make_objective(model, "backbone"), source)
    assert len(model.images) == 7 and arrays["params"]["backbone"]["mean"].shape == (8, 8, 1)


def test_other_models_use_no_data():
    source = create_source("digits", "train[:7]")
    assert arrays_from_data(make_config(), make_objective(object()), source) is None


def test_unreadable_images_are_skipped_or_an_error():
    source = create_source("digits", "train[:7]")

    class Damaged:
        class_names, multi_label = source.class_names, False
        unreadable = (0, 3)

        def __len__(self):
            return 7

        def __getitem__(self, index):
            if index in self.unreadable:
                raise DataError("cut off")
            return source[index]

        def name(self, index):
            return str(index)

    config, model = make_config(), Means()
    config.data.on_error = "skip"
    arrays_from_data(config, make_objective(model), Damaged())
    assert len(model.images) == 5
    Damaged.unreadable = range(7)
    with pytest.raises(DataError, match="none of the first"):
        arrays_from_data(config, make_objective(model), Damaged())


def test_weights_of_another_run(workdir, capsys):
    """The averaged parameters of its backbone, and the averaged batch statistics."""
    config = default_config()
    config.init_from = str(workdir)
    config.model = dict(name="resnet18", width=8, stage_sizes=(1, 1), stem="cifar")
    objective = create_objective(config, DataInfo(tuple("abcd"), False, (8, 8, 1)))
    spec = {"image": jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.uint8)}
    params, model_state = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
    shapes = TrainState(None, params, model_state, None)
    source = create_source("digits", "train[:7]")
    initial = import_weights(config, objective, shapes, source)
    assert "left out: head (10 classes); new: head (4 classes)\n" in capsys.readouterr().out
    assert "head" not in initial["params"]
    trained = load_trained(find_checkpoint(workdir))
    np.testing.assert_array_equal(
        initial["params"]["conv1"]["kernel"], trained.params["conv1"]["kernel"]
    )
    np.testing.assert_array_equal(
        initial["batch_stats"]["bn1"]["mean"], trained.model_state["batch_stats"]["bn1"]["mean"]
    )

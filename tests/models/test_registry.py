"""The registry of models, and creation by name."""

import jax
import jax.numpy as jnp
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.registry import list_models, model_entry


def test_list_models():
    names = list_models()
    assert names == sorted(names)
    assert {"resnet50", "vit_ti16", "vit_s16", "vit_b16", "vit_l16", "vit_h14"} <= set(names)
    assert list_models("resnet*5*") == ["resnet152", "resnet3d_50", "resnet50", "resnet50d"]


def test_models_have_common_options():
    """Models without stochastic depth accept drop_path=0."""
    for name in list_models():
        model = create_model(
            name, 7, in_channels=4, dtype="bfloat16", drop_rate=0.1, drop_path=0.0, remat=True
        )
        assert (model.num_classes, model.in_channels, model.drop_rate) == (7, 4, 0.1)
        assert model.dtype == jnp.bfloat16 and model.remat


def test_published_accuracy_has_a_source():
    """Accuracy is on ImageNet; models for 32 pixels have none."""
    for name in list_models():
        entry = model_entry(name)
        assert entry.source, name
        other_data = entry.input_size == 32 or entry.spatial_axes != 2
        assert (entry.top1 is None) == other_data, name
        assert entry.top1 is None or 55 < entry.top1 < 90, name


def test_entry():
    entry = model_entry("resnet50")
    assert entry.input_size == 224
    assert "virtual_batch_size" in entry.options and "num_classes" not in entry.options


def test_any_patch_size_by_name():
    assert "vit_s4" not in list_models()
    model = create_model("vit_s4", 10)
    assert (model.patch_size, model.width, model.num_classes) == (4, 384, 10)


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")])
def test_dtype(dtype):
    assert create_model("vit_ti16", 10, dtype=dtype).dtype == jnp.bfloat16


def test_options_override_defaults_of_the_name():
    assert create_model("vit_ti16", 10, depth=2).depth == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet5", {}, "unknown model 'resnet5'; did you mean 'resnet50'"),
        ("vit_s0", {}, "unknown model 'vit_s0'"),
        ("vit_b16", {"drop_pth": 0.1}, "no option 'drop_pth'; did you mean 'drop_path'"),
        ("vit_b16", {"virtual_batch_size": 8}, "valid: .*drop_path, drop_rate"),
        ("resnet50", {"parent": None}, "no option 'parent'"),
        ("resnet50", {"dtype": "float23"}, "'float23': write 'float32' or 'bfloat16'"),
        ("resnet50", {"dtype": "float16"}, "write 'float32' or 'bfloat16'"),
        ("resnet50", {"num_classes": 0}, "num_classes is 0"),
        ("resnet50", {"in_channels": 0}, "in_channels is 0"),
        ("resnet50", {"drop_rate": 1.0}, "drop_rate is 1.0: write a number from 0 to below 1"),
        ("vgg16", {"drop_path": 0.1}, "model 'vgg16' has no option 'drop_path'"),
    ],
)
def test_mistakes(name, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        create_model(name, **{"num_classes": 10, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["resnet18", "vit_ti16"])
def test_features_without_a_head(name):
    model = create_model(name, 10)
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    features, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, features=True), images
    )
    assert features.ndim == 2 and features.dtype == jnp.float32
    assert "head" not in variables["params"]

"""Meshes, partition rules, and the rows of a batch on a process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from imgcls.core import defaults
from imgcls.core.errors import ConfigError
from imgcls.core.state import TrainState
from imgcls.distributed import sharding
from tests.conftest import make_mesh


def shapes(**arrays):
    return {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in arrays.items()}


@pytest.mark.parametrize(
    "sizes, expected",
    [((-1, 1, 1), (8, 1, 1)), ((-1, 4, 1), (2, 4, 1)), ((2, 2, -1), (2, 2, 2)), ((8, 1, 1),) * 2],
)
def test_mesh_uses_all_devices(sizes, expected):
    c = defaults.default_config()
    c.mesh.data, c.mesh.fsdp, c.mesh.model = sizes
    mesh = sharding.create_mesh(c)
    assert tuple(mesh.shape.values()) == expected and mesh.axis_names == sharding.AXES


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 8, 1), (4, 1, 1)])
def test_mesh_that_does_not_fit(sizes):
    c = defaults.default_config()
    c.mesh.data, c.mesh.fsdp, c.mesh.model = sizes
    with pytest.raises(ConfigError, match="does not fit 8 devices"):
        sharding.create_mesh(c)


def test_rules_match_path_and_shape():
    mesh = make_mesh(data=1, fsdp=4, model=2)
    tree = {
        "params": {
            "block0": {"mlp": {"fc1": shapes(kernel=(64, 128), bias=(128,))}},
            "head": shapes(kernel=(64, 10), bias=(10,)),
            "odd": shapes(kernel=(3, 3, 5)),
        },
        "opt_state": [{"mu": {"block0": {"mlp": {"fc2": shapes(kernel=(128, 64))}}}}],
        "step": jax.ShapeDtypeStruct((), jnp.int32),
    }
    placed = sharding.partition(tree, mesh)
    assert placed["params"]["block0"]["mlp"]["fc1"]["kernel"].spec == P("fsdp", "model")
    assert placed["params"]["block0"]["mlp"]["fc1"]["bias"].spec == P("model")
    assert placed["params"]["head"]["kernel"].spec == P("fsdp")
    assert placed["params"]["head"]["bias"].spec == P()
    assert placed["params"]["odd"]["kernel"].spec == P()
    assert placed["opt_state"][0]["mu"]["block0"]["mlp"]["fc2"]["kernel"].spec == P("model", "fsdp")
    assert placed["step"].spec == P()
    own = sharding.partition(tree, mesh, ((r"head/kernel", (None, "model")),))
    assert own["params"]["head"]["kernel"].spec == P(None, "model")


@pytest.mark.parametrize(
    "rule, message",
    [(("kernel", ("rows", None)), "not an axis"), (("kernel", (None, "fsdp")), "does not divide")],
)
def test_invalid_rules(rule, message):
    with pytest.raises(ConfigError, match=message):
        sharding.partition(shapes(kernel=(64, 10)), make_mesh(fsdp=4), (rule,))


def test_path_names():
    """Names of the fields of a dataclass, keys of a dict and indices of a tuple."""
    state = TrainState(step=0, params={"conv1": {"kernel": 1}}, model_state={}, opt_state=(2, 3))
    names = [sharding.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert names == ["step", "params/conv1/kernel", "opt_state/0", "opt_state/1"]


def test_local_rows_and_global_batch():
    mesh = make_mesh(data=2, fsdp=2, model=2)
    np.testing.assert_array_equal(sharding.local_rows(mesh, 12), np.arange(12))
    batch = {"image": np.arange(12 * 4, dtype=np.uint8).reshape(12, 2, 2)}
    placed = sharding.to_global(mesh, batch, 12)["image"]
    np.testing.assert_array_equal(placed, batch["image"])
    assert {s.data.shape for s in placed.addressable_shards} == {(3, 2, 2)}
    assert sharding.num_shards(mesh) == 4


@pytest.mark.parametrize(
    "changes, nearest",
    [
        (dict(batch_size=30), 32),
        (dict(batch_size=48, accumulate=8), 64),
        (dict(batch_size=0), 4),
    ],
)
def test_batch_that_does_not_divide(changes, nearest):
    c = defaults.default_config()
    c.update(changes)
    with pytest.raises(ConfigError, match=f"for example {nearest}$"):
        sharding.check_batch(c, make_mesh(data=4))


def test_batch_divides_into_batch_norm_groups():
    c = defaults.default_config()
    c.batch_size, c.model.virtual_batch_size = 64, 32
    sharding.check_batch(c, make_mesh(data=2))
    with pytest.raises(ConfigError, match=r"4 \(devices\) x 32 \(model.virtual_batch_size\) = 128"):
        sharding.check_batch(c, make_mesh(data=4))

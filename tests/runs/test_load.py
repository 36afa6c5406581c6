"""Checkpoints: complete, exact, kept as configured, and restorable on other meshes."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest

from imgcls.core import config as config_lib
from imgcls.core import defaults
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.data.info import DataInfo
from imgcls.distributed import sharding
from imgcls.objectives.create import create_objective
from imgcls.runs.best import BestMetric
from imgcls.runs.load import Checkpoint, find_checkpoint
from imgcls.runs.save import Checkpointer
from imgcls.runs.trained import load_eval_variables
from imgcls.train.optim import create_optimizer
from imgcls.train.step import create_state
from tests.conftest import make_mesh

INFO = DataInfo(("ant", "bee", "cat"), False, (8, 8, 3))


def make_config():
    c = defaults.default_config()
    c.ema, c.optim.name = 0.9, "adamw"
    c.model = {
        "name": "vit_ti4",
        "dtype": "float32",
        "depth": 1,
        "width": 64,
        "num_heads": 4,
        "mlp_dim": 128,
    }
    return c


def make_state(config, mesh, seed=0):
    """A fresh state, and its shapes with shardings."""
    objective = create_objective(config, INFO)
    spec = {"image": jax.ShapeDtypeStruct((2, *INFO.image_shape), np.uint8)}
    params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
    optimizer, _ = create_optimizer(config, Durations(config, 100), params)
    fresh = functools.partial(create_state, objective, optimizer, seed, spec)
    shapes = jax.eval_shape(fresh)
    placement = sharding.partition(shapes, mesh)
    state = jax.jit(fresh, out_shardings=placement)()
    return state, sharding.with_sharding(shapes, placement)


def assert_equal(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("target", [dict(data=2), dict(fsdp=2), dict(data=2, fsdp=2, model=2)])
def test_state_is_restored_on_other_meshes(target, tmp_path):
    config = make_config()
    state, _ = make_state(config, make_mesh(fsdp=4))
    saved = Checkpointer(str(tmp_path), config, INFO)
    saved.save(3, state)
    saved.close()
    _, abstract = make_state(config, make_mesh(**target), seed=1)
    other = Checkpointer(str(tmp_path), config, INFO)
    assert other.latest_step == 3
    restored = other.restore(abstract, 3)
    other.close()
    assert_equal(restored, state)
    for array, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(abstract), strict=True):
        assert array.sharding == wanted.sharding


def steps_kept(tmp_path, values: list[float | None], best: BestMetric, **changes) -> list[int]:
    config = make_config()
    config.checkpoint.update(changes)
    state, _ = make_state(config, make_mesh())
    checkpointer = Checkpointer(str(tmp_path), config, INFO, best)
    for step, value in enumerate(values, start=1):
        checkpointer.save(step, state, None if value is None else {best.name: value, "x": 0.0})
    checkpointer.close()
    return sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())


def test_last_and_best_are_kept(tmp_path):
    values = [0.1, 0.9, None, 0.5, None, 0.3, None]
    best = BestMetric("test/accuracy", "higher")
    assert steps_kept(tmp_path, values, best, keep_last=2) == [2, 6, 7]


def test_best_of_a_metric_whose_lower_values_are_better(tmp_path):
    best = BestMetric("val/ece", "lower")
    assert steps_kept(tmp_path, [0.5, 0.1, 0.7, 0.9], best, keep_last=1) == [2, 4]


def test_meta_has_what_inference_needs(tmp_path):
    config = make_config()
    config.data.eval_transform = "resize((8, 8))"
    config.data.mean = (0.1, 0.2, 0.3)
    checkpointer = Checkpointer(str(tmp_path), config, INFO)
    checkpointer.save(1, make_state(config, make_mesh())[0])
    checkpointer.close()
    ours, info = find_checkpoint(tmp_path).read_meta()
    assert config_lib.changed_keys(ours, config) == {} and info == INFO
    meta = json.loads((tmp_path / "checkpoints" / "1" / "meta" / "metadata").read_text())
    assert meta["class_names"] == ["ant", "bee", "cat"] and meta["model"] == "vit_ti4"
    assert meta["preprocessing"] == {
        "transform": "resize((8, 8))",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
        "channels": 3,
    }
    assert meta["versions"]["jax"] == jax.__version__


def test_eval_variables_are_those_of_the_state(tmp_path):
    config = make_config()
    state, _ = make_state(config, make_mesh())
    state = state.replace(target=jax.tree.map(lambda x: x + 1, state.target))
    checkpointer = Checkpointer(str(tmp_path), config, INFO)
    checkpointer.save(1, state)
    checkpointer.close()
    objective = create_objective(config, INFO)
    mesh = make_mesh(model=2)
    variables = load_eval_variables(find_checkpoint(tmp_path), objective, INFO, mesh)
    assert_equal(variables[""][0], state.params)
    assert_equal(variables["ema_"][0], state.target["params"])
    kernel = variables[""][0]["block0"]["mlp"]["fc1"]["kernel"]
    assert kernel.sharding.mesh == mesh and kernel.addressable_shards[0].data.shape == (64, 64)


def test_incomplete_checkpoints_are_ignored(tmp_path):
    """An incomplete checkpoint is not listed, and does not prevent the next one."""
    config = make_config()
    state, abstract = make_state(config, make_mesh())
    checkpointer = Checkpointer(str(tmp_path), config, INFO)
    checkpointer.save(1, state)
    checkpointer.close()
    root = tmp_path / "checkpoints"
    shutil.copytree(root / "1", root / "2.orbax-checkpoint-tmp-17")
    assert find_checkpoint(tmp_path).path == root / "1"
    again = Checkpointer(str(tmp_path), config, INFO)
    assert again.latest_step == 1
    again.save(2, state)
    assert_equal(again.restore(abstract, 2), state)
    again.close()
    assert find_checkpoint(tmp_path).path == root / "2"
    assert find_checkpoint(root / "1").path == root / "1"


def test_path_workdir_and_name_of_a_checkpoint(tmp_path):
    config = make_config()
    checkpointer = Checkpointer(str(tmp_path / "digits"), config, INFO)
    checkpointer.save(3, make_state(config, make_mesh())[0])
    checkpointer.close()
    path = tmp_path / "digits" / "checkpoints" / "3"
    for argument in (tmp_path / "digits", path):
        found = find_checkpoint(argument)
        assert found == Checkpoint(path, tmp_path / "digits", 3) and found.name == "digits-3"
    copy = find_checkpoint(shutil.copytree(path, tmp_path / "best"))
    assert copy == Checkpoint(tmp_path / "best", tmp_path, 0) and copy.name == "best"


def test_no_checkpoint_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint there"):
        find_checkpoint(tmp_path)

"""The training step: sharding, memory, accumulation, tensor parallelism, images of any rank."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import defaults
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.data import create as data_lib
from imgcls.data.info import DataInfo
from imgcls.data.loading.batch_loader import BatchPlan
from imgcls.data.loading.loader import Loader
from imgcls.data.loading.reader import Reader
from imgcls.distributed import sharding
from imgcls.models.layers.norm import BatchNorm
from imgcls.objectives.create import create_objective
from imgcls.train import optim
from imgcls.train.step import create_state, make_train_step
from tests.conftest import make_mesh

CLASSES = 10


def make_config(**changes) -> ConfigDict:
    c = defaults.default_config()
    c.batch_size = 32
    c.total = "100 steps"
    c.model = ConfigDict(dict(name="resnet18", stem="cifar", width=8, stage_sizes=(1, 1)))
    c.model.virtual_batch_size = 4
    c.data.mean, c.data.std = (0.5,), (0.25,)
    return config_lib.override(c, [f"--config.{k}={v}" for k, v in changes.items()])


def make_batch(mesh, config, shape=(8, 8, 3), seed=0) -> dict:
    rng = np.random.default_rng(seed)
    rows = config.batch_size
    batch = {
        "image": rng.integers(0, 256, (rows, *shape), np.uint8),
        "label": rng.integers(0, CLASSES, rows).astype(np.int32),
        "index": np.arange(rows, dtype=np.int32),
        "mask": np.ones(rows, np.float32),
    }
    return sharding.to_global(mesh, batch, rows)


def start(config, mesh, shape=(8, 8, 3), objective=None):
    """An initial state and the training step."""
    info = DataInfo(tuple(map(str, range(CLASSES))), False, shape)
    objective = objective or create_objective(config, info)
    spec = {"image": jax.ShapeDtypeStruct((config.batch_size, *shape), jnp.uint8)}
    params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
    optimizer, schedule = optim.create_optimizer(config, Durations(config, 1000), params)
    fresh = functools.partial(create_state, objective, optimizer, config.seed, spec)
    placement = sharding.partition(jax.eval_shape(fresh), mesh, config.mesh.rules)
    state = jax.jit(fresh, out_shardings=placement)()
    transforms = data_lib.create_batch_transforms(config)
    step = make_train_step(objective, optimizer, schedule, transforms, config, mesh, placement)
    return state, step


def run(config, mesh, steps=2, **kwargs):
    state, step = start(config, mesh, **kwargs)
    losses = []
    for number in range(steps):
        batch = make_batch(mesh, config, kwargs.get("shape", (8, 8, 3)), number)
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return jax.device_get(state), losses


def test_transformer_uses_eigen_for_matrix_products():
    config = make_config()
    config.model = ConfigDict(dict(name="vit_ti4", width=16, depth=1, num_heads=2, mlp_dim=32))
    mesh = sharding.create_mesh(config)
    state, step = start(config, mesh)
    lines = step.lower(state, make_batch(mesh, config)).compile().as_text().splitlines()
    products = [line for line in lines if " dot(" in line and "qkv/dot_general" in line]
    fused = [line for line in lines if "kind=kCustom" in line and "qkv/dot_general" in line]
    assert products and not fused


def assert_close(ours, theirs, atol=1e-5):
    flat = jax.tree_util.tree_leaves_with_path(theirs)
    for (path, value), other in zip(flat, jax.tree.leaves(ours), strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(other, value, rtol=0, atol=atol, err_msg=name)


def test_batch_norm_adds_no_collective():
    """One combined all-reduce on 4 devices, but many with statistics of the full batch."""

    def all_reduces(group: int) -> int:
        config = make_config(**{"model.virtual_batch_size": group})
        mesh = make_mesh(data=4)
        state, step = start(config, mesh)
        hlo = step.lower(state, make_batch(mesh, config)).compile().as_text()
        # XLA combines the reductions of metrics and gradients where it can.
        return len(re.findall(r"= .* all-reduce(?:-start)?\(", hlo))

    assert all_reduces(4) <= 2
    assert all_reduces(32) > 8


def test_step_compiles_once_and_donates_its_state():
    config, mesh = make_config(), make_mesh(data=2)
    state, step = start(config, mesh)
    old = jax.tree.leaves(state.params)[0]
    for number in range(3):
        state, _ = step(state, make_batch(mesh, config, seed=number))
    assert step._cache_size() == 1
    assert old.is_deleted()


def uses_the_host(hlo: str) -> bool:
    return re.search(r"\b(infeed|outfeed|send|recv)(-done)?\(|callback", hlo) is not None


def test_step_stays_on_the_device():
    """No transfer to or from the host, and every array of the state is updated in place."""
    config, mesh = make_config(ema=0.9), make_mesh()
    config.data.batch_transform = "mixup(0.2)|random_erasing(0.25)"
    state, step = start(config, mesh)
    hlo = step.lower(state, make_batch(mesh, config)).compile().as_text()
    assert not uses_the_host(hlo)
    assert len(re.findall(r"\b(?:may|must)-alias\b", hlo)) == len(jax.tree.leaves(state))
    printing = jax.jit(lambda x: (jax.debug.print("{}", x), x)[1]).lower(1.0).compile()
    assert uses_the_host(printing.as_text())


def test_accumulation_equals_the_full_batch():
    """1, 2 and 4 parts on 1 and 2 devices give the same update and batch statistics."""
    small = {"model.stage_sizes": (1,)}
    full, _ = run(make_config(**small), make_mesh())
    for parts, devices in ((2, 1), (4, 1), (2, 2)):
        ours, _ = run(make_config(accumulate=parts, **small), make_mesh(data=devices))
        assert_close(ours, full)


def test_randomness_does_not_depend_on_devices():
    changes = {
        "data.batch_transform": "random_erasing(0.5)|mixup_or_cutmix(0.8, 1.0)",
        "model.drop_rate": 0.5,
        "model.drop_path": 0.5,
        "accumulate": 2,
        "ema": 0.5,
    }
    one, _ = run(make_config(**changes), make_mesh())
    four, _ = run(make_config(**changes), make_mesh(data=4))
    assert_close(four, one)


def vit_config(**changes) -> ConfigDict:
    config = make_config(**changes)
    config.model = ConfigDict(dict(name="vit_ti4", depth=2, num_heads=4, width=64, mlp_dim=128))
    config.optim.name, config.optim.learning_rate = "adamw", 1e-3
    config.ema = 0.9
    return config


@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param(dict(fsdp=4), marks=pytest.mark.slow),
        pytest.param(dict(model=4), marks=pytest.mark.slow),
        dict(data=2, fsdp=2, model=2),
    ],
)
def test_sharded_transformer_equals_the_replicated_one(mesh):
    theirs, losses = run(vit_config(), make_mesh())
    ours, our_losses = run(vit_config(), make_mesh(**mesh))
    np.testing.assert_allclose(our_losses, losses, rtol=0, atol=1e-5)
    assert_close(ours.model_state, theirs.model_state)
    # Adam divides by the magnitude of the gradient: if that is rounding noise, so is the sign.
    moved = jax.tree.map(lambda a, b: np.mean(np.abs(a - b) > 1e-4), ours.params, theirs.params)
    assert max(jax.tree.leaves(moved)) < 0.02


def test_fsdp_holds_a_quarter_on_each_device():
    """At most 30 % of the bytes of parameters, moments and average are on each of 4 devices."""
    config = vit_config()
    config.model = ConfigDict(dict(name="vit_s16", depth=2))
    mesh = make_mesh(fsdp=4)
    state, _ = start(config, mesh, shape=(32, 32, 3))
    arrays = jax.tree.leaves((state.params, state.opt_state, state.target))
    total = sum(a.nbytes for a in arrays)
    held = dict.fromkeys(mesh.devices.flat, 0)
    for array in arrays:
        for shard in array.addressable_shards:
            held[shard.device] += shard.data.nbytes
    assert total > 50_000_000
    assert max(held.values()) <= 0.30 * total


@dataclasses.dataclass
class Clips:
    """A source of short videos, uint8 `[T, H, W, C]`."""

    class_names = tuple(map(str, range(CLASSES)))
    multi_label = False

    def __len__(self):
        return 20

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        return {"image": rng.integers(0, 256, (4, 6, 6, 3), np.uint8), "label": index % CLASSES}

    def name(self, index):
        return f"clip {index}"


class VideoNet(nn.Module):
    """A small 3-D convolution model."""

    num_classes: int

    @nn.compact
    def __call__(self, x, *, train=False, features=False):
        x = nn.Conv(8, (3, 3, 3), name="conv")(x)
        x = nn.relu(BatchNorm(2, name="bn")(x, train=train))
        x = nn.Dropout(0.1, deterministic=not train)(x.mean((1, 2, 3)))
        return x if features else nn.Dense(self.num_classes, name="head")(x)


def test_video():
    """Loader, batch transforms, step and sharding with `[B, T, H, W, C]`."""
    config = make_config(
        batch_size=8, ema=0.9, **{"data.batch_transform": "mixup(0.2)|cutmix(1.0)|random_erasing"}
    )
    mesh = make_mesh(data=2)
    shape = (4, 6, 6, 3)
    info = DataInfo(Clips.class_names, False, shape)
    objective = create_objective(config, info)
    objective.model = VideoNet(CLASSES)
    state, step = start(config, mesh, shape, objective)
    loader = Loader(BatchPlan(Reader(Clips(), [], 0, True), mesh, 8, 0, 3))
    before = jax.device_get(state.params)
    for batch in loader:
        assert batch["image"].shape == (8, *shape)
        state, metrics = step(state, batch)
        assert np.isfinite(metrics["loss"])
    loader.close()
    assert int(state.step) == 3
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, jax.device_get(state.params))
    assert min(jax.tree.leaves(change)) > 0


def test_model_refuses_an_invalid_batch_size():
    config, mesh = make_config(**{"model.virtual_batch_size": 5}), make_mesh()
    state, step = start(config, mesh)
    with pytest.raises(ConfigError, match="virtual_batch_size=5"):
        step(state, make_batch(mesh, config))

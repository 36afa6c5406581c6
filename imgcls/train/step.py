"""The initial state and the jitted training step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.core.state import TrainState
from imgcls.data.transforms import batch as batch_transforms
from imgcls.data.transforms.batch import normalize_batch
from imgcls.distributed import sharding
from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.norm import (
    FROZEN_MODES,
    VARIANCES,
    BatchNormMode,
    batch_norm_mode,
)
from imgcls.train.frozen import add_zeros, frozen_layers, is_frozen, merge, split
from imgcls.train.nonfinite import keep_if_finite


def create_state(
    objective, optimizer: optax.GradientTransformation, seed: int, batch_spec, initial=None
) -> TrainState:
    """Creates the initial state; call it under `jit` with the shardings of the state.

    Args:
      objective: objective with its model.
      optimizer: gradient transformation built by `create_optimizer`.
      seed: seed of the parameters.
      batch_spec: ShapeDtypeStructs of a batch.
      initial: arrays that replace random ones: a part of `{"params": ..., **model_state}`.
    """
    params, model_state = objective.init(jax.random.key(seed), batch_spec)
    if initial is not None:
        flat = traverse_util.flatten_dict({"params": params, **model_state})
        model_state = traverse_util.unflatten_dict(flat | traverse_util.flatten_dict(initial))
        params = model_state.pop("params")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        target=objective.init_target(params, model_state),
    )


def make_train_step(
    objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    transforms: list,
    config: ConfigDict,
    mesh: Mesh,
    state_sharding: TrainState,
) -> Callable:
    """Creates the jitted step `(state, batch) -> (state, metrics)`, which donates the state.

    Its randomness depends on the seed and `state.step`, not on the devices.

    Args:
      objective: objective with its model.
      optimizer, schedule: results of `create_optimizer`.
      transforms: batch transforms, see `imgcls.data.transforms.batch`.
      config: config; `seed`, `accumulate`, `guard.skip`, `data.mean`, `data.std`, `batch_norm`,
        `optim.multipliers` and `model.virtual_batch_size` are read.
      mesh: device mesh.
      state_sharding: state with a NamedSharding for each array.
    """
    mode = _batch_norm_mode(config, state_sharding.params)

    def train_step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
        batch_rng, loss_rng = jax.random.split(rng)
        batch = normalize_batch(batch, config)
        batch = batch_transforms.apply(batch, batch_rng, transforms, objective.num_outputs)
        with batch_norm_mode(mode):
            grads, model_state, metrics = _gradients(
                objective, state, batch, loss_rng, config, mesh
            )
        grads = add_zeros(grads, state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        target = objective.update_target(state.target, params, model_state, state.step)
        metrics |= {
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
        }
        new = TrainState(state.step + 1, params, model_state, opt_state, target)
        return keep_if_finite(new, state, metrics) if config.guard.skip else new, metrics

    model = objective.model
    options = model.compiler_options if isinstance(model, ImageModel) else {}
    return jax.jit(
        train_step,
        in_shardings=(state_sharding, sharding.batch_sharding(mesh)),
        out_shardings=(state_sharding, sharding.replicated(mesh)),
        donate_argnums=0,
        compiler_options=options.get(mesh.devices.flat[0].platform),
    )


def _batch_norm_mode(config: ConfigDict, params) -> BatchNormMode:
    variance = config.batch_norm.variance or VARIANCES[0]
    frozen = config.batch_norm.frozen or FROZEN_MODES[0]
    check_choice("batch_norm.variance", variance, VARIANCES)
    check_choice("batch_norm.frozen", frozen, FROZEN_MODES)
    layers = frozen_layers(config.optim.multipliers, params)
    return BatchNormMode(variance == "one_pass", layers if frozen == "evaluate" else frozenset())


def _gradients(objective, state: TrainState, batch: dict, rng, config: ConfigDict, mesh: Mesh):
    """Gradients, model state and metrics, averaged over the `config.accumulate` parts of a batch.

    Frozen parameters have None in place of a gradient.

    All parts start from the same model state. BatchNorm's update is linear in the statistics, so
    the average of the parts' states is the state after one pass over the full batch.
    """

    frozen = is_frozen(config.optim.multipliers, state.params)
    trained, rest = split(state.params, frozen)

    def part_gradients(part, rng):
        def loss(trained):
            params = merge(trained, rest)
            return objective.loss(params, state.model_state, state.target, part, rng, state.step)

        (_, (model_state, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(trained)
        return grads, model_state, metrics

    count = config.accumulate
    if count == 1:
        return part_gradients(batch, rng)
    parts = _split(batch, count, config.model.get("virtual_batch_size") or 1, mesh)

    def add(total, part_and_index):
        part, index = part_and_index
        result = part_gradients(part, jax.random.fold_in(rng, index))
        return jax.tree.map(jnp.add, total, result), None

    shapes = jax.eval_shape(part_gradients, jax.tree.map(lambda x: x[0], parts), rng)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (parts, jnp.arange(count)))
    return jax.tree.map(lambda x: x / count, total)


def _split(batch: dict, count: int, group: int, mesh: Mesh) -> dict:
    """`[B, ...]` -> `[count, B / count, ...]`, in groups of consecutive examples.

    BatchNorm groups are not split. Part k consists of every count-th group, so that each device
    keeps its examples, and parts do not depend on the number of devices.
    """
    part_sharding = NamedSharding(mesh, PartitionSpec(None, sharding.BATCH_AXES))

    def split(x):
        pattern = "(groups part example) ... -> part (groups example) ..."
        parts = rearrange(x, pattern, part=count, example=group)
        return jax.lax.with_sharding_constraint(parts, part_sharding)

    return jax.tree.map(split, batch)

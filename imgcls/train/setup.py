"""Config -> data -> model -> state: what a run needs before its first step."""

import dataclasses
import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core import durations, log
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import load_plugins
from imgcls.core.state import TrainState
from imgcls.data.create import (
    create_batch_transforms,
    create_reader,
    describe,
    open_split,
)
from imgcls.data.sources.source import Source
from imgcls.distributed import sharding
from imgcls.evaluate.create import create_evaluators
from imgcls.objectives.create import create_objective
from imgcls.runs.metrics_log import check_wandb
from imgcls.runs.profile import check_profile
from imgcls.runs.record import Record, Stretch
from imgcls.runs.save import Checkpointer
from imgcls.train import optim, preflight
from imgcls.train.compile_cache import Programs, in_background, use_compile_cache
from imgcls.train.initialize import arrays_from_data, import_weights
from imgcls.train.nonfinite import check_guard
from imgcls.train.preflight import check_same_run
from imgcls.train.step import create_state, make_train_step


@dataclasses.dataclass
class Run:
    """What `set_up` makes of a config, and `train` runs."""

    mesh: Mesh
    source: Source
    objective: Any
    evaluators: dict[str, tuple[int, Any]]
    checkpointer: Checkpointer
    programs: Programs
    shapes: TrainState  # of the state, with its shardings
    state: Future[TrainState]  # a fresh one is made while the training step is compiled
    step_fn: Callable
    first: int  # the step to continue from; 0 is a fresh start
    record: Record  # of that step
    total: int
    log_every: int
    checkpoint_every: int


def set_up(
    config: ConfigDict, workdir: str, accept_changes: bool, stretch: Stretch | None = None
) -> Run:
    """Config -> data -> model -> state; every mistake in the config shows here.

    Args:
      config, workdir, accept_changes: of `train`.
      stretch: of bad numbers, to go back to before it and on with other data.
    """
    # Config.
    load_plugins(config)
    preflight.check_start(config, workdir, accept_changes)
    use_compile_cache(config)
    mesh = sharding.create_mesh(config)
    sharding.check_batch(config, mesh)
    check_wandb(config)
    check_guard(config)
    check_profile(config)
    check_same_run(config, workdir, accept_changes)

    # Data.
    source = open_split(config, config.data.train_split)
    info = describe(config, source, create_reader(config, source, train=True))
    preflight.check_data(source, info)
    transforms = create_batch_transforms(config)
    to_steps = functools.partial(durations.steps, config=config, num_examples=len(source))
    total = to_steps(config.total, where="total")
    if total < 1:
        raise ConfigError(f"config.total={config.total!r}: training takes at least a step")

    # Model.
    objective = create_objective(config, info)
    batch_spec = {"image": jax.ShapeDtypeStruct((config.batch_size, *info.image_shape), jnp.uint8)}
    params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), batch_spec))
    optimizer, schedule = optim.create_optimizer(config, len(source), params)
    evaluators = create_evaluators(config, objective, mesh, info, len(source))

    # State.
    fresh = functools.partial(create_state, objective, optimizer, config.seed, batch_spec)
    shapes = jax.eval_shape(fresh)
    placement = sharding.partition(shapes, mesh, config.mesh.rules)
    shapes = sharding.with_sharding(shapes, placement)
    log_every = max(to_steps(config.log.every, where="log.every"), 1)
    checkpoint_every = max(to_steps(config.checkpoint.every, where="checkpoint.every"), 1)
    checkpointer = Checkpointer(workdir, config, info)
    programs = Programs(config, info, objective, mesh)
    if stretch is not None:
        checkpointer.go_back(stretch)
    first, record = checkpointer.latest_step or 0, checkpointer.record()
    if stretch is not None:
        record.shift = stretch.last - first
    state = Future()
    if first:
        state.set_result(checkpointer.restore(shapes))
        log.info(f"continue at step {first} of {total} from {workdir}")
    else:
        if config.init_from:
            given = import_weights(config, objective, shapes)
        else:
            given = arrays_from_data(config, objective, source)
        create = jax.jit(fresh, out_shardings=placement)
        state = in_background(lambda: programs.compile("create_state", create, given)(given))
    describe_run(config, shapes, source, mesh, total)
    step_fn = make_train_step(objective, optimizer, schedule, transforms, config, mesh, placement)
    parts = (mesh, source, objective, evaluators, checkpointer, programs, shapes, state, step_fn)
    return Run(*parts, first, record, total, log_every, checkpoint_every)


def describe_run(config: ConfigDict, shapes: TrainState, source, mesh: Mesh, total: int) -> None:
    """Says what is about to be trained, in a line."""
    count = sum(x.size for x in jax.tree.leaves(shapes.params))
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    log.info(
        f"{config.model.name} ({count:,} parameters) on {len(source):,} examples of "
        f"{config.data.source}, {total} steps of {config.batch_size}; "
        f"{jax.device_count()} {jax.devices()[0].device_kind} devices ({axes})"
    )

"""Sets up a run: config -> data -> model -> state."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from concurrent.futures import Future

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import load_plugins
from imgcls.core.state import TrainState
from imgcls.data.create import (
    create_batch_transforms,
    create_reader,
    describe,
    open_data,
    open_split,
)
from imgcls.data.loading.reader import Reader
from imgcls.data.missing_splits import replace_missing_splits
from imgcls.data.summary import log_dataset
from imgcls.distributed import sharding
from imgcls.evaluate.create import create_evaluators
from imgcls.evaluate.evaluator import Evaluator
from imgcls.evaluate.keep_best import find_best_metric
from imgcls.objectives.create import create_objective
from imgcls.objectives.objective import Objective
from imgcls.runs.best import BestMetric
from imgcls.runs.profile import warn_if_too_late
from imgcls.runs.record import Record, Stretch
from imgcls.runs.save import Checkpointer
from imgcls.train import preflight
from imgcls.train.compile_cache import Programs, in_background, use_compile_cache
from imgcls.train.initialize import initial_arrays
from imgcls.train.optim import create_optimizer
from imgcls.train.progress import check_progress
from imgcls.train.step import create_state, make_train_step


@dataclasses.dataclass(kw_only=True)
class Training:
    """A run that is set up but not started.

    Attributes:
      mesh: device mesh.
      reader: reader of the training split, `reader.source`.
      objective: objective with its model.
      evaluators: `{name: (interval in steps, evaluator)}`.
      best: metric that ranks the checkpoints; None if `checkpoint.keep_best` is not set.
      checkpointer: checkpoints of the workdir; holds its lock.
      programs: compiled programs.
      shapes: shapes of the state, with shardings.
      state: initial state; a new one is made while the training step is compiled.
      step_fn: training step, jitted but not compiled.
      first: step to continue from; 0 for a new run.
      record: record of the run up to `first`.
      total: number of training steps.
      log_every: interval between two logs, in steps.
      checkpoint_every: interval between two checkpoints, in steps.
    """

    mesh: Mesh
    reader: Reader
    objective: Objective
    evaluators: dict[str, tuple[int, Evaluator]]
    best: BestMetric | None
    checkpointer: Checkpointer
    programs: Programs
    shapes: TrainState
    state: Future[TrainState]
    step_fn: Callable
    first: int
    record: Record
    total: int
    log_every: int
    checkpoint_every: int


def set_up(
    config: ConfigDict, workdir: str, accept_changes: bool, stretch: Stretch | None = None
) -> Training:
    """Sets up a run: config -> data -> model -> state. Errors of the config are raised here.

    Args:
      config, workdir, accept_changes: see `imgcls.train.loop.train`.
      stretch: steps with values that are not finite; training goes back to before them and
        continues with new data.
    """
    # Config.
    load_plugins(config)
    replace_missing_splits(config)
    mesh = preflight.check_start(config, workdir, accept_changes)
    use_compile_cache(config)

    # Data.
    data = open_data(config, write_classes=True)
    source = open_split(config, config.data.train_split, data)
    reader = create_reader(config, source, train=True)
    info = describe(config, reader)
    preflight.check_same_data(source, info)
    log_dataset(data, source, config.data.train_split)
    transforms = create_batch_transforms(config)
    durations = Durations(config, len(source))
    check_progress(config, workdir, len(source))

    # Model.
    objective = create_objective(config, info)
    shape = (config.batch_size, *info.image_shape)
    batch_spec = {"image": jax.ShapeDtypeStruct(shape, info.image_dtype)}
    params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), batch_spec))
    optimizer, schedule = create_optimizer(config, durations, params)
    evaluators = create_evaluators(config, objective, mesh, info, durations)

    # State.
    create = functools.partial(create_state, objective, optimizer, config.seed, batch_spec)
    shapes = jax.eval_shape(create)
    placement = sharding.partition(shapes, mesh, config.mesh.rules)
    shapes = sharding.with_sharding(shapes, placement)
    log_every = max(durations.to_steps(config.log.every, "log.every"), 1)
    checkpoint_every = max(durations.to_steps(config.checkpoint.every, "checkpoint.every"), 1)
    prefixes = objective.eval_variables(shapes)
    best = find_best_metric(config, {name: e for name, (_, e) in evaluators.items()}, prefixes)
    checkpointer = Checkpointer(workdir, config, info, best)
    with contextlib.ExitStack() as opened:
        opened.callback(checkpointer.close)
        programs = Programs(config, info, objective, mesh)
        first, record = _find_start(checkpointer, stretch)
        if first > durations.total:
            raise _passed(config, workdir, first, durations.total)
        if first:
            state = Future()
            state.set_result(checkpointer.restore(shapes, first))
            log.info(f"continue at step {first} of {durations.total} from {workdir}")
        else:
            given = initial_arrays(config, objective, shapes, source)
            jitted = jax.jit(create, out_shardings=placement)
            state = in_background(lambda: programs.compile("create_state", jitted, given)(given))
        opened.pop_all()
        return Training(
            mesh=mesh,
            reader=reader,
            objective=objective,
            evaluators=evaluators,
            best=best,
            checkpointer=checkpointer,
            programs=programs,
            shapes=shapes,
            state=state,
            step_fn=make_train_step(
                objective, optimizer, schedule, transforms, config, mesh, placement
            ),
            first=first,
            record=record,
            total=durations.total,
            log_every=log_every,
            checkpoint_every=checkpoint_every,
        )


def _find_start(checkpointer: Checkpointer, stretch: Stretch | None) -> tuple[int, Record]:
    """Step from which to start, 0 for a new run, and its record; goes back before `stretch`.

    It is decided here because the workdir is locked: before, another run may have saved
    checkpoints.
    """
    if stretch is not None:
        checkpointer.go_back(stretch)
    first = checkpointer.latest_step or 0
    record = checkpointer.record(first)
    if stretch is not None:
        record.shift = stretch.last - first
    return first, record


def _passed(config: ConfigDict, workdir: str, first: int, total: int) -> ConfigError:
    return ConfigError(
        f"config.total={config.total!r}: ends at step {total}, but {workdir} is at step {first} "
        "already: train longer, or start from it in a new --workdir with "
        f"config.init_from={workdir}:{first}"
    )


def warn_of_settings(config: ConfigDict, first: int, total: int) -> None:
    """Logs settings that are valid but probably not what the user wants.

    Args:
      config: config of the run.
      first, total: step from which the run starts or continues, and its last step.
    """
    preflight.warn_of_smoothing(config)
    preflight.warn_of_short_run(config, total)
    warn_if_too_late(config, first, total)


def describe_run(config: ConfigDict, training: Training) -> None:
    """Logs the model, the data and the devices in one line, and warns of settings."""
    count = sum(x.size for x in jax.tree.leaves(training.shapes.params))
    axes = " x ".join(f"{axis} {size}" for axis, size in training.mesh.shape.items())
    examples = len(training.reader.source)
    log.info(
        f"{config.model.name} ({count:,} parameters) on {examples:,} examples of "
        f"{config.data.source}, {training.total} steps of {config.batch_size}; "
        f"{jax.device_count()} {jax.devices()[0].device_kind} devices ({axes})"
    )
    warn_of_settings(config, training.first, training.total)

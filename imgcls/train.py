"""The training loop: the only one, for every objective."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls import alike, optim, processes, sharding, weights
from imgcls import config as config_lib
from imgcls.checkpoint import check_same_run
from imgcls.checkpointer import Checkpointer
from imgcls.data import (
    check_skipped,
    create_batch_transforms,
    create_reader,
    create_train_loader,
    describe,
    open_split,
)
from imgcls.data.sources import Source
from imgcls.errors import ConfigError
from imgcls.evaluators import create_evaluators
from imgcls.goodput import Goodput
from imgcls.guard import PendingMetrics, Record, Stretch, WentBad, check_guard
from imgcls.initial import arrays_from_data
from imgcls.objectives import backbone_variables, create_objective, place_backbone
from imgcls.profile import Profile, check_profile
from imgcls.programs import Programs, in_background, use_compile_cache
from imgcls.state import TrainState
from imgcls.step import create_state, make_train_step
from imgcls.writer import StartClock, Writer, check_wandb, say


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


def train(
    config: ConfigDict, workdir: str, accept_changes: bool = False, clock: StartClock | None = None
) -> dict[str, float] | None:
    """Trains what the config says, or continues where the workdir's newest checkpoint ends.

    Args:
      config: see `imgcls.config`.
      workdir: gets the checkpoints and logs.
      accept_changes: continue though the config differs from the checkpoint's.
      clock: has run since the process began; a new one begins here.

    Returns:
      The last evaluation's metrics (empty if the run was complete before); None if it was stopped
      by SIGTERM, and is to be continued.

    Raises:
      ConfigError: a setting that can't work; nothing has been written then.
      DataError: an unreadable record, with `data.on_error='fail'`.
      TrainingError: a loss or gradient that is not finite, where `config.guard` has no way on.
    """
    clock, stretch = clock or StartClock(), None
    goodput = Goodput(workdir, clock.began)
    while True:
        run = set_up(config, workdir, accept_changes, stretch)
        clock.lap("set-up")
        try:
            return run_steps(config, workdir, run, clock, goodput)
        except WentBad as bad:
            # As if the command was typed again, but with the data that comes after the stretch.
            stretch, clock = bad.stretch, StartClock()
            del run


def run_steps(
    config: ConfigDict, workdir: str, run: Run, clock: StartClock, goodput: Goodput
) -> dict[str, float] | None:
    """The loop itself: steps from `run.first` to the last; arguments and results as of `train`.

    Raises:
      WentBad: the run is to go back.
    """
    total, shift = run.total, run.record.shift
    results: dict[str, float] = {}
    skipped = 0
    loader = create_train_loader(config, run.source, run.mesh, run.first + shift, total + shift)
    writer = Writer(workdir, config, run.first, total)
    pending, profile = PendingMetrics(config, run.record), Profile(config, workdir)
    if run.first < total:
        goodput.begin(run.first, run.record)
    try:
        for step, batch in enumerate(loader, start=run.first + 1):
            profile.before(step)
            if step == run.first + 1:
                clock.lap("first batch")
                step_fn = run.programs.compile("train_step", run.step_fn, run.shapes, batch)
                state = run.state.result()
                clock.lap("programs")
                goodput.restart()
            state, metrics = step_fn(state, batch)
            pending.add(step, metrics)
            writer.progress(step)
            last, stopping = step == total, processes.stop_asked(step)
            if step == run.first + 1:
                pending.check_all()
                clock.tell("step")
                writer.restart_clock(step)

            # What is due now? All of it has to wait for the step, which may have gone bad.
            logs = step % run.log_every == 0 or last
            due = {n: e for n, (every, e) in run.evaluators.items() if last or step % every == 0}
            if stopping and not last:
                due = {}  # The machine is about to be taken away.
            saves = last or stopping or step % run.checkpoint_every == 0
            if logs or due or saves:
                measured = pending.check_all()
                goodput.count(step, pending.record)

            # Log.
            if logs:
                if skipped := check_skipped(config, loader):
                    measured["skipped_records"] = skipped
                writer.train_metrics(step, measured, goodput.metrics())
                goodput.keep()

            # Evaluate.
            if due:
                results = writer.eval_metrics(step, evaluate(run.objective, state, due))
                check_keep_best(config, results, due)
                writer.restart_clock(step)

            # Checkpoint, but never a state that has gone bad, nor one that may: among updates that
            # are left out it would take the place of a good one.
            judged = bool(due) and config.checkpoint.keep_best in results
            proven = last or stopping or not pending.record.in_a_row
            if (saves or judged) and proven:
                record = dataclasses.replace(pending.record, useful_seconds=goodput.useful)
                run.checkpointer.save(step, state, results if judged else None, record)
            if logs or due or saves:
                goodput.restart()
            if stopping and not last:
                run.checkpointer.finish()
                say(f"stopped at step {step} of {total}; type the same command again to continue")
                return None
        run.checkpointer.finish()
    finally:
        # Also after an error: the checkpoint under way is completed, and nothing is left running.
        loader.close()
        profile.close()
        writer.close()
        run.checkpointer.close()
    left_out = f", {skipped} unreadable records were skipped" if skipped else ""
    say(f"done: {total} steps, {workdir}{left_out}{goodput.told()}")
    return results


def set_up(
    config: ConfigDict, workdir: str, accept_changes: bool, stretch: Stretch | None = None
) -> Run:
    """Config -> data -> model -> state; every mistake in the config shows here.

    Args:
      config, workdir, accept_changes: of `train`.
      stretch: of bad numbers, to go back to before it and on with other data.
    """
    # Config.
    alike.check_start(config, workdir, accept_changes)
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
    alike.check_data(source, info)
    transforms = create_batch_transforms(config)
    to_steps = functools.partial(config_lib.steps, config=config, num_examples=len(source))
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
        say(f"continue at step {first} of {total} from {workdir}")
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


def import_weights(config: ConfigDict, objective, shapes: TrainState) -> dict:
    """The arrays that `config.init_from` gives to a fresh state; says what was taken."""
    variables = backbone_variables(objective, shapes.params, shapes.model_state)
    given, report = weights.load(config.init_from, objective.model, variables, config.init_head)
    say(str(report))
    return place_backbone(objective, given)


def evaluate(objective, state: TrainState, evaluators: dict) -> dict[str, Any]:
    """`{'name/metric': number or picture}` of the evaluators on the state's variables."""
    variables = objective.eval_variables(state)
    return {
        f"{name}/{key}": value
        for name, evaluator in evaluators.items()
        for key, value in evaluator.run(variables).items()
    }


def check_keep_best(config: ConfigDict, results: dict[str, float], due: Iterable[str]) -> None:
    """Raises a ConfigError if `checkpoint.keep_best` is none of its evaluator's metrics."""
    best = config.checkpoint.keep_best
    if best is not None and best.split("/")[0] in due and best not in results:
        config_lib.check_choice("checkpoint.keep_best", best, results)


def describe_run(config: ConfigDict, shapes: TrainState, source, mesh: Mesh, total: int) -> None:
    """Says what is about to be trained, in a line."""
    count = sum(x.size for x in jax.tree.leaves(shapes.params))
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    say(
        f"{config.model.name} ({count:,} parameters) on {len(source):,} examples of "
        f"{config.data.source}, {total} steps of {config.batch_size}; "
        f"{jax.device_count()} {jax.devices()[0].device_kind} devices ({axes})"
    )

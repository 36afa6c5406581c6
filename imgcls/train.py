"""The training loop: the only one, for every objective."""

import collections
import dataclasses
import functools
import math
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls import config as config_lib
from imgcls import optim, sharding, weights
from imgcls.checkpoint import Checkpointer, check_same_run
from imgcls.data import (
    check_skipped,
    create_batch_transforms,
    create_reader,
    create_train_loader,
    describe,
    open_split,
)
from imgcls.data.sources import Source
from imgcls.errors import ConfigError, TrainingError
from imgcls.evaluators import create_evaluators
from imgcls.initial import arrays_from_data
from imgcls.objectives import backbone_variables, create_objective, place_backbone
from imgcls.programs import Programs, in_background, use_compile_cache
from imgcls.state import TrainState
from imgcls.step import create_state, make_train_step
from imgcls.writer import StartClock, Writer, check_wandb, say

# A step's metrics are read this many steps later, so that the device never waits for the host.
METRICS_LAG = 2


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
    total: int
    log_every: int
    checkpoint_every: int


def train(
    config: ConfigDict, workdir: str, accept_changes: bool = False, clock: StartClock | None = None
) -> dict[str, float]:
    """Trains what the config says, or continues where the workdir's newest checkpoint ends.

    Args:
      config: see `imgcls.config`.
      workdir: gets the checkpoints and logs.
      accept_changes: continue though the config differs from the checkpoint's.
      clock: has run since the process began; a new one begins here.

    Returns:
      The last evaluation's metrics (empty if the run was complete before, or is to be continued).

    Raises:
      ConfigError: a setting that can't work; nothing has been written then.
      DataError: an unreadable record, with `data.on_error='fail'`.
      TrainingError: a loss that is not finite.
    """
    clock = clock or StartClock()
    run = set_up(config, workdir, accept_changes)
    clock.lap("set-up")
    total = run.total
    results: dict[str, float] = {}
    skipped = 0
    loader = create_train_loader(config, run.source, run.mesh, run.first, total)
    writer = Writer(workdir, config, run.first, total)
    pending, stop = PendingMetrics(), StopSignal()
    try:
        for step, batch in enumerate(loader, start=run.first + 1):
            profile(config, workdir, step)
            if step == run.first + 1:
                clock.lap("first batch")
                step_fn = run.programs.compile("train_step", run.step_fn, run.shapes, batch)
                state = run.state.result()
                clock.lap("programs")
            state, metrics = step_fn(state, batch)
            pending.add(step, metrics)
            writer.progress(step)
            last, stopping = step == total, stop.received(step)

            # Log.
            if step == run.first + 1:
                pending.check_all()
                clock.tell("step")
                writer.restart_clock(step)
            if step % run.log_every == 0 or last:
                measured = pending.check_all()
                if skipped := check_skipped(config, loader):
                    measured["skipped_records"] = skipped
                writer.train_metrics(step, measured)

            # Evaluate, unless the machine is about to be taken away.
            due = {n: e for n, (every, e) in run.evaluators.items() if last or step % every == 0}
            if stopping and not last:
                due = {}
            if due:
                pending.check_all()
                results = writer.eval_metrics(step, evaluate(run.objective, state, due))
                check_keep_best(config, results, due)
                writer.restart_clock(step)

            # Checkpoint, but never a state that has gone bad.
            judged = bool(due) and config.checkpoint.keep_best in results
            if last or stopping or step % run.checkpoint_every == 0 or judged:
                pending.check_all()
                run.checkpointer.save(step, state, results if judged else None)
            if stopping and not last:
                run.checkpointer.close()
                say(f"stopped at step {step} of {total}; type the same command again to continue")
                return {}
    finally:
        # Also after an error: the checkpoint under way is completed, and nothing is left running.
        loader.close()
        stop.restore()
        writer.close()
        run.checkpointer.close()
    left_out = f", {skipped} unreadable records were skipped" if skipped else ""
    say(f"done: {total} steps, {workdir}{left_out}")
    return results


def set_up(config: ConfigDict, workdir: str, accept_changes: bool) -> Run:
    """Config -> data -> model -> state; every mistake in the config shows here."""
    # Config.
    use_compile_cache(config)
    mesh = sharding.create_mesh(config)
    sharding.check_batch(config, mesh)
    check_wandb(config)
    check_same_run(config, workdir, accept_changes)

    # Data.
    source = open_split(config, config.data.train_split)
    info = describe(config, source, create_reader(config, source, train=True))
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
    first = checkpointer.latest_step or 0
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
    return Run(*parts, first, total, log_every, checkpoint_every)


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


class PendingMetrics:
    """Metrics of steps that may still be running; a loss that is not finite ends the run."""

    def __init__(self):
        self._queue = collections.deque()
        self._latest: dict[str, float] = {}

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes a step's metrics and checks the one of `METRICS_LAG` steps ago."""
        self._queue.append((step, metrics))
        while len(self._queue) > METRICS_LAG:
            self._check(*self._queue.popleft())

    def check_all(self) -> dict[str, float]:
        """Waits for all steps; returns the last one's metrics.

        Raises:
          TrainingError: the loss or the gradient of a step is not finite.
        """
        while self._queue:
            self._check(*self._queue.popleft())
        return dict(self._latest)

    def _check(self, step: int, metrics: dict[str, jax.Array]) -> None:
        self._latest = {key: float(value) for key, value in metrics.items()}
        for key in ("loss", "grad_norm"):
            if not math.isfinite(self._latest[key]):
                raise TrainingError(
                    f"step {step}: {key} is {self._latest[key]} at learning rate "
                    f"{self._latest['learning_rate']:.4g}; the last checkpoint is kept: lower "
                    "optim.learning_rate or set optim.clip_norm"
                )


class StopSignal:
    """SIGTERM, noticed between steps; with many processes, at a step that all agree on."""

    def __init__(self):
        self._received = False
        # Among many processes JAX's coordination service catches the signal itself.
        self._alone = jax.process_count() == 1
        if self._alone:
            self._previous = signal.signal(signal.SIGTERM, self._note)

    def received(self, step: int) -> bool:
        """Whether to save and end now; every process gets the same answer."""
        if self._alone:
            return self._received
        return multihost_utils.reached_preemption_sync_point(step)

    def restore(self) -> None:
        """Gives the signal back to whom it had belonged."""
        if self._alone:
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, signum, frame) -> None:
        self._received = True


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


def profile(config: ConfigDict, workdir: str, step: int) -> None:
    """Starts and ends the profile of the steps `config.log.profile`."""
    if not config.log.profile:
        return
    first, last = config.log.profile
    if step == first:
        jax.profiler.start_trace(os.path.join(workdir, "profile"))
    elif step == last + 1:
        jax.profiler.stop_trace()

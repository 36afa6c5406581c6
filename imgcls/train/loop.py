"""The training loop: the only one, for every objective."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.state import TrainState
from imgcls.data.create import (
    create_train_loader,
)
from imgcls.data.loading.skipped import check_skipped
from imgcls.distributed import processes
from imgcls.evaluate.evaluator import Evaluator
from imgcls.runs.goodput import Goodput
from imgcls.runs.metrics_log import Writer
from imgcls.runs.profile import Profile
from imgcls.train.nonfinite import PendingMetrics, WentBad
from imgcls.train.setup import Training, set_up
from imgcls.train.start_clock import StartClock


def train(
    config: ConfigDict, workdir: str, accept_changes: bool = False, clock: StartClock | None = None
) -> dict[str, float] | None:
    """Trains what the config says, or continues where the workdir's newest checkpoint ends.

    Args:
      config: see `imgcls.core.config`.
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
    config: ConfigDict, workdir: str, run: Training, clock: StartClock, goodput: Goodput
) -> dict[str, float] | None:
    """The loop itself: steps from `run.first` to the last; arguments and results as of `train`.

    Raises:
      WentBad: the run is to go back.
    """
    total, shift = run.total, run.record.shift
    results: dict[str, float] = {}
    skipped = 0
    loader = create_train_loader(config, run.reader, run.mesh, run.first + shift, total + shift)
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
                log.info(
                    f"stopped at step {step} of {total}; type the same command again to continue"
                )
                return None
        run.checkpointer.finish()
    finally:
        # Also after an error: the checkpoint under way is completed, and nothing is left running.
        loader.close()
        profile.close()
        writer.close()
        run.checkpointer.close()
    left_out = f", {skipped} unreadable records were skipped" if skipped else ""
    log.info(f"done: {total} steps, {workdir}{left_out}{goodput.told()}")
    return results


def evaluate(
    objective, state: TrainState, evaluators: dict[str, Evaluator]
) -> dict[str, float | np.ndarray]:
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

"""The training loop: the only one, for every objective."""

import contextlib
import dataclasses

import numpy as np
from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.state import TrainState
from imgcls.data.create import create_train_loader
from imgcls.data.loading.skipped import check_skipped
from imgcls.distributed import processes
from imgcls.distributed.ending import AGAIN
from imgcls.evaluate.evaluator import Evaluator
from imgcls.runs.best import BestMetric
from imgcls.runs.goodput import Goodput
from imgcls.runs.metrics_log import NO_CALLBACKS, Callbacks, Writer
from imgcls.runs.profile import Profile
from imgcls.train.auto import choose, save_choice
from imgcls.train.nonfinite import PendingMetrics, Rollback
from imgcls.train.setup import Training, describe_run, set_up
from imgcls.train.start_clock import StartClock


def train(
    config: ConfigDict,
    workdir: str,
    accept_changes: bool = False,
    clock: StartClock | None = None,
    callbacks: Callbacks = NO_CALLBACKS,
) -> dict[str, float] | None:
    """Trains what the config describes, or continues from the workdir's newest checkpoint.

    Args:
      config: see `imgcls.core.config`.
      workdir: gets the checkpoints and logs.
      accept_changes: continue even if the config differs from the checkpoint's.
      clock: started when the process began; by default a new one starts here.
      callbacks: functions that are called with what is logged.

    Returns:
      The last evaluation's metrics (empty if the run was already complete); None if it was stopped
      by a signal and is to be continued.

    Raises:
      ConfigError: a setting that can't work; nothing has been written then.
      DataError: an unreadable record, with `data.on_error='fail'`.
      TrainingError: a loss or gradient is not finite, and `config.guard` allows no further attempt.
    """
    clock, stretch = clock or StartClock(), None
    goodput = Goodput(workdir, clock.began)
    choice = choose(config, workdir, clock.began)
    while True:
        training = set_up(config, workdir, accept_changes, stretch)
        if choice is not None:
            save_choice(workdir, choice)
        describe_run(config, training)
        clock.lap("set-up")
        try:
            return Loop(config, workdir, training, clock, goodput, callbacks).run()
        except Rollback as bad:
            # As if the command was typed again, but with the data that comes after the stretch.
            stretch, clock = bad.stretch, StartClock()
            del training


class Loop:
    """Steps from `training.first` to the last, and what happens between them.

    Args:
      config, workdir: arguments of `train`.
      training: result of `set_up`.
      clock: time since the process began.
      goodput: useful time of the run.
      callbacks: functions that are called with what is logged.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: str,
        training: Training,
        clock: StartClock,
        goodput: Goodput,
        callbacks: Callbacks = NO_CALLBACKS,
    ):
        first, total, shift = training.first, training.total, training.record.shift
        self._config, self._workdir, self._training = config, workdir, training
        self._clock, self._goodput = clock, goodput
        with contextlib.ExitStack() as opened:
            opened.callback(training.checkpointer.close)
            self._loader = create_train_loader(
                config, training.reader, training.mesh, first + shift, total + shift
            )
            opened.callback(self._loader.close)
            self._writer = Writer(workdir, config, first, total, callbacks)
            opened.pop_all()
        self._pending = PendingMetrics(config, training.record)
        self._profile = Profile(config, workdir)
        self._results: dict[str, float] = {}
        self._skipped_records = 0

    def run(self) -> dict[str, float] | None:
        """Runs the steps; returns what `train` returns.

        Raises:
          Rollback: training has to go back to an earlier checkpoint.
        """
        first, total = self._training.first, self._training.total
        if first < total:
            self._goodput.begin(first, self._training.record)
        step_fn = state = None
        try:
            for step, batch in enumerate(self._loader, start=first + 1):
                # Train.
                self._profile.before(step)
                if step_fn is None or state is None:
                    step_fn, state = self._compile(batch)
                state, metrics = step_fn(state, batch)
                self._pending.add(step, metrics)
                self._writer.progress(step)
                stopping = processes.stop_asked(step) and step < total
                if step == first + 1:
                    self._finish_start(step)

                # All that is due waits for the step, whose metrics may not be finite.
                due = find_due(self._training, step, stopping)
                if not due:
                    continue
                metrics = self._pending.check_all()
                self._goodput.count(step, self._pending.record)

                # Log, evaluate, save.
                if due.log:
                    self._log(step, metrics)
                results = self._evaluate(step, state, due.evaluators) if due.evaluators else None
                self._save(step, state, results, due)
                self._goodput.restart()
                if stopping:
                    self._training.checkpointer.finish()
                    log.info(f"stopped at step {step} of {total}; {AGAIN}")
                    return None
            self._training.checkpointer.finish()
            described = self._training.checkpointer.describe()
        finally:
            self._close()
        skipped = self._skipped_records
        left_out = f", {skipped} unreadable records were skipped" if skipped else ""
        log.info(f"done: {total} steps, {self._workdir}{left_out}{self._goodput.summary()}")
        log.info(described)
        return self._results

    def _compile(self, batch):
        """The compiled training step, and the state that it begins with."""
        training = self._training
        self._clock.lap("first batch")
        step_fn = training.programs.compile("train_step", training.step_fn, training.shapes, batch)
        state = training.state.result()
        self._clock.lap("programs")
        self._goodput.restart()
        return step_fn, state

    def _finish_start(self, step: int) -> None:
        """Waits for the first step and logs how long it took to get there."""
        self._pending.check_all()
        self._clock.finish("step")
        self._writer.restart_clock(step)

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        self._skipped_records = check_skipped(self._config, self._loader)
        if self._skipped_records:
            metrics["skipped_records"] = self._skipped_records
        self._writer.train_metrics(step, metrics, self._goodput.metrics())
        self._goodput.keep()

    def _evaluate(
        self, step: int, state: TrainState, evaluators: dict[str, Evaluator]
    ) -> dict[str, float]:
        values = evaluate(self._training.objective, state, evaluators)
        self._results = self._writer.eval_metrics(step, values)
        warn_if_undefined(self._training.best, self._results, evaluators)
        self._writer.restart_clock(step)
        return self._results

    def _save(
        self, step: int, state: TrainState, results: dict[str, float] | None, due: "Due"
    ) -> None:
        """Saves a checkpoint if one is due, or if the metric that ranks them was just measured.

        A state whose metrics are not finite is never saved. One in the middle of skipped updates
        is not either, as it would replace a good one, except at the end.
        """
        record, best = self._pending.record, self._training.best
        judged = results is not None and best is not None and best.name in results
        if not (due.checkpoint or judged) or (record.in_a_row and not due.last_chance):
            return
        record = dataclasses.replace(record, useful_seconds=self._goodput.useful)
        self._training.checkpointer.save(step, state, results if judged else None, record)

    def _close(self) -> None:
        """Completes the checkpoint being written and stops all threads, also after an error."""
        self._loader.close()
        self._profile.close()
        self._writer.close()
        self._training.checkpointer.close()


@dataclasses.dataclass
class Due:
    """What is to be done after a step.

    Attributes:
      log: write the training metrics.
      evaluators: `{name: evaluator}` of the evaluators to run.
      checkpoint: save the state.
      last_chance: no later step of this process will save it.
    """

    log: bool
    evaluators: dict[str, Evaluator]
    checkpoint: bool
    last_chance: bool

    def __bool__(self) -> bool:
        return self.log or bool(self.evaluators) or self.checkpoint


def find_due(training: Training, step: int, stopping: bool) -> Due:
    """What is due after a step: everything after the last, a checkpoint before the run stops."""
    last = step == training.total
    due = {n: e for n, (every, e) in training.evaluators.items() if last or step % every == 0}
    return Due(
        log=last or step % training.log_every == 0,
        evaluators={} if stopping else due,
        checkpoint=last or stopping or step % training.checkpoint_every == 0,
        last_chance=last or stopping,
    )


def evaluate(
    objective, state: TrainState, evaluators: dict[str, Evaluator]
) -> dict[str, float | np.ndarray]:
    """`{'name/metric': number or image}` of the evaluators on the state's variables."""
    variables = objective.eval_variables(state)
    return {
        f"{name}/{key}": value
        for name, evaluator in evaluators.items()
        for key, value in evaluator.run(variables).items()
    }


def warn_if_undefined(
    best: BestMetric | None, results: dict[str, float], evaluators: dict[str, Evaluator]
) -> None:
    """Warns once if an evaluation lacks the metric that ranks checkpoints.

    A metric may be undefined on the data, such as the area under a ROC curve without positives.
    """
    if best is not None and best.name.split("/")[0] in evaluators and best.name not in results:
        log.warn_once(
            f"config.checkpoint.keep_best={best.name!r}: the evaluation has no such metric; its "
            "checkpoint does not count as the best"
        )

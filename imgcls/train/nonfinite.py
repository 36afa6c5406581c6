"""Handling of values that are not finite: skip updates, then go back once, then stop.

The compiled step itself decides whether to skip an update. The host comes to the same decision from
the step's metrics, which arrive a few steps later. As it depends on the metrics alone, all
processes decide the same.
"""

import collections
import dataclasses
import math

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.errors import ConfigError, TrainingError
from imgcls.core.state import TrainState
from imgcls.runs.record import Record, Stretch
from imgcls.train.lookahead import LookaheadState

# Steps after which metrics are read, so that the device never waits for the host.
METRICS_LAG = 2
# An update is skipped if one of these metrics is not finite.
CHECKED_METRICS = ("loss", "grad_norm")
# Number of losses in the final error message.
NUM_LOSSES = 20


class Rollback(Exception):
    """Training has to go back to before a stretch of steps, and continue with the data after it."""

    def __init__(self, stretch: Stretch):
        super().__init__(stretch)
        self.stretch = stretch


def keep_if_finite(new: TrainState, old: TrainState, metrics: dict[str, jax.Array]) -> TrainState:
    """Returns `new`, or `old` at the next step if a metric is not finite; part of the step.

    State of the optimizer that depends on the step number (schedules, lookahead) advances in both
    cases, unlike state that depends on gradients.
    """
    finite = jnp.all(jnp.isfinite(jnp.stack([metrics[key] for key in CHECKED_METRICS])))
    by_step = (optax.ScaleByScheduleState, LookaheadState)

    def choose(new, old):
        if isinstance(new, optax.ScaleByScheduleState):
            return new
        if isinstance(new, LookaheadState):
            slow, inner = choose_all(new.slow, old.slow), choose_all(new.inner, old.inner)
            return LookaheadState(new.step, slow, inner)
        return jnp.where(finite, new, old)

    def choose_all(new, old):
        return jax.tree.map(choose, new, old, is_leaf=lambda x: isinstance(x, by_step))

    return dataclasses.replace(choose_all(new, old), step=new.step)


def check_guard(config: ConfigDict) -> None:
    """Raises a ConfigError if `config.guard` is out of range."""
    if config.guard.skip < 0:
        raise ConfigError(f"config.guard.skip={config.guard.skip}: must be 0 or more")


class PendingMetrics:
    """Metrics of steps that may still be running; checks that they are finite.

    Args:
      config: config of the run; `guard` is read.
      record: record of the step from which the run starts; updated with every checked step.
    """

    def __init__(self, config: ConfigDict, record: Record):
        self.record = record
        self._guard = config.guard
        self._queue = collections.deque()
        self._latest: dict[str, float] = {}
        self._losses: collections.deque[float] = collections.deque(maxlen=NUM_LOSSES)

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics of a step, and checks those of `METRICS_LAG` steps ago."""
        self._queue.append((step, metrics))
        while len(self._queue) > METRICS_LAG:
            self._check(*self._queue.popleft())

    def check_all(self) -> dict[str, float]:
        """Waits for all steps; returns the metrics of the last one.

        Raises:
          Rollback: more than `guard.skip` consecutive updates are not finite, and the run may go
            back.
          TrainingError: as above, but the run may not go back.
        """
        while self._queue:
            self._check(*self._queue.popleft())
        skipped = {"skipped_updates": self.record.skipped} if self.record.skipped else {}
        return self._latest | skipped

    def _check(self, step: int, metrics: dict[str, jax.Array]) -> None:
        self._latest = {key: float(value) for key, value in metrics.items()}
        self._losses.append(self._latest["loss"])
        bad = next((key for key in CHECKED_METRICS if not math.isfinite(self._latest[key])), None)
        record = self.record
        if bad is None:
            record.in_a_row = 0
            return
        record.in_a_row += 1
        rate = self._latest["learning_rate"]
        what = f"step {step}: {bad} is {self._latest[bad]} at learning rate {rate:.4g}"
        if record.in_a_row > self._guard.skip:
            self._give_up(step, what)
        record.skipped += 1
        if record.in_a_row == 1:
            log.info(f"{what}; the update is skipped, as are up to {self._guard.skip} in a row")

    def _give_up(self, step: int, what: str) -> None:
        row = self.record.in_a_row
        if self._guard.rollback and not self.record.shift:
            log.info(
                f"{what}, {row} in a row; going back to the last good checkpoint, with new data"
            )
            raise Rollback(Stretch(step - row + 1, step))
        before = f", after {row - 1} updates in a row were skipped" if row > 1 else ""
        before += ", after the run went back once" if self.record.shift else ""
        raise TrainingError(
            f"{what}{before}; the last losses were {' '.join(f'{x:.4g}' for x in self._losses)}; "
            "the last checkpoint is kept: lower optim.learning_rate or set optim.clip_norm"
        )

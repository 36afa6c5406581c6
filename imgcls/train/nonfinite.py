"""Numbers that go bad: updates are left out, then the run goes back once, then it ends.

The decision to leave an update out falls inside the compiled step, and the host makes the same one
from the step's metrics when these arrive, a few steps later. As it goes by the metrics alone, all
processes decide alike, whenever they look.
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

# A step's metrics are read this many steps later, so that the device never waits for the host.
METRICS_LAG = 2
# An update is left out where one of these is not finite.
JUDGED = ("loss", "grad_norm")
# How many losses the last message tells.
TOLD = 20


class WentBad(Exception):
    """The run is to go back to before a stretch, and on with the data that comes after it."""

    def __init__(self, stretch: Stretch):
        super().__init__(stretch)
        self.stretch = stretch


def keep_if_finite(new: TrainState, old: TrainState, metrics: dict[str, jax.Array]) -> TrainState:
    """Inside the step: `new`, or `old` with the step's number moved on if a metric is not finite.

    What the optimizer does by the step's number (schedules, the meetings of lookahead) moves on in
    both cases; what it gathers from gradients does not.
    """
    finite = jnp.all(jnp.isfinite(jnp.stack([metrics[key] for key in JUDGED])))
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
    """Raises a ConfigError if `config.guard` can't be."""
    if config.guard.skip < 0:
        raise ConfigError(f"config.guard.skip={config.guard.skip}: must be 0 or more")


class PendingMetrics:
    """Metrics of steps that may still be running, and what is done about those that went bad.

    Args:
      config: `guard` is read.
      record: of the step to continue from; is kept up to date with the steps that were checked.
    """

    def __init__(self, config: ConfigDict, record: Record):
        self.record = record
        self._guard = config.guard
        self._queue = collections.deque()
        self._latest: dict[str, float] = {}
        self._losses: collections.deque[float] = collections.deque(maxlen=TOLD)

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes a step's metrics and checks the one of `METRICS_LAG` steps ago."""
        self._queue.append((step, metrics))
        while len(self._queue) > METRICS_LAG:
            self._check(*self._queue.popleft())

    def check_all(self) -> dict[str, float]:
        """Waits for all steps; returns the last one's metrics.

        Raises:
          WentBad: more updates in a row were left out than `guard.skip`, and the run may go back.
          TrainingError: it may not.
        """
        while self._queue:
            self._check(*self._queue.popleft())
        skipped = {"skipped_updates": self.record.skipped} if self.record.skipped else {}
        return self._latest | skipped

    def _check(self, step: int, metrics: dict[str, jax.Array]) -> None:
        self._latest = {key: float(value) for key, value in metrics.items()}
        self._losses.append(self._latest["loss"])
        bad = next((key for key in JUDGED if not math.isfinite(self._latest[key])), None)
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
            log.info(f"{what}; the update is left out, as are up to {self._guard.skip} in a row")

    def _give_up(self, step: int, what: str) -> None:
        row = self.record.in_a_row
        if self._guard.rollback and not self.record.shift:
            log.info(
                f"{what}, {row} in a row; back to the last good checkpoint, and on with other data"
            )
            raise WentBad(Stretch(step - row + 1, step))
        before = f", after {row - 1} updates in a row were left out" if row > 1 else ""
        before += ", once more after the run went back" if self.record.shift else ""
        raise TrainingError(
            f"{what}{before}; the last losses were {' '.join(f'{x:.4g}' for x in self._losses)}; "
            "the last checkpoint is kept: lower optim.learning_rate or set optim.clip_norm"
        )

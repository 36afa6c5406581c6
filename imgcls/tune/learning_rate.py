"""The range test of learning rates (Smith 2015, arXiv:1506.01186, section 3.3)."""

import dataclasses
import math
import tempfile

import numpy as np
from ml_collections import ConfigDict

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.create import create_train_loader
from imgcls.train.setup import set_up

# Decay of the average of the losses, and the multiple of the lowest one at which the test ends.
SMOOTHING, DIVERGED = 0.9, 4.0
# Steps at the start whose slope is that of few losses.
SKIPPED = 10


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """Losses over learning rates.

    Attributes:
      rates: values of `optim.learning_rate`, float64 `[S]`.
      losses: loss of each step, float64 `[S]`.
      smoothed: their moving average, float64 `[S]`.
      suggestion: rate at which the average falls fastest; None if it falls nowhere.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None


def find_learning_rate(config: ConfigDict, low: float, high: float, steps: int) -> RateCurve:
    """Trains with a rate that rises from `low` to `high`, and discards the result.

    It ends before `high` where the loss diverges.

    Raises:
      ConfigError: a setting that can't work.
    """
    if not 0 < low < high:
        raise ConfigError(f"--low={low} and --high={high}: write 0 < low < high")
    if steps <= 2 * SKIPPED:
        raise ConfigError(f"--steps={steps}: must be above {2 * SKIPPED}")
    factor = (high / low) ** (1 / (steps - 1))
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as workdir:
        trial = _trial(config, low, factor, steps)
        training = set_up(trial, workdir, accept_changes=False)
        loader = create_train_loader(trial, training.reader, training.mesh, 0, steps)
        step = state = None
        try:
            for batch in loader:
                if step is None:
                    shapes = training.shapes
                    step = training.programs.compile("train_step", training.step_fn, shapes, batch)
                    state = training.state.result()
                state, metrics = step(state, batch)
                losses.append(float(metrics["loss"]))
                if has_diverged(losses):
                    break
        finally:
            loader.close()
            training.checkpointer.close()
    rates = low * factor ** np.arange(len(losses))
    smoothed = smooth(losses)
    return RateCurve(rates, np.array(losses), smoothed, suggest(rates, smoothed))


def _trial(config: ConfigDict, low: float, factor: float, steps: int) -> ConfigDict:
    trial = config.copy_and_resolve_references()
    trial.total = f"{steps} steps"
    trial.evaluators = ConfigDict()
    trial.checkpoint, trial.schedule = default_config().checkpoint, default_config().schedule
    trial.auto.minutes = None
    trial.optim.learning_rate = low
    # A step schedule with a boundary before every step: low * factor^i.
    boundaries = tuple(f"{i} steps" for i in range(1, steps))
    trial.schedule.update({"name": "step", "factor": factor, "boundaries": boundaries})
    return trial


def smooth(losses: list[float]) -> np.ndarray:
    """The exponential moving average without the bias of its start, float64 `[S]`."""
    average, out = 0.0, []
    for i, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        out.append(average / (1 - SMOOTHING**i))
    return np.array(out)


def has_diverged(losses: list[float]) -> bool:
    """Whether the last loss is not finite, or the average is far above its lowest value."""
    if not math.isfinite(losses[-1]):
        return True
    smoothed = smooth(losses)
    return len(losses) > SKIPPED and bool(smoothed[-1] > DIVERGED * smoothed.min())


def suggest(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """The rate at which the loss falls fastest per factor of the rate, before its lowest point."""
    finite = smoothed[np.isfinite(smoothed)]
    if len(finite) <= SKIPPED + 1:
        return None
    end = SKIPPED + int(np.argmin(finite[SKIPPED:])) + 1
    if end - SKIPPED < 3:
        return None
    slopes = np.gradient(finite[SKIPPED:end], np.log(rates[SKIPPED:end]))
    at = int(np.argmin(slopes))
    return float(f"{rates[SKIPPED + at]:.2g}") if slopes[at] < 0 else None

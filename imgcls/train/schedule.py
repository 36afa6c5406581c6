"""Learning rate schedules: a linear warm-up, then a registered curve."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from imgcls.core.durations import Durations
from imgcls.core.registry import Registry, Signature


@dataclasses.dataclass(frozen=True)
class Curve:
    """Arguments of a schedule.

    Attributes:
      options: `config.schedule`.
      peak: learning rate at the end of the warm-up.
      length: steps from the end of the warm-up to the end of training, at least 1.
      warmup: steps of the warm-up.
      to_steps: converts a duration to steps: `to_steps("boundaries", "30 epochs")`.
    """

    options: ConfigDict
    peak: float
    length: int
    warmup: int
    to_steps: Callable[[str, str], int]


@dataclasses.dataclass(frozen=True)
class ScheduleEntry:
    """An entry of the registry.

    Attributes:
      make: returns the learning rate as a function of the steps since the warm-up.
      cools_down: whether `schedule.cooldown` applies, a linear decay to 0 at the end.
    """

    make: Callable[[Curve], optax.Schedule]
    cools_down: bool = False


SCHEDULES: Registry[ScheduleEntry] = Registry(
    "schedule", __name__, describe=lambda entry: Signature(entry.make, 1)
)


def register_schedule(
    name: str, *, cools_down: bool = False
) -> Callable[[Callable[[Curve], optax.Schedule]], Callable[[Curve], optax.Schedule]]:
    """Decorator that registers a schedule.

    Args:
      name: name for `config.schedule.name`.
      cools_down: see `ScheduleEntry`.
    """

    def register(make: Callable[[Curve], optax.Schedule]) -> Callable[[Curve], optax.Schedule]:
        SCHEDULES.add(name, ScheduleEntry(make, cools_down))
        return make

    return register


def create_schedule(config: ConfigDict, durations: Durations) -> optax.Schedule:
    """Creates the learning rate by step: linear warm-up from 0, then `config.schedule.name`.

    Args:
      config: the config; `schedule`, `optim.learning_rate`, `optim.base_batch` and `batch_size` are
        read.
      durations: durations of the config.

    Raises:
      ConfigError: unknown name or a bad duration.
    """
    c = config.schedule
    entry = SCHEDULES.find(c.name, "schedule.name")
    peak = config.optim.learning_rate
    if config.optim.base_batch is not None:
        peak *= config.batch_size / config.optim.base_batch

    def to_steps(key: str, value: str) -> int:
        return durations.to_steps(value, f"schedule.{key}")

    total = durations.total
    warmup = to_steps("warmup", c.warmup)
    cooldown = to_steps("cooldown", c.cooldown) * entry.cools_down
    # A run cut short, to try a recipe out, may end within its warm-up.
    curve = entry.make(Curve(c, peak, max(total - warmup, 1), warmup, to_steps))

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        rate = curve(jnp.maximum(step - warmup, 0))
        if warmup:
            rate = jnp.where(jnp.less(step, warmup), peak * (step + 1) / (warmup + 1), rate)
        if cooldown:
            rate = rate * jnp.clip((total - step) / cooldown, 0, 1)
        return jnp.asarray(rate, jnp.float32)

    return schedule


@register_schedule("cosine")
def cosine(curve: Curve) -> optax.Schedule:
    """Half a cosine from the peak to `final` times the peak (arXiv:1608.03983, equation 5)."""
    return optax.cosine_decay_schedule(curve.peak, curve.length, alpha=curve.options.final)


@register_schedule("linear")
def linear(curve: Curve) -> optax.Schedule:
    """A line from the peak to `final` times the peak."""
    return optax.linear_schedule(curve.peak, curve.peak * curve.options.final, curve.length)


@register_schedule("step")
def step(curve: Curve) -> optax.Schedule:
    """The peak, multiplied by `factor` at each of the `boundaries`."""
    # Boundaries are counted, as several may fall on the same step of a short run.
    steps = [curve.to_steps("boundaries", b) - curve.warmup for b in curve.options.boundaries]
    bounds = jnp.array(steps)
    return lambda step: curve.peak * curve.options.factor ** jnp.sum(step >= bounds)


@register_schedule("rsqrt", cools_down=True)
def rsqrt(curve: Curve) -> optax.Schedule:
    """peak / sqrt(1 + step / timescale) (Zhai et al. 2021, arXiv:2106.04560, section 3.5)."""
    scale = max(curve.to_steps("timescale", curve.options.timescale), 1)
    return lambda step: curve.peak / jnp.sqrt(1 + step / scale)


@register_schedule("constant", cools_down=True)
def constant(curve: Curve) -> optax.Schedule:
    """The peak throughout."""
    return optax.constant_schedule(curve.peak)

"""Learning-rate schedules."""

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.core.durations import steps

SCHEDULES = ("cosine", "linear", "step", "rsqrt", "constant")


def create_schedule(config: ConfigDict, num_examples: int) -> optax.Schedule:
    """The learning rate by step: linear warm-up from 0, then the curve that `schedule.name` names.

    Raises:
      ConfigError: unknown name or a bad duration.
    """
    c = config.schedule
    check_choice("schedule.name", c.name, SCHEDULES)
    peak = config.optim.learning_rate
    if config.optim.base_batch is not None:
        peak *= config.batch_size / config.optim.base_batch

    def in_steps(key: str, value: str) -> int:
        return steps(value, config, num_examples, key)

    total = in_steps("total", config.total)
    warmup = in_steps("schedule.warmup", c.warmup)
    # A run cut short, to try a recipe out, may end within its warm-up.
    rest = max(total - warmup, 1)
    if c.name == "cosine":
        curve = optax.cosine_decay_schedule(peak, rest, alpha=c.final)
    elif c.name == "linear":
        curve = optax.linear_schedule(peak, peak * c.final, rest)
    elif c.name == "step":
        # Counted and not keyed by step: in a short trial run several may fall on the same one.
        bounds = jnp.array([in_steps("schedule.boundaries", b) - warmup for b in c.boundaries])

        def curve(step):
            return peak * c.factor ** jnp.sum(step >= bounds)
    elif c.name == "rsqrt":
        scale = max(in_steps("schedule.timescale", c.timescale), 1)

        def curve(step):
            return peak / jnp.sqrt(1 + step / scale)
    else:
        curve = optax.constant_schedule(peak)

    cooldown = in_steps("schedule.cooldown", c.cooldown)

    def schedule(step):
        rate = curve(jnp.maximum(step - warmup, 0))
        if warmup:
            rate = jnp.where(step < warmup, peak * (step + 1) / (warmup + 1), rate)
        if cooldown and c.name in ("rsqrt", "constant"):
            rate = rate * jnp.clip((total - step) / cooldown, 0, 1)
        return jnp.asarray(rate, jnp.float32)

    return schedule

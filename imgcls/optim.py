"""Learning-rate schedules and optax chains, built from the config."""

import re

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from imgcls.config import check_choice, steps
from imgcls.errors import ConfigError
from imgcls.sharding import path_name

OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw", "lamb", "lars")
SCHEDULES = ("cosine", "linear", "step", "rsqrt", "constant")


def create_optimizer(
    config: ConfigDict, num_examples: int, params
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The gradient transformation of `config.optim`, and its learning rate as `step -> float`.

    Args:
      config: the whole config; `optim`, `schedule`, `batch_size` and `total` are read.
      num_examples: of the training split, for durations in epochs.
      params: parameters or their shapes; masks and multipliers go by their paths.

    Raises:
      ConfigError: unknown name, a bad duration, or a regex that matches no parameter.
    """
    c = config.optim
    check_choice("optim.name", c.name, OPTIMIZERS)
    schedule = create_schedule(config, num_examples)
    decay = c.weight_decay
    mask = _path_map(params, lambda name: not (c.decay_exclude and _find(c.decay_exclude, name)))
    moments = {"b1": c.b1, "b2": c.b2, "eps": c.eps}
    chain = []
    if c.clip_norm is not None:
        chain.append(optax.clip_by_global_norm(c.clip_norm))
    if c.name == "sgd":
        # Decay joins the gradient before the momentum: L2 regularisation, as in the papers.
        chain.append(optax.add_decayed_weights(decay, mask))
        chain.append(optax.sgd(schedule, c.momentum or None, c.nesterov))
    elif c.name == "rmsprop":
        # As TensorFlow has it: the mean square starts at 1, eps is under the root, and the momentum
        # gathers steps that are scaled by the learning rate already.
        chain.append(optax.add_decayed_weights(decay, mask))
        scale = {"decay": c.decay, "eps": c.eps, "initial_scale": 1.0}
        momentum = {"momentum": c.momentum or None, "nesterov": c.nesterov}
        chain.append(optax.rmsprop(schedule, **scale, **momentum))
    elif c.name == "adam":
        chain.append(optax.add_decayed_weights(decay, mask))
        chain.append(optax.adam(schedule, **moments))
    elif c.name == "adamw":
        chain.append(optax.adamw(schedule, **moments, weight_decay=decay, mask=mask))
    elif c.name == "lamb":
        chain.append(optax.lamb(schedule, **moments, weight_decay=decay, mask=mask))
    else:
        # You et al. 2017 (arXiv:1708.03888); bias and norms keep the plain rate, as in SimCLR.
        lars = {"weight_decay_mask": mask, "trust_ratio_mask": mask}
        lars |= {"momentum": c.momentum, "nesterov": c.nesterov}
        chain.append(optax.lars(schedule, decay, trust_coefficient=c.trust_coefficient, **lars))
    if c.multipliers:
        chain.append(_multiply(c.multipliers, params))
    return optax.chain(*chain), schedule


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


def _multiply(multipliers: tuple, params) -> optax.GradientTransformation:
    """Scales every update by the factor of the first regex that its path matches."""
    for pair in multipliers:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], int | float)):
            raise ConfigError(
                f"config.optim.multipliers: {pair!r} is no pair; write (('REGEX', FACTOR), ...)"
            )
    names = jax.tree.leaves(_path_map(params, lambda name: name))
    for pattern, _ in multipliers:
        if not any(_find(pattern, name) for name in names):
            raise ConfigError(
                f"config.optim.multipliers: {pattern!r} matches no parameter; "
                f"there are {', '.join(names[:3])}, ..."
            )

    def factor(name: str) -> float:
        return next((float(f) for pattern, f in multipliers if _find(pattern, name)), 1.0)

    factors = _path_map(params, factor)
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors))


def _find(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as e:
        raise ConfigError(f"{pattern!r} is no regular expression: {e}") from None


def _path_map(params, fn):
    return jax.tree_util.tree_map_with_path(lambda path, _: fn(path_name(path)), params)

"""The optimizer of a config: gradient clipping, the update rule, multipliers, lookahead."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.core.registry import Registry, Signature
from imgcls.train.frozen import find_entry
from imgcls.train.lookahead import lookahead
from imgcls.train.param_paths import map_paths, matches
from imgcls.train.schedule import create_schedule

# Gradient transformations to apply in this order.
Chain = list[optax.GradientTransformation]
# `(config.optim, schedule, params, mask) -> transformation or chain`: `params` are the parameters
# or their shapes, and `mask` is a tree of bools that is true where weight decay applies.
MakeOptimizer = Callable[
    [ConfigDict, optax.Schedule, Any, Any], optax.GradientTransformation | Chain
]

OPTIMIZERS: Registry[MakeOptimizer] = Registry(
    "optimizer", "imgcls.train.optimizers", describe=lambda make: Signature(make, 4)
)
register_optimizer = OPTIMIZERS.register


def create_optimizer(
    config: ConfigDict, durations: Durations, params
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Creates the gradient transformation of `config.optim`, and its schedule `step -> rate`.

    Args:
      config: the config; `optim`, `schedule` and `batch_size` are read.
      durations: durations of the config.
      params: parameters or their shapes, whose paths masks and multipliers match.

    Raises:
      ConfigError: an unknown name, an invalid duration, or a regex that matches no parameter.
    """
    c = config.optim
    make = OPTIMIZERS.find(c.name, "optim.name")
    schedule = create_schedule(config, durations)
    mask = map_paths(params, lambda name: not (c.decay_exclude and matches(c.decay_exclude, name)))
    chain: Chain = [] if c.clip_norm is None else [optax.clip_by_global_norm(c.clip_norm)]
    rule = make(c, schedule, params, mask)
    # The chain is flat, as checkpoints store its state.
    chain += rule if isinstance(rule, list) else [rule]
    if c.multipliers:
        chain.append(_multiply(c.multipliers, params, durations))
    optimizer = optax.chain(*chain)
    if c.lookahead.every:
        optimizer = lookahead(optimizer, c.lookahead, durations.total)
    return optimizer, schedule


def _multiply(multipliers: tuple, params, durations: Durations) -> optax.GradientTransformation:
    """Scales each update by the factor of the first regex that matches its path."""
    for entry in multipliers:
        if not _is_multiplier(entry):
            raise ConfigError(
                f"config.optim.multipliers: {entry!r} is invalid; write (('REGEX', FACTOR), ...), "
                "or ('REGEX', FACTOR, 'DURATION') to freeze after the duration"
            )
    names = jax.tree.leaves(map_paths(params, lambda name: name))
    for pattern, *_ in multipliers:
        if not any(matches(pattern, name) for name in names):
            raise ConfigError(
                f"config.optim.multipliers: {pattern!r} matches no parameter; "
                f"there are {', '.join(names[:3])}, ..."
            )

    factors = map_paths(params, lambda name: float(find_entry(multipliers, name)[1]))
    chain = [optax.stateless(lambda updates, _: jax.tree.map(_scale, updates, factors))]
    where = "optim.multipliers"
    ends = {d: durations.to_steps(d, where) for _, _, *rest in multipliers for d in rest}
    for duration, end in ends.items():
        frozen = map_paths(params, lambda name, d=duration: d in find_entry(multipliers, name)[2:])
        freeze = optax.scale_by_schedule(lambda step, end=end: jnp.float32(jnp.less(step, end)))
        chain.append(optax.masked(freeze, frozen))
    return optax.chain(*chain) if ends else chain[0]


def _scale(update: jax.Array, factor: float) -> jax.Array:
    return jnp.multiply(update, factor) if factor else jnp.zeros_like(update)


def _is_multiplier(entry) -> bool:
    if not isinstance(entry, tuple) or not 2 <= len(entry) <= 3:
        return False
    is_text = all(isinstance(x, str) for x in (entry[0], *entry[2:]))
    return is_text and isinstance(entry[1], int | float)

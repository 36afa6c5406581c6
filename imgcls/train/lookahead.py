"""Lookahead: slow parameters that follow the fast ones of another optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError


class LookaheadState(NamedTuple):
    """Number of steps, slow parameters, and state of the inner optimizer."""

    step: jax.Array
    slow: Any
    inner: Any


def lookahead(
    inner: optax.GradientTransformation, options: ConfigDict, total: int
) -> optax.GradientTransformation:
    """Lookahead (Zhang et al. 2019, arXiv:1907.08610, algorithm 1).

    Every `options.every` steps, and at the last step, the slow parameters move towards the fast
    ones, which are then reset to them.

    Args:
      inner: optimizer of the fast parameters.
      options: `config.optim.lookahead`.
      total: number of training steps.

    Raises:
      ConfigError: an option is out of range.
    """
    if not 0 <= options.decay < 1 or options.every < 0 or options.power < 0:
        raise ConfigError(
            "config.optim.lookahead: every and power must be 0 or more, decay from 0 to below 1"
        )

    def init(params):
        return LookaheadState(jnp.zeros((), jnp.int32), params, inner.init(params))

    def update(updates, state, params=None):
        updates, inner_state = inner.update(updates, state.inner, params)
        step = state.step + 1
        sync = (step % options.every == 0) | (step == total)
        share = 1 - options.decay * (step / total) ** options.power

        def move(slow, param, change):
            return jnp.where(sync, slow + share * (param + change - slow), slow)

        slow = jax.tree.map(move, state.slow, params, updates)
        updates = jax.tree.map(lambda s, p, u: jnp.where(sync, s - p, u), slow, params, updates)
        return updates, LookaheadState(step, slow, inner_state)

    return optax.GradientTransformation(init, update)

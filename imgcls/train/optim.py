"""Learning-rate schedules and optax chains, built from the config."""

import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.core.durations import steps
from imgcls.core.errors import ConfigError
from imgcls.distributed.sharding import path_name
from imgcls.train.schedule import create_schedule

OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw", "lamb", "lars", "muon")
MUON_REST = ("adam", "sgd")


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
    elif c.name == "muon":
        chain.append(_muon(c, schedule, params, mask))
    else:
        # You et al. 2017 (arXiv:1708.03888); bias and norms keep the plain rate, as in SimCLR.
        lars = {"weight_decay_mask": mask, "trust_ratio_mask": mask}
        lars |= {"momentum": c.momentum, "nesterov": c.nesterov}
        chain.append(optax.lars(schedule, decay, trust_coefficient=c.trust_coefficient, **lars))
    if c.multipliers:
        in_steps = functools.partial(steps, config=config, num_examples=num_examples)
        chain.append(_multiply(c.multipliers, params, in_steps))
    optimizer = optax.chain(*chain)
    if c.lookahead.every:
        optimizer = _lookahead(
            optimizer, c.lookahead, steps(config.total, config, num_examples, "total")
        )
    return optimizer, schedule


def _muon(c: ConfigDict, schedule: optax.Schedule, params, mask) -> optax.GradientTransformation:
    """Muon for matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), and
    AdamW or SGD for the rest: vectors, and what `optim.muon.exclude` names."""
    m = c.muon
    check_choice("optim.muon.rest", m.rest, MUON_REST)
    if m.steps < 1:
        raise ConfigError(f"config.optim.muon.steps={m.steps}: must be 1 or more")
    ranks = jax.tree.map(lambda x: len(x.shape), params)
    named = _path_map(params, lambda name: bool(m.exclude and _find(m.exclude, name)))
    groups = jax.tree.map(lambda n, out: "muon" if n > 1 and not out else "rest", ranks, named)
    orthogonal = optax.contrib.scale_by_muon(
        ns_steps=m.steps,
        beta=m.momentum,
        nesterov=c.nesterov,
        weight_dimension_numbers=lambda updates: _map_arrays(_matrix_axes, updates),
    )
    matrices = [orthogonal, optax.stateless(lambda u, _: _map_arrays(_scale_by_shape, u))]
    if m.fixed_norm:
        rate = optax.scale_by_learning_rate(schedule)
        matrices += [rate, optax.stateless(_fix_norms)]
    else:
        matrices.append(optax.add_decayed_weights(c.weight_decay, mask))
        matrices.append(optax.scale_by_learning_rate(schedule))
    if m.rest == "adam":
        moments = {"b1": c.b1, "b2": c.b2, "eps": c.eps}
        rest = optax.adamw(schedule, **moments, weight_decay=c.weight_decay, mask=mask)
    else:
        decay = optax.add_decayed_weights(c.weight_decay, mask)
        rest = optax.chain(decay, optax.sgd(schedule, c.momentum or None, c.nesterov))
    return optax.partition({"muon": optax.chain(*matrices), "rest": rest}, groups)


def _map_arrays(fn: Callable, *trees):
    """`fn(path's name, array, ...)` for the arrays of trees; what is masked stays so."""
    return jax.tree_util.tree_map_with_path(lambda path, *x: fn(path_name(path), *x), *trees)


def _matrix_axes(name: str, x) -> optax.contrib.MuonDimensionNumbers:
    """A parameter as a matrix: outputs are the last axis; of queries, keys, values all but one."""
    inputs = 1 if name.endswith("qkv/kernel") else x.ndim - 1
    return optax.contrib.MuonDimensionNumbers(tuple(range(inputs)), tuple(range(inputs, x.ndim)))


def _scale_by_shape(name: str, update: jax.Array) -> jax.Array:
    """Times sqrt(max(1, outputs / inputs)), so that one rate suits all shapes."""
    axes = _matrix_axes(name, update)
    inputs, outputs = (math.prod(update.shape[i] for i in side) for side in axes)
    return update * max(1, outputs / inputs) ** 0.5


def _fix_norms(updates, params):
    """As if each matrix had, before its update, been scaled to the norm sqrt(outputs)."""

    def add(name, update, param):
        outputs = math.prod(param.shape[i] for i in _matrix_axes(name, param).output_axis)
        return update + (outputs**0.5 / jnp.linalg.norm(param.ravel()) - 1) * param

    return _map_arrays(add, updates, params)


class LookaheadState(NamedTuple):
    """Steps done, the slow parameters, and the state of the optimiser that moves the fast ones."""

    step: jax.Array
    slow: Any
    inner: Any


def _lookahead(
    inner: optax.GradientTransformation, options: ConfigDict, total: int
) -> optax.GradientTransformation:
    """Lookahead (Zhang et al. 2019, arXiv:1907.08610, algorithm 1): every so many steps, and at the
    last one, slow parameters move towards the fast ones, and these start anew from there."""
    if not 0 <= options.decay < 1 or options.every < 0 or options.power < 0:
        raise ConfigError(
            "config.optim.lookahead: every and power must be 0 or more, decay from 0 to below 1"
        )

    def init(params):
        return LookaheadState(jnp.zeros((), jnp.int32), params, inner.init(params))

    def update(grads, state, params):
        updates, inner_state = inner.update(grads, state.inner, params)
        step = state.step + 1
        meet = (step % options.every == 0) | (step == total)
        share = 1 - options.decay * (step / total) ** options.power

        def move(slow, param, change):
            return jnp.where(meet, slow + share * (param + change - slow), slow)

        slow = jax.tree.map(move, state.slow, params, updates)
        updates = jax.tree.map(lambda s, p, u: jnp.where(meet, s - p, u), slow, params, updates)
        return updates, LookaheadState(step, slow, inner_state)

    return optax.GradientTransformation(init, update)


def _multiply(multipliers: tuple, params, in_steps: Callable) -> optax.GradientTransformation:
    """Scales every update by the factor of the first regex that its path matches."""
    for entry in multipliers:
        if not _is_multiplier(entry):
            raise ConfigError(
                f"config.optim.multipliers: {entry!r} is no pair; write (('REGEX', FACTOR), ...), "
                "or ('REGEX', FACTOR, 'DURATION') to freeze after it"
            )
    names = jax.tree.leaves(_path_map(params, lambda name: name))
    for pattern, *_ in multipliers:
        if not any(_find(pattern, name) for name in names):
            raise ConfigError(
                f"config.optim.multipliers: {pattern!r} matches no parameter; "
                f"there are {', '.join(names[:3])}, ..."
            )

    def entry_of(name: str) -> tuple:
        return next((entry for entry in multipliers if _find(entry[0], name)), (name, 1.0))

    factors = _path_map(params, lambda name: float(entry_of(name)[1]))
    chain = [optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors))]
    where = "optim.multipliers"
    lasts = {d: in_steps(d, where=where) for _, _, *rest in multipliers for d in rest}
    for duration, last in lasts.items():
        ending = _path_map(params, lambda name, d=duration: d in entry_of(name)[2:])
        until = optax.scale_by_schedule(lambda step, last=last: jnp.float32(step < last))
        chain.append(optax.masked(until, ending))
    return optax.chain(*chain) if lasts else chain[0]


def _is_multiplier(entry) -> bool:
    if not isinstance(entry, tuple) or not 2 <= len(entry) <= 3:
        return False
    is_text = all(isinstance(x, str) for x in (entry[0], *entry[2:]))
    return is_text and isinstance(entry[1], int | float)


def _find(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as e:
        raise ConfigError(f"{pattern!r} is no regular expression: {e}") from None


def _path_map(params, fn):
    return jax.tree_util.tree_map_with_path(lambda path, _: fn(path_name(path)), params)

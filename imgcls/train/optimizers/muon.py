"""Muon: updates of matrices are orthogonalized."""

import math

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.train.optim import register_optimizer
from imgcls.train.param_paths import map_arrays, map_paths, matches

MUON_REST = ("adam", "sgd")


@register_optimizer("muon")
def muon(c: ConfigDict, schedule: optax.Schedule, params, mask) -> optax.GradientTransformation:
    """Muon for matrices; AdamW or SGD for vectors and what `optim.muon.exclude` matches.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon.
    """
    m = c.muon
    check_choice("optim.muon.rest", m.rest, MUON_REST)
    if m.steps < 1:
        raise ConfigError(f"config.optim.muon.steps={m.steps}: must be 1 or more")
    ranks = jax.tree.map(lambda x: len(x.shape), params)
    excluded = map_paths(params, lambda name: bool(m.exclude and matches(m.exclude, name)))
    groups = jax.tree.map(lambda n, out: "muon" if n > 1 and not out else "rest", ranks, excluded)
    orthogonal = optax.contrib.scale_by_muon(
        ns_steps=m.steps,
        beta=m.momentum,
        nesterov=c.nesterov,
        weight_dimension_numbers=lambda updates: map_arrays(_muon_axes, updates),
    )
    matrices = [orthogonal, optax.stateless(lambda u, _: map_arrays(_scale_by_shape, u))]
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


def _matrix_axes(name: str, x: jax.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of a parameter's inputs and outputs, by which it is used as a matrix.

    The outputs are the last axis, or for queries, keys and values all axes but the first.
    """
    inputs = 1 if name.endswith(("kv/kernel", "/q/kernel")) else x.ndim - 1
    return tuple(range(inputs)), tuple(range(inputs, x.ndim))


def _muon_axes(name: str, x: jax.Array) -> optax.contrib.MuonDimensionNumbers:
    return optax.contrib.MuonDimensionNumbers(*_matrix_axes(name, x))


def _scale_by_shape(name: str, update: jax.Array) -> jax.Array:
    """Multiplies by sqrt(max(1, outputs / inputs)), so that one rate suits all shapes."""
    sides = _matrix_axes(name, update)
    inputs, outputs = (math.prod(update.shape[i] for i in axes) for axes in sides)
    return update * max(1, outputs / inputs) ** 0.5


def _fix_norms(updates, params):
    """Changes updates as if each matrix were first scaled to the norm sqrt(outputs)."""

    def add(name, update, param):
        _, output_axes = _matrix_axes(name, param)
        outputs = math.prod(param.shape[i] for i in output_axes)
        return update + (outputs**0.5 / jnp.linalg.norm(param.ravel()) - 1) * param

    return map_arrays(add, updates, params)

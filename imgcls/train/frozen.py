"""Frozen parameters: those with a factor of 0 in `config.optim.multipliers`, from the start.

They are not differentiated, and the norm of the gradient is that of the others.
"""

import jax
import jax.numpy as jnp

from imgcls.distributed.sharding import path_name
from imgcls.train.param_paths import map_paths, matches


def find_entry(multipliers: tuple, name: str) -> tuple:
    """The first entry of `multipliers` whose regex matches; (name, 1.0) if there is none."""
    return next((entry for entry in multipliers if matches(entry[0], name)), (name, 1.0))


def is_frozen(multipliers: tuple, params):
    """Returns a tree like `params` of bools."""
    return map_paths(params, lambda name: not find_entry(multipliers, name)[1])


def frozen_layers(multipliers: tuple, params) -> frozenset[str]:
    """Paths of the layers all of whose parameters are frozen."""
    flat = jax.tree_util.tree_leaves_with_path(is_frozen(multipliers, params))
    trained = {path_name(path[:-1]) for path, frozen in flat if not frozen}
    return frozenset(path_name(path[:-1]) for path, _ in flat) - trained


def split(params, frozen) -> tuple:
    """(trained parameters, frozen ones): trees like `params` with None for the other part."""
    choose = lambda kept: jax.tree.map(lambda x, f: x if f == kept else None, params, frozen)  # noqa: E731
    return choose(False), choose(True)


def merge(trained, rest):
    """The tree of which `split` made `trained` and `rest`."""
    none = lambda x: x is None  # noqa: E731
    return jax.tree.map(lambda t, r: r if t is None else t, trained, rest, is_leaf=none)


def add_zeros(grads, params):
    """Gradients for all parameters: zeros for those that are not in `grads`."""
    return merge(grads, jax.tree.map(jnp.zeros_like, params))

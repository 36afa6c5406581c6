"""Parameters by the path of their names, such as `layer1_0/conv1/kernel`."""

import re
from collections.abc import Callable

import jax

from imgcls.core.errors import ConfigError
from imgcls.distributed.sharding import path_name


def matches(pattern: str, name: str) -> bool:
    """Whether a regular expression matches anywhere in a path.

    Raises:
      ConfigError: not a regular expression.
    """
    try:
        return re.search(pattern, name) is not None
    except re.error as e:
        raise ConfigError(f"{pattern!r} is not a regular expression: {e}") from None


def map_paths(params, fn: Callable):
    """A tree like `params` with `fn(path)` in place of each array."""
    return jax.tree_util.tree_map_with_path(lambda path, _: fn(path_name(path)), params)


def map_arrays(fn: Callable, *trees):
    """`fn(path, array, ...)` for the arrays of trees; what is masked stays so."""
    return jax.tree_util.tree_map_with_path(lambda path, *x: fn(path_name(path), *x), *trees)

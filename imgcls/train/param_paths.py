"""Parameters by their paths, such as `layer1_0/conv1/kernel`."""

import re
from collections.abc import Callable

import jax

from imgcls.core.errors import ConfigError
from imgcls.distributed.sharding import path_name


def matches(pattern: str, name: str) -> bool:
    """Whether a regular expression matches any part of a path.

    Raises:
      ConfigError: `pattern` is not a regular expression.
    """
    try:
        return re.search(pattern, name) is not None
    except re.error as e:
        raise ConfigError(f"{pattern!r} is not a regular expression: {e}") from None


def map_paths(params, fn: Callable):
    """Returns a tree like `params` with `fn(path)` for each array."""
    return jax.tree_util.tree_map_with_path(lambda path, _: fn(path_name(path)), params)


def map_arrays(fn: Callable, *trees):
    """Returns a tree of `fn(path, array, ...)` for the arrays of trees; masked nodes are kept."""
    return jax.tree_util.tree_map_with_path(lambda path, *x: fn(path_name(path), *x), *trees)

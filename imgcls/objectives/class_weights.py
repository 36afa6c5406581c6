"""Class weights of the training loss, for imbalanced data."""

import math
from collections.abc import Iterable

import numpy as np

from imgcls.core.errors import ConfigError, did_you_mean

_KEY = "config.objective.class_weights"


def create_class_weights(class_weights, data_info, decisions: bool) -> np.ndarray | None:
    """Weights of the classes in the order of the labels.

    Args:
      class_weights: value of `config.objective.class_weights`: None (no weights), 'auto' (by
        frequency), or `{class name: weight}`, where missing classes have weight 1. Pairs
        `(class name, weight)` also work for names that can't be config keys, such as names with
        dots.
      data_info: class names; 'auto' also reads the number N of training examples and the number
        n_c of each class.
      decisions: whether the weights multiply the positive terms of K binary decisions, instead of
        the examples of each class. 'auto' is (N - n_c) / n_c for decisions, which balances the
        positives and negatives of each class (`pos_weight` in PyTorch). Otherwise it is
        N / (K n_c) over the K classes that occur (King & Zeng 2001; 'balanced' in scikit-learn).

    Returns:
      float64 `[K]`, or None for no weights. With 'auto', classes without examples, and for
      decisions also classes that all examples have, get 1.

    Raises:
      ConfigError: not a valid value, an unknown class, or a weight that is not above 0.
    """
    if class_weights is None:
        return None
    if isinstance(class_weights, str):
        if class_weights != "auto":
            raise ConfigError(
                f"{_KEY}={class_weights!r}: unknown; write 'auto' or {{'class name': 2.0}}"
            )
        return _by_frequency(data_info, decisions)
    return _by_name(class_weights, data_info.class_names)


def _by_frequency(data_info, decisions: bool) -> np.ndarray:
    counts = np.array(data_info.class_counts, np.float64)
    if len(counts) != len(data_info.class_names):
        raise ConfigError(
            f"{_KEY}='auto': the examples of each class are not counted; set weights by name"
        )
    if decisions:
        total = data_info.num_examples
        usable = (counts > 0) & (counts < total)
        return np.where(usable, (total - counts) / np.maximum(counts, 1), 1.0)
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 1.0)


def _by_name(class_weights, class_names: Iterable[str]) -> np.ndarray:
    index = {name: i for i, name in enumerate(class_names)}
    weights = np.ones(len(index))
    for name, weight in _pairs(class_weights):
        if name not in index:
            hint = did_you_mean(name, index)
            raise ConfigError(f"{_KEY}: the data has no class {name!r}{hint}")
        if not _is_number(weight) or not 0 < weight < math.inf:
            raise ConfigError(
                f"{_KEY}: the weight of {name!r} is {weight!r}; write a number above 0"
            )
        weights[index[name]] = weight
    return weights


def _pairs(class_weights) -> list[tuple]:
    """`(name, weight)` pairs from a dict or from pairs."""
    pairs = list(class_weights.items()) if isinstance(class_weights, dict) else class_weights
    if not isinstance(pairs, list | tuple) or any(
        not isinstance(pair, list | tuple) or len(pair) != 2 for pair in pairs
    ):
        raise ConfigError(
            f"{_KEY}={class_weights!r}: write 'auto', {{'class name': 2.0}} or "
            "(('class name', 2.0),)"
        )
    return list(pairs)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Weights of the classes in the training loss, for data that has many of one and few of another."""

import math
from collections.abc import Iterable

import numpy as np

from imgcls.core.errors import ConfigError, did_you_mean

_KEY = "config.objective.class_weights"


def create_class_weights(wanted, data_info, decisions: bool) -> np.ndarray | None:
    """The factor of each class.

    Args:
      wanted: None for none; 'auto' by frequency; or `{class name: weight}` (or pairs of the two,
        for names that a config's keys can't be, with dots), where classes without one have 1.
      data_info: the classes; 'auto' also reads how many of N training examples each has, n_c.
      decisions: weights of the positive term alone, for K yes-or-no decisions, and not of the
        examples of each class. 'auto' is then (N - n_c) / n_c, so that the yes and the no of a
        class weigh the same (as PyTorch advises for `pos_weight`). Otherwise it is N / (K n_c)
        over the K classes that have examples (King & Zeng 2001, as scikit-learn's 'balanced').

    Returns:
      float64 `[K]`; None for no weights. By 'auto' a class that no example has (or, of decisions,
      that all have) gets 1.

    Raises:
      ConfigError: another kind of value, an unknown class, or a weight that is not above 0.
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        if wanted != "auto":
            raise ConfigError(f"{_KEY}={wanted!r}: unknown; write 'auto' or {{'class name': 2.0}}")
        return _by_frequency(data_info, decisions)
    return _by_name(wanted, data_info.class_names)


def _by_frequency(data_info, decisions: bool) -> np.ndarray:
    counts = np.array(data_info.class_counts, np.float64)
    if len(counts) != len(data_info.class_names):
        raise ConfigError(
            f"{_KEY}='auto': the examples of each class were not counted; give weights by name"
        )
    if decisions:
        total = data_info.num_examples
        usable = (counts > 0) & (counts < total)
        return np.where(usable, (total - counts) / np.maximum(counts, 1), 1.0)
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 1.0)


def _by_name(wanted, class_names: Iterable[str]) -> np.ndarray:
    number = {name: i for i, name in enumerate(class_names)}
    weights = np.ones(len(number))
    for name, weight in _pairs(wanted):
        if name not in number:
            hint = did_you_mean(name, number)
            raise ConfigError(f"{_KEY}: the data has no class {name!r}{hint}")
        if not _is_number(weight) or not 0 < weight < math.inf:
            raise ConfigError(f"{_KEY}: the weight of {name!r} is {weight!r}; write one above 0")
        weights[number[name]] = weight
    return weights


def _pairs(wanted) -> list[tuple]:
    """`(name, weight)` of a dict or of pairs."""
    pairs = list(wanted.items()) if isinstance(wanted, dict) else wanted
    if not isinstance(pairs, list | tuple) or any(
        not isinstance(pair, list | tuple) or len(pair) != 2 for pair in pairs
    ):
        raise ConfigError(
            f"{_KEY}={wanted!r}: write 'auto', {{'class name': 2.0}} or (('class name', 2.0),)"
        )
    return list(pairs)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

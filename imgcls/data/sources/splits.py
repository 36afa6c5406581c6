"""Splits and slices of splits: `train[:90%]`."""

import re

import numpy as np

from imgcls.core.errors import ConfigError


def parse_split(split: str) -> tuple[str, str, str]:
    """Parses `'train[:90%]'` into `('train', '', '90%')`: name, first and last bound ('' if open).

    Raises:
      ConfigError: `split` does not have that form.
    """
    match = re.fullmatch(r"(\w+)(?:\[(\d*%?):(\d*%?)\])?", split.replace(" ", ""))
    if not match or any((bound or "").startswith("%") for bound in match.groups()[1:]):
        raise ConfigError(f"split {split!r}: not understood; write train, train[:90%] or test[10:]")
    return match[1], match[2] or "", match[3] or ""


def splits_overlap(one: str, other: str) -> bool:
    """Whether two splits may share examples: `train[:90%]` and `train[90%:]` do not.

    A bound in examples and one in percent are not compared.
    """
    (name, first, last), (other_name, other_first, other_last) = map(parse_split, (one, other))
    disjoint = _is_up_to(last, other_first) or _is_up_to(other_last, first)
    return name == other_name and not disjoint


def stratified_slice(
    labels: np.ndarray, first: str, last: str, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Returns the indices of a slice with every class in its overall proportion.

    The slice is cut from one seeded order in which every class is spread evenly, so `[:80%]` and
    `[80%:]` are disjoint and complete.

    Args:
      labels: int `[N]`.
      first, last: bounds as in `parse_split`.
      seed: seed of the order.
      groups: group of each example, int `[N]`. A group stays together: it counts for its most
        frequent class, and belongs to the slice that its first example falls into.

    Returns:
      Sorted int64 indices into `labels`.
    """
    labels, sizes, group_of = _group_labels(np.asarray(labels), groups)
    rng = np.random.default_rng(seed)
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        shift = rng.random()
        members = rng.permutation(np.flatnonzero(labels == label))
        before = np.cumsum(sizes[members]) - sizes[members]
        # Position of the examples in 0..1; the shift keeps classes from rounding the same way.
        rank[members] = (before + shift) / sizes[members].sum()
    order = np.argsort(rank, kind="stable")
    position = np.empty(len(labels), int)
    position[order] = np.cumsum(sizes[order]) - sizes[order]
    start = _parse_bound(first, len(group_of), 0)
    stop = _parse_bound(last, len(group_of), len(group_of))
    return np.flatnonzero(((position >= start) & (position < stop))[group_of])


def _group_labels(labels: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Class and size of each group `[G]`, and the group of each example `[N]`."""
    if groups is None:
        return labels, np.ones(len(labels), int), np.arange(len(labels))
    _, group_of = np.unique(groups, return_inverse=True)
    pairs, counts = np.unique(np.stack([group_of, labels], axis=1), axis=0, return_counts=True)
    # The most frequent label of each group comes first; ties go to the lowest label.
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))
    _, firsts = np.unique(pairs[order, 0], return_index=True)
    return pairs[order[firsts], 1], np.bincount(group_of), group_of


def _is_up_to(last: str, first: str) -> bool:
    """Whether a slice with the bound `last` ends before one with the bound `first` starts."""
    if not last or not first or last.endswith("%") != first.endswith("%"):
        return False
    return int(last.rstrip("%")) <= int(first.rstrip("%"))


def _parse_bound(text: str, length: int, default: int) -> int:
    if not text:
        return default
    number = int(text.rstrip("%"))
    return min(round(length * number / 100) if text.endswith("%") else number, length)

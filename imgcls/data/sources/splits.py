"""Splits and slices of splits: `train[:90%]`."""

import re

import numpy as np

from imgcls.core.errors import ConfigError


def parse_split(split: str) -> tuple[str, str, str]:
    """`'train[:90%]'` -> `('train', '', '90%')`: name, first and last bound ('' where open).

    Raises:
      ConfigError: not of that form.
    """
    match = re.fullmatch(r"(\w+)(?:\[(\d*%?):(\d*%?)\])?", split.replace(" ", ""))
    if not match or any((bound or "").startswith("%") for bound in match.groups()[1:]):
        raise ConfigError(f"split {split!r}: not understood; write train, train[:90%] or test[10:]")
    return match[1], match[2] or "", match[3] or ""


def splits_overlap(one: str, other: str) -> bool:
    """Whether two splits may have examples in common: `train[:90%]` and `train[90%:]` have none."""
    (name, first, last), (other_name, other_first, other_last) = map(parse_split, (one, other))
    apart = (last and last == other_first) or (first and first == other_last)
    return name == other_name and not apart


def stratified_slice(
    labels: np.ndarray, first: str, last: str, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Indices of a slice that holds every class in the proportion of the whole.

    The examples are laid in one seeded order in which every class is spread evenly, and the slice
    is cut from that order, so `[:80%]` and `[80%:]` are disjoint and complete.

    Args:
      labels: int `[N]`.
      first, last: bounds as in `parse_split`.
      seed: of the order.
      groups: int `[N]`, examples that stay together; a group counts for its most frequent class,
        and belongs to the slice that its first example falls into.

    Returns:
      Sorted int64 indices into `labels`.
    """
    labels, sizes, unit = _units(np.asarray(labels), groups)
    rng = np.random.default_rng(seed)
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        shift = rng.random()
        members = rng.permutation(np.flatnonzero(labels == label))
        before = np.cumsum(sizes[members]) - sizes[members]
        # Where in 0..1 the class's examples come; the shift keeps classes from rounding alike.
        rank[members] = (before + shift) / sizes[members].sum()
    order = np.argsort(rank, kind="stable")
    place = np.empty(len(labels), int)
    place[order] = np.cumsum(sizes[order]) - sizes[order]
    start = _bound(first, len(unit), 0)
    stop = _bound(last, len(unit), len(unit))
    return np.flatnonzero(((place >= start) & (place < stop))[unit])


def _units(labels: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Class and size of each group `[G]`, and the group of each example `[N]`."""
    if groups is None:
        return labels, np.ones(len(labels), int), np.arange(len(labels))
    _, unit = np.unique(groups, return_inverse=True)
    pairs, counts = np.unique(np.stack([unit, labels], axis=1), axis=0, return_counts=True)
    # The most frequent label of each group comes first; of equally frequent ones the lowest.
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))
    _, firsts = np.unique(pairs[order, 0], return_index=True)
    return pairs[order[firsts], 1], np.bincount(unit), unit


def _bound(text: str, length: int, default: int) -> int:
    if not text:
        return default
    number = int(text.rstrip("%"))
    return min(round(length * number / 100) if text.endswith("%") else number, length)

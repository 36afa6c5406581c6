"""A checked table of examples as a source."""

import collections
from typing import Protocol

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.sources.source import Dataset, SourceOptions
from imgcls.data.sources.splits import parse_split, stratified_slice
from imgcls.data.table.check import check_table
from imgcls.data.table.problems import Problems
from imgcls.data.table.table import FRACTIONS, SPLITS, Item, Table


class Pictures(Protocol):
    """Where a source's bytes come from: `Files`, or records."""

    def read(self, path: str) -> bytes: ...

    def name(self, path: str) -> str: ...


class TableSource:
    """Examples of a table; see `imgcls.data.sources.source.Source`.

    Args:
      items: the examples, in their order.
      pictures: reads their bytes.
      class_names: of the K classes.
      multi_label: any number of labels each.
      splits: of the whole data set.
      problems: of the whole data set.
    """

    def __init__(
        self,
        items: list[Item],
        pictures: Pictures,
        class_names: tuple[str, ...],
        multi_label: bool,
        splits: tuple[str, ...],
        problems: Problems,
    ):
        self.class_names, self.multi_label = class_names, multi_label
        self.splits, self.problems = splits, problems
        self._items, self._pictures = items, pictures
        number = {name: i for i, name in enumerate(class_names)}
        self._numbers = [sorted(number[label] for label in item.labels) for item in items]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict:
        numbers = self._numbers[index]
        label = self._hot([numbers])[0] if self.multi_label else numbers[0]
        return {"image": self._pictures.read(self._items[index].path), "label": label}

    def labels(self) -> np.ndarray:
        """All labels, int `[N]` or multi-hot uint8 `[N, K]`."""
        if self.multi_label:
            return self._hot(self._numbers)
        return np.array([numbers[0] for numbers in self._numbers], int)

    def name(self, index: int) -> str:
        return self._pictures.name(self._items[index].path)

    def group(self, index: int) -> str | None:
        return self._items[index].group

    def metadata(self, index: int) -> dict:
        return self._items[index].metadata

    def _hot(self, numbers: list[list[int]]) -> np.ndarray:
        hot = np.zeros((len(numbers), len(self.class_names)), np.uint8)
        for row, columns in zip(hot, numbers, strict=True):
            row[columns] = 1
        return hot


def open_table(table: Table, files: Files, options: SourceOptions) -> Dataset:
    """Checks a table of examples against its files, and divides it into splits.

    Raises:
      ConfigError: invalid entries with `on_error='fail'`.
    """
    items, *about = check_table(table, files, options.on_error)
    return divide(items, files, *about, seed=options.seed, said=table.said)


def divide(
    items: list[Item],
    pictures: Pictures,
    class_names: tuple[str, ...],
    multi_label: bool,
    problems: Problems,
    *,
    seed: int,
    said: str,
    splits: tuple[str, ...] | None = None,
) -> Dataset:
    """The data set of items in order; without splits of its own it is divided 80/10/10.

    Args:
      items: the examples, in their order; all of them have a split, or none.
      pictures, class_names, multi_label, problems: see `TableSource`.
      seed: of splits and slices.
      said: the source in the user's words.
      splits: names; None are those that occur.
    """
    own = [item.split for item in items]
    if splits is None:
        splits = tuple(s for s in FRACTIONS if s in own) or tuple(FRACTIONS)
    strata, groups = _strata(items), _group_numbers(items)

    def open_split(split: str) -> TableSource:
        name, first, last = parse_split(split)
        if name not in splits:
            alike = SPLITS.get(name, name)
            name = next((s for s in splits if SPLITS.get(s, s) == alike), alike)
        if name not in splits:
            have = ", ".join(sorted(splits))
            raise ConfigError(
                f"{said}: has no split {name!r}; it has {have}"
                if any(own)
                else f"{said}: split {name!r} is none of {', '.join(splits)}"
            )
        chosen = np.flatnonzero([s == name for s in own]) if any(own) else None
        if chosen is None:
            chosen = stratified_slice(strata, *FRACTIONS[name], seed, groups)
        if first or last:
            within = None if groups is None else groups[chosen]
            chosen = chosen[stratified_slice(strata[chosen], first, last, seed, within)]
        kept = [items[i] for i in chosen]
        return TableSource(kept, pictures, class_names, multi_label, splits, problems)

    return Dataset(splits, open_split, problems)


def _strata(items: list[Item]) -> np.ndarray:
    """The class that each example is divided by, int `[N]`: of several the rarest, -1 of none.

    Counted by name, so that neither the order of the classes nor one without examples matters.
    """
    counts = collections.Counter(label for item in items for label in item.labels)
    number = {name: i for i, name in enumerate(sorted(counts))}
    rarest = (min(i.labels, key=lambda n: (counts[n], n), default=None) for i in items)
    return np.array([number.get(name, -1) for name in rarest], int)


def _group_numbers(items: list[Item]) -> np.ndarray | None:
    """A number for each example's group, int `[N]`; None where there are no groups."""
    if all(item.group is None for item in items):
        return None
    number: dict = {}
    keys = (i if item.group is None else item.group for i, item in enumerate(items))
    return np.array([number.setdefault(key, len(number)) for key in keys])

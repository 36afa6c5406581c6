"""A checked table of examples as a source."""

import collections
from typing import Protocol

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.sources.source import Dataset, SourceOptions
from imgcls.data.sources.splits import parse_split, stratified_slice
from imgcls.data.table.check import CheckedTable, check_table
from imgcls.data.table.table import FRACTIONS, SPLITS, Item, Table


class ImageStore(Protocol):
    """Where the bytes of a table's images come from: `Files` or `Records`."""

    def read(self, path: str) -> bytes: ...

    def name(self, path: str) -> str: ...


class TableSource:
    """Examples of a table; see `imgcls.data.sources.source.Source`.

    Args:
      table: examples of one split, with the classes and problems of the dataset.
      images: reads the bytes of the images.
      splits: names of the dataset's splits.
    """

    def __init__(self, table: CheckedTable, images: ImageStore, splits: tuple[str, ...]):
        self.class_names, self.multi_label = table.class_names, table.multi_label
        self.splits, self.problems = splits, table.problems
        self._items, self._images = table.items, images
        number = {name: i for i, name in enumerate(self.class_names)}
        self._numbers = [sorted(number[label] for label in item.labels) for item in self._items]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict:
        numbers = self._numbers[index]
        label = self._hot([numbers])[0] if self.multi_label else numbers[0]
        return {"image": self._images.read(self._items[index].path), "label": label}

    def labels(self) -> np.ndarray:
        """All labels, int `[N]` or multi-hot uint8 `[N, K]`."""
        if self.multi_label:
            return self._hot(self._numbers)
        return np.array([numbers[0] for numbers in self._numbers], int)

    def name(self, index: int) -> str:
        return self._images.name(self._items[index].path)

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
    checked = check_table(table, files, options.on_error)
    return divide(checked, files, seed=options.seed, spec=table.spec)


def divide(
    table: CheckedTable,
    images: ImageStore,
    *,
    seed: int,
    spec: str,
    splits: tuple[str, ...] | None = None,
) -> Dataset:
    """The dataset of a table; where its items have no splits, they are divided 80/10/10.

    Args:
      table: examples in their order.
      images: reads the bytes of the images.
      seed: seed of the splits and slices.
      spec: the source as the user wrote it, for messages.
      splits: names of the splits; None takes those that occur.
    """
    items = table.items
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
                f"{spec}: has no split {name!r}; it has {have}"
                if any(own)
                else f"{spec}: split {name!r} is none of {', '.join(splits)}"
            )
        chosen = np.flatnonzero([s == name for s in own]) if any(own) else None
        if chosen is None:
            chosen = stratified_slice(strata, *FRACTIONS[name], seed, groups)
        if first or last:
            within = None if groups is None else groups[chosen]
            chosen = chosen[stratified_slice(strata[chosen], first, last, seed, within)]
        kept = table._replace(items=[items[i] for i in chosen])
        return TableSource(kept, images, splits)

    return Dataset(splits, open_split, table.problems)


def _strata(items: list[Item]) -> np.ndarray:
    """The class that each example is divided by, int `[N]`: of several the rarest, -1 of none.

    Counted by name, so that neither the order of the classes nor one without examples matters.
    """
    counts = collections.Counter(label for item in items for label in item.labels)
    number = {name: i for i, name in enumerate(sorted(counts))}
    rarest = (min(i.labels, key=lambda n: (counts[n], n)) if i.labels else None for i in items)
    return np.array([-1 if name is None else number[name] for name in rarest], int)


def _group_numbers(items: list[Item]) -> np.ndarray | None:
    """A number for each example's group, int `[N]`; None where there are no groups."""
    if all(item.group is None for item in items):
        return None
    number: dict[int | str, int] = {}
    keys = (i if item.group is None else item.group for i, item in enumerate(items))
    return np.array([number.setdefault(key, len(number)) for key in keys])

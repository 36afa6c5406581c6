"""A checked table of examples as a source."""

import collections
from typing import Protocol

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.sources.source import Dataset, SourceOptions
from imgcls.data.sources.splits import parse_split, stratified_slice
from imgcls.data.table.check import CheckedTable, check_table
from imgcls.data.table.table import FRACTIONS, Item, Table, split_of


class ImageStore(Protocol):
    """Store of the images of a table: `Files` or `Records`."""

    def read(self, path: str) -> bytes: ...

    def name(self, path: str) -> str: ...


class TableSource:
    """Examples of a table; see `imgcls.data.sources.source.Source`.

    Args:
      table: examples of one split, with the classes and problems of the dataset.
      images: store of the images.
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
        label = self._multi_hot([numbers])[0] if self.multi_label else numbers[0]
        item = self._items[index]
        times = {} if item.segment is None else item.segment._asdict()
        return {"image": self._images.read(item.path), "label": label, **times}

    def labels(self) -> np.ndarray:
        """All labels, int `[N]` or multi-hot uint8 `[N, K]`."""
        if self.multi_label:
            return self._multi_hot(self._numbers)
        return np.array([numbers[0] for numbers in self._numbers], int)

    def name(self, index: int) -> str:
        item = self._items[index]
        name = self._images.name(item.path)
        return name if item.segment is None else item.segment.of(name)

    def group(self, index: int) -> str | None:
        return self._items[index].group

    def metadata(self, index: int) -> dict:
        return self._items[index].metadata

    def _multi_hot(self, numbers: list[list[int]]) -> np.ndarray:
        hot = np.zeros((len(numbers), len(self.class_names)), np.uint8)
        for row, columns in zip(hot, numbers, strict=True):
            row[columns] = 1
        return hot


def open_table(table: Table, files: Files, options: SourceOptions) -> Dataset:
    """Checks a table of examples against its files, and splits it.

    Raises:
      ConfigError: invalid entries with `on_error='fail'`.
    """
    checked = check_table(table, files, options.on_error, options.write_classes)
    return split_table(checked, files, seed=options.seed, spec=table.spec)


def split_table(
    table: CheckedTable,
    images: ImageStore,
    *,
    seed: int,
    spec: str,
    splits: tuple[str, ...] | None = None,
) -> Dataset:
    """Builds the dataset of a table; items without splits are divided 80/10/10.

    Args:
      table: examples of all splits, in order.
      images: store of the images.
      seed: seed of the splits and slices.
      spec: the source as the user wrote it, for messages.
      splits: names of the splits; None uses those of the items.
    """
    items = table.items
    item_splits = [item.split for item in items]
    if splits is None:
        splits = tuple(s for s in FRACTIONS if s in item_splits) or tuple(FRACTIONS)
    strata, groups = _strata(items), _group_numbers(items)

    def open_split(split: str) -> TableSource:
        name, first, last = parse_split(split)
        if name not in splits:
            canonical = split_of(name) or name
            name = next((s for s in splits if (split_of(s) or s) == canonical), canonical)
        if name not in splits:
            raise ConfigError(
                f"{spec}: has no split {name!r}; it has {', '.join(sorted(splits))}"
                if any(item_splits)
                else f"{spec}: split {name!r} is not one of {', '.join(splits)}"
            )
        if any(item_splits):
            indices = np.flatnonzero([s == name for s in item_splits])
        else:
            indices = stratified_slice(strata, *FRACTIONS[name], seed, groups)
        if first or last:
            split_groups = None if groups is None else groups[indices]
            indices = indices[stratified_slice(strata[indices], first, last, seed, split_groups)]
        split_items = table._replace(items=[items[i] for i in indices])
        return TableSource(split_items, images, splits)

    return Dataset(splits, open_split, table.problems, labels_in_memory=True)


def _strata(items: list[Item]) -> np.ndarray:
    """Class that stratifies each example, int `[N]`: the rarest of its labels, -1 without labels.

    Classes are numbered by name, so that the split does not depend on `classes.txt`.
    """
    counts = collections.Counter(label for item in items for label in item.labels)
    number = {name: i for i, name in enumerate(sorted(counts))}
    rarest = (min(i.labels, key=lambda n: (counts[n], n)) if i.labels else None for i in items)
    return np.array([-1 if name is None else number[name] for name in rarest], int)


def _group_numbers(items: list[Item]) -> np.ndarray | None:
    """Number of each example's group, int `[N]`; None without groups."""
    if all(item.group is None for item in items):
        return None
    number: dict[int | str, int] = {}
    keys = (i if item.group is None else item.group for i, item in enumerate(items))
    return np.array([number.setdefault(key, len(number)) for key in keys])

"""One table of examples, whatever names them: checked, put in order and split, then a source.

A folder, a manifest and a labelling tool's file that describe the same data set end here in the
same table: sorted by path, with the same classes, labels and splits.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from absl import logging

from imgcls.data import problems as kinds
from imgcls.data.classes import read_classes, write_classes
from imgcls.data.files import Files
from imgcls.data.locate import locate
from imgcls.data.problems import Problems
from imgcls.data.sources import DataSet, parse_split, stratified_slice
from imgcls.errors import ConfigError

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLITS = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
# What comes without splits is divided by seed, every class alike.
FRACTIONS = {"train": ("", "80%"), "val": ("80%", "90%"), "test": ("90%", "")}


class Item(NamedTuple):
    """One example: where its picture is, and what is known of it.

    Attributes:
      path: of the picture, from the root of the files.
      labels: names of its classes.
      split, group: where there are any.
      metadata: all else, ready for JSON.
    """

    path: str
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    metadata: dict = {}


@dataclasses.dataclass
class Table:
    """What a reader found.

    Attributes:
      said: the source in the user's words, for messages.
      classes_file: where the order of the classes is kept.
      items: the examples, with paths as the file writes them.
      problems: met so far.
      classes: declared ones, beside those that occur.
      listed: labels come as lists, so that there may be any number of them.
      by_name: a picture that is not where its path says is looked for by its file name.
      multi_label, separator: what the user wants, see `imgcls.data.sources.open_data_set`.
    """

    said: str
    classes_file: str
    multi_label: bool | None = None
    separator: str = "|"
    items: list[Item] = dataclasses.field(default_factory=list)
    problems: Problems = dataclasses.field(default_factory=Problems)
    classes: set[str] = dataclasses.field(default_factory=set)
    listed: bool = False
    by_name: bool = False

    def add(
        self,
        path: str,
        labels: Iterable[str],
        split: str | None = None,
        group: str | None = None,
        metadata: dict | None = None,
    ) -> None:
        """Adds an example; its labels are stripped, and each counts once."""
        names = _clean(tuple(labels))
        if not _is_line(" ".join(names)):
            self.problems.add(kinds.MALFORMED, f"{path} has a label that is no line of text")
            return
        self.items.append(Item(path, names, split, group, metadata or {}))


@functools.lru_cache(maxsize=4096)
def _clean(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(str.strip, labels))))


def _is_line(text: str) -> bool:
    """Whether it can be written as one line, as classes are.

    A folder's name may hold bytes that are no UTF-8, and JSON half a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in text and "\r" not in text


class Pictures(Protocol):
    """Where a source's bytes come from: `Files`, or records."""

    def read(self, path: str) -> bytes: ...

    def name(self, path: str) -> str: ...


class TableSource:
    """Examples of a table; see `imgcls.data.sources.Source`.

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


def settle(table: Table, files: Files, *, seed: int, on_error: str) -> DataSet:
    """Checks a table against the files, puts it in order, and divides it.

    Args:
      table: what a reader found.
      files: its pictures.
      seed: of splits and slices.
      on_error: 'fail' or 'skip' what is wrong.

    Raises:
      ConfigError: problems with `on_error='fail'`; or several labels with `multi_label=False`.
    """
    multi_label = _is_multi_label(table)
    problems, place = table.problems, table.classes_file
    known = read_classes(place)
    labels = {label for item in table.items for label in item.labels} | table.classes
    for name in sorted(name for name in table.classes if not _is_line(name)):
        problems.add(kinds.MALFORMED, f"the class {name!r} is no line of text")
        labels.discard(name)
    names = tuple(sorted(labels)) if known is None else known
    items = sorted(locate(table.items, files, problems, table.by_name), key=lambda i: i.path)
    items = list(_without_repeats(items, problems))
    problems.hints[kinds.UNKNOWN] = f"add it at the end of {place}, or remove that file"
    items = list(_with_labels(items, set(names), multi_label, problems))
    items = list(_with_splits(items, problems))
    items = list(_with_whole_groups(items, problems))
    if problems and on_error == "fail":
        raise ConfigError(
            f"{table.said}: {problems}; mend the file or set config.data.on_error=skip"
        )
    if problems:
        logging.warning("%s: left out: %s", table.said, problems)
    if known is None and names:
        write_classes(names, place)
    return divide(items, files, names, multi_label, problems, seed=seed, said=table.said)


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
) -> DataSet:
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

    return DataSet(splits, open_split)


def _is_multi_label(table: Table) -> bool:
    several = next((item for item in table.items if len(item.labels) > 1), None)
    if table.multi_label is False and several is not None:
        raise ConfigError(
            f"{table.said}: config.data.multi_label=False, but {several.path} has the labels "
            f"{', '.join(several.labels)}; leave one, or set config.data.multi_label=True"
        )
    return table.listed or several is not None if table.multi_label is None else table.multi_label


def _without_repeats(items: list[Item], problems: Problems) -> Iterable[Item]:
    """One item a picture; where two of them differ, none."""
    by_path = collections.defaultdict(list)
    for item in items:
        by_path[item.path].append(item)
    for path, same in by_path.items():
        if len({(frozenset(i.labels), i.split, i.group) for i in same}) > 1:
            problems.add(kinds.CONFLICT, path)
            continue
        if len(same) > 1:
            problems.add(kinds.DUPLICATE, path)
        yield same[0]


def _with_labels(
    items: list[Item], known: set[str], multi_label: bool, problems: Problems
) -> Iterable[Item]:
    for item in items:
        unknown = [label for label in item.labels if label not in known]
        if unknown:
            problems.add(kinds.UNKNOWN, f"{unknown[0]!r} of {item.path}")
        elif not item.labels and not multi_label:
            problems.add(kinds.UNLABELLED, item.path)
        else:
            yield item


def _with_splits(items: list[Item], problems: Problems) -> Iterable[Item]:
    """Each item with its split; where no file says one, folders named for splits may."""
    if any(item.split for item in items):
        for item in items:
            if item.split:
                yield item
            else:
                problems.add(kinds.MALFORMED, f"{item.path} has no split, others have")
        return
    parts = [item.path.split("/")[:-1] for item in items]
    depth = 0
    while parts and all(len(p) > depth for p in parts) and len({p[depth] for p in parts}) == 1:
        depth += 1
    splits = [SPLITS.get(p[depth]) if len(p) > depth else None for p in parts]
    if None in splits:
        yield from items
        return
    for item, split in zip(items, splits, strict=True):
        yield item._replace(split=split)


def _with_whole_groups(items: list[Item], problems: Problems) -> Iterable[Item]:
    """Leaves out what cuts a group: all outside of the split that holds most of it."""
    splits = collections.defaultdict(collections.Counter)
    for item in items:
        if item.group is not None:
            splits[item.group][item.split] += 1
    homes = {group: max(FRACTIONS, key=lambda s: n[s]) for group, n in splits.items() if len(n) > 1}
    for group in homes:
        problems.add(kinds.TWO_SPLITS, f"{group}: {' and '.join(s for s in splits[group])}")
    return [i for i in items if i.group not in homes or i.split == homes[i.group]]


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

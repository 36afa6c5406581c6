"""Checks a table of examples against its files, and puts it in order."""

import collections
import math
from collections.abc import Iterable
from typing import NamedTuple

from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.listing import describe_extensions
from imgcls.data.table import problems as kinds
from imgcls.data.table.classes import read_classes, save_classes
from imgcls.data.table.locate import locate
from imgcls.data.table.problems import Problems
from imgcls.data.table.table import FRACTIONS, Item, Table, is_line, split_of


class CheckedTable(NamedTuple):
    """A table without invalid entries.

    Attributes:
      items: examples, sorted by path; either all or none of them have a split.
      class_names: names of the K classes.
      multi_label: whether an example may have any number of labels.
      problems: entries that are left out.
    """

    items: list[Item]
    class_names: tuple[str, ...]
    multi_label: bool
    problems: Problems


def check_table(
    table: Table, files: Files, on_error: str, write_classes: bool = False
) -> CheckedTable:
    """Checks a table against its files, and sorts it by path.

    Args:
      table: examples as read from the source.
      files: files of the images.
      on_error: 'fail' raises an error at invalid entries, 'skip' leaves them out.
      write_classes: whether to write the order of the classes, if its file does not exist.

    Raises:
      ConfigError: invalid entries with `on_error='fail'`, or several labels with
        `multi_label=False`.
    """
    multi_label = _is_multi_label(table)
    problems = table.problems
    labels = _collect_labels(table)
    classes_file, existing_names = _read_order(table, labels)
    names = tuple(sorted(labels)) if existing_names is None else existing_names
    items = sorted(locate(table.items, files, problems, table.by_name), key=_order)
    items = [_group_by_video(item) for item in items]
    items = list(_without_duplicates(items, problems, table.multi_label is True))
    items = list(_with_known_labels(items, set(names), multi_label, problems))
    items = list(_with_splits(items, problems))
    items = list(_with_undivided_groups(items, problems))
    if problems.passed_over:
        found = ", ".join(f"{count:,} x {kind}" for kind, count in problems.passed_over.items())
        problems.hints[kinds.UNLABELED] = f"passed over, as they label no image: {found}"
        log.warn_once(f"{table.spec}: {problems.hints[kinds.UNLABELED]}")
    if problems and on_error == "fail":
        raise ConfigError(
            f"{table.spec}: {problems}; fix the file or set config.data.on_error=skip"
        )
    if problems:
        log.warning(f"{table.spec}: left out: {problems}")
    if problems.other_files:
        log.warn_once(f"{table.spec}: passed over: {describe_extensions(problems.other_files)}")
    unused = [name for name in names if name not in labels]
    if unused:
        log.warn_once(
            f"{table.spec}: only {classes_file} has the class {', '.join(map(repr, unused[:5]))}"
            f"{', ...' if len(unused) > 5 else ''}, no image; remove its line if it is not a class"
        )
    if write_classes and existing_names is None and names:
        save_classes(names, classes_file)
    return CheckedTable(items, names, multi_label, problems)


def _order(item: Item) -> tuple:
    start, end = item.segment or (None, None)
    return item.path, start or 0.0, math.inf if end is None else end


def _group_by_video(item: Item) -> Item:
    """An item whose video is its group, so that all parts of a video are in one split."""
    if item.segment is None or item.group is not None or item.split is not None:
        return item
    return item._replace(group=item.path)


def _collect_labels(table: Table) -> set[str]:
    """All classes of a table: those of its examples, and declared ones."""
    labels = {label for item in table.items for label in item.labels}
    parents = (table.parents & table.classes) - labels
    if parents:
        log.warn_once(
            f"{table.spec}: not classes, as they only group others and no image has them: "
            f"{', '.join(map(repr, sorted(parents)))}"
        )
    labels |= table.classes - parents
    for name in sorted(name for name in table.classes if not is_line(name)):
        table.problems.add(kinds.MALFORMED, f"the class {name!r} is not a line of text")
        labels.discard(name)
    return labels


def _read_order(table: Table, labels: set[str]) -> tuple[str, tuple[str, ...] | None]:
    """The file with the order of a table's classes, and its names; None if there is no file.

    A shared file without any of the labels belongs to another table.
    """
    path, otherwise = table.classes_file, "remove that file"
    names = read_classes(path)
    if names is None and table.shared_classes_file:
        shared = read_classes(table.shared_classes_file)
        if shared is not None and labels.intersection(shared):
            otherwise = f"list the classes of this table in {path}"
            path, names = table.shared_classes_file, shared
    table.problems.hints[kinds.UNKNOWN] = f"add it at the end of {path}, or {otherwise}"
    return path, names


def _is_multi_label(table: Table) -> bool:
    several = next((item for item in table.items if len(item.labels) > 1), None)
    if table.multi_label is False and several is not None:
        raise ConfigError(
            f"{table.spec}: config.data.multi_label=False, but {several.path} has the labels "
            f"{', '.join(several.labels)}; keep one, or set config.data.multi_label=True"
        )
    return table.listed or several is not None if table.multi_label is None else table.multi_label


def _without_duplicates(items: list[Item], problems: Problems, merge: bool) -> Iterable[Item]:
    """Yields one item per image, or none if its items differ; `merge` joins their labels."""
    by_path = collections.defaultdict(list)
    for item in items:
        by_path[item.path, item.segment].append(item)
    for (path, _), duplicates in by_path.items():
        labels = {frozenset(i.labels) for i in duplicates}
        if len({(i.split, i.group) for i in duplicates}) > 1:
            problems.add(kinds.CONFLICT, path)
            continue
        if len(labels) > 1:
            if merge:
                joined = dict.fromkeys(label for i in duplicates for label in i.labels)
                yield duplicates[0]._replace(labels=tuple(joined))
            else:
                problems.add(kinds.CONFLICT, path)
                problems.hints[kinds.CONFLICT] = "config.data.multi_label=True joins the labels"
            continue
        if len(duplicates) > 1:
            problems.add(kinds.DUPLICATE, path)
        yield duplicates[0]


def _with_known_labels(
    items: list[Item], known: set[str], multi_label: bool, problems: Problems
) -> Iterable[Item]:
    for item in items:
        unknown = [label for label in item.labels if label not in known]
        if unknown:
            problems.add(kinds.UNKNOWN, f"{unknown[0]!r} of {item.path}")
        elif not item.labels and not multi_label:
            problems.add(kinds.UNLABELED, item.path)
        else:
            yield item


def _with_splits(items: list[Item], problems: Problems) -> Iterable[Item]:
    """Yields each item with its split; without any, splits are taken from folder names."""
    if any(item.split for item in items):
        for item in items:
            if item.split:
                yield item
            else:
                problems.add(kinds.MALFORMED, f"{item.path} has no split, but others have one")
        return
    parts = [item.path.split("/")[:-1] for item in items]
    depth = 0
    while parts and all(len(p) > depth for p in parts) and len({p[depth] for p in parts}) == 1:
        depth += 1
    splits = [split_of(p[depth]) if len(p) > depth else None for p in parts]
    if None in splits:
        yield from items
        return
    for item, split in zip(items, splits, strict=True):
        yield item._replace(split=split)


def _with_undivided_groups(items: list[Item], problems: Problems) -> Iterable[Item]:
    """Keeps each group in one split: leaves out its items outside of its largest split."""
    counts = collections.defaultdict(collections.Counter)
    for item in items:
        if item.group is not None:
            counts[item.group][item.split] += 1
    largest = {
        group: max(FRACTIONS, key=lambda s: n[s]) for group, n in counts.items() if len(n) > 1
    }
    for group in largest:
        problems.add(kinds.TWO_SPLITS, f"{group}: {' and '.join(s for s in counts[group])}")
    return [i for i in items if i.group not in largest or i.split == largest[i.group]]

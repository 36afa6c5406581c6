"""Class folders, unpacked or in a zip: `PATH/class/*.jpg`, or `PATH/train/class/*.jpg`."""

import os

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.listing import (
    Listing,
    count_extensions,
    describe_extensions,
    is_companion,
)
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.table_source import open_table
from imgcls.data.table import problems as kinds
from imgcls.data.table.names import normalize
from imgcls.data.table.table import SPLIT_NAMES, Table, split_of, splits_in

EXPECTED = "PATH/CLASS/*.{0} or PATH/train/CLASS/*.{0}"
_NAME_LABELS = "move them into class folders, or name their labels in a manifest: docs/data.md"


@register_source("folder", is_files=True)
def open_folder(path: str, options: SourceOptions) -> Dataset:
    """Opens images in one folder per class, unpacked or in a zip.

    Args:
      path: a directory or a `.zip`; the folder with the classes (or splits) may be nested, if it
        is the only one on its level.
      options: `on_error`, `multi_label`, `seed` and `write_classes` are used.

    Raises:
      ConfigError: `path` does not exist, has no class folders, or has folders of splits beside
        others.
    """
    table, files = read_folder(path, options)
    return open_table(table, files, options)


def read_folder(path: str, options: SourceOptions) -> tuple[Table, Files]:
    """Reads the class folders at a path, unchecked; see `open_folder`."""
    spec = f"folder:{path}"
    files = Files(path, spec, options.videos)
    classes_file = f"{os.path.splitext(files.root)[0]}.classes.txt"
    if not files.is_zip:
        classes_file = os.path.join(files.root, "classes.txt")
    table = Table(spec, classes_file, options.multi_label)
    listing = files.listing()
    # The file of the classes may have been written by an earlier run.
    others = [path for path in listing.others if path != "classes.txt"]
    table.problems.other_files = count_extensions(others)
    _add_items(listing._replace(others=others), table, options.videos)
    return table, files


def _add_items(listing: Listing, table: Table, videos: bool) -> None:
    files, parts = listing.images, [f.split("/") for f in listing.images]
    depth = _find_depth(parts)
    folders = {p[depth] for p in parts if len(p) > depth + 1}
    nested = {p[depth] for p in parts if len(p) > depth + 2}
    splits = _find_splits(folders, nested, table.spec)
    class_depth = depth + bool(splits)
    for file, p in zip(files, parts, strict=True):
        if len(p) > class_depth + 1:
            table.add(file, [p[class_depth]], splits.get(p[depth]))
        else:
            table.problems.add(kinds.NO_CLASS, file)
    table.problems.hints[kinds.NO_CLASS] = _NAME_LABELS
    if parts:
        _add_empty_folders(listing, parts[0][:depth], splits, table)
    if not table.items:
        passed_over = describe_extensions(table.problems.other_files)
        found = str(table.problems) or "no images found"
        found += f"; passed over: {passed_over}" if passed_over else ""
        expected = EXPECTED.format("mp4" if videos else "jpg")
        raise ConfigError(f"{table.spec}: {found}; expected {expected}")


def _add_empty_folders(
    listing: Listing, root: list[str], splits: dict[str, str], table: Table
) -> None:
    """Adds a problem for each folder of a class or split that has no image.

    Folders that only hold descriptions, programs and the like are not meant as classes.

    Args:
      listing: files and folders of the dataset.
      root: folder of the classes or splits, by its parts.
      splits: see `_find_splits`.
      table: table with the items of the images.
    """
    depth, classes = len(root), {label for item in table.items for label in item.labels}
    for folder in listing.folders:
        parts = folder.split("/")
        if len(parts) <= depth or parts[:depth] != root:
            continue
        name = normalize(parts[-1].strip())
        in_split = not splits or parts[depth] in splits
        of_class = in_split and len(parts) == depth + 1 + bool(splits) and name not in classes
        of_split = not in_split and len(parts) == depth + 1 and split_of(parts[depth])
        if not of_class and not of_split:
            continue
        inside = [path for path in listing.others if path.startswith(f"{folder}/")]
        if not all(map(is_companion, inside)) or (of_class and not inside):
            found = describe_extensions(count_extensions(inside)) or "empty"
            table.problems.add(kinds.NO_IMAGE, f"{folder}: {found}")


def _find_depth(parts: list[list[str]]) -> int:
    """The depth of the folders of classes or splits: below folders that are alone on their level.

    Such a folder is a class if it has images of its own, unless it also has folders of splits.
    """
    depth = 0
    while True:
        inside = [p for p in parts if len(p) > depth + 1]
        folders = {p[depth] for p in inside}
        below = {p[depth + 1] for p in inside if len(p) > depth + 2}
        if len(folders) != 1 or not below or split_of(folders.pop()):
            return depth
        if any(len(p) == depth + 2 for p in inside) and not any(map(split_of, below)):
            return depth
        depth += 1


def _find_splits(folders: set[str], nested: set[str], spec: str) -> dict[str, str]:
    """`{folder: split}`; empty if the folders are classes.

    Args:
      folders: folders with images, all on one level.
      nested: those with images in folders below them.
      spec: the source as the user wrote it, for messages.

    Raises:
      ConfigError: some folders are splits and others are not, or two are the same split.
    """
    splits = {name: split for name in sorted(folders) if (split := split_of(name))}
    others = sorted(folders - splits.keys())
    if not splits:
        _check_no_splits(nested, spec)
        return {}
    # The usual word of one class, a vehicle.
    if others and list(splits) == ["train"] and "train" not in nested:
        return {}
    if others:
        raise ConfigError(
            f"{spec}: has folders of splits ({_some(list(splits))}) beside others "
            f"({_some(others)}); move the others out of the dataset, or rename them to one of "
            f"{', '.join(SPLIT_NAMES)}"
        )
    for split in SPLIT_NAMES:
        same = [name for name in splits if splits[name] == split]
        if len(same) > 1:
            raise ConfigError(
                f"{spec}: has {len(same)} folders of the split {split!r} ({_some(same)}); keep one"
            )
    return splits


def _check_no_splits(nested: set[str], spec: str) -> None:
    """Raises an error at folders such as `seg_train` and `seg_test`, which are no classes."""
    likely = sorted(name for name in nested if splits_in(name))
    if len({split for name in likely for split in splits_in(name)}) > 1:
        raise ConfigError(
            f"{spec}: the folders {_some(likely)} look like splits; rename them to "
            f"{', '.join(SPLIT_NAMES)}"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

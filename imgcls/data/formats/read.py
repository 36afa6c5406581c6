"""Finds the label files of a source and reads them into one table."""

import os
from typing import NamedTuple

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.formats.format import FORMATS, LabelFormat
from imgcls.data.sources.source import SourceOptions
from imgcls.data.table import problems as kinds
from imgcls.data.table.table import Table, split_of, splits_in


class LabelFile(NamedTuple):
    """A label file.

    Attributes:
      path: path of the file.
      split: split in the name of the file or of its folder, if any.
      base: folder that the paths in the file are relative to.
    """

    path: str
    split: str | None = None
    base: str = ""


def read_table(name: str, path: str, options: SourceOptions) -> tuple[Table, Files]:
    """Reads the label files of a source.

    Args:
      name: name of a label format.
      path: a label file, or a directory with one for each split (`train.csv`,
        `instances_val2017.json`, `test/labels.csv`).
      options: all but `seed`, `on_error` and `write_classes` are used.

    Returns:
      The table of examples, and the files of the images.

    Raises:
      ConfigError: the file does not exist, or is not in the format.
    """
    label_format, data_dir = FORMATS[name], options.data_dir
    spec, path = f"{name}:{path}", os.path.expanduser(path)
    if not os.path.exists(path):
        raise ConfigError(f"{spec}: no such file or directory; check config.data.source")
    folder = path if os.path.isdir(path) else os.path.dirname(path) or "."
    files = Files(
        data_dir or folder, f"config.data.dir={data_dir}" if data_dir else spec, options.videos
    )
    shared = os.path.join(folder, "classes.txt")
    table = Table(spec, shared, options.multi_label, options.separator, options.question)
    table.label_columns, table.videos = options.label_columns, options.videos
    if not os.path.isdir(path):
        # Label files in one folder may have different classes.
        table.classes_file, table.shared_classes_file = f"{path}.classes.txt", shared
    table.problems.hints[kinds.MISSING] = (
        f"looked in {files.root}; config.data.dir names the folder or zip of the images"
    )
    label_files = [LabelFile(path)]
    if os.path.isdir(path) and not label_format.reads_directory:
        label_files = _find_label_files(path, label_format, spec)
    for file in label_files:
        first = len(table.items)
        label_format.read(file.path, table)
        if file.split:
            base = "" if data_dir else file.base
            table.items[first:] = [
                i._replace(path=os.path.join(base, i.path), split=i.split or file.split)
                for i in table.items[first:]
            ]
    return table, files


def _find_label_files(folder: str, label_format: LabelFormat, spec: str) -> list[LabelFile]:
    """One file per split, by the names of the files or of their folders; or the only file."""
    suffixes = label_format.suffixes
    names = _list(folder, suffixes)
    # There may be other files of the format beside the labels, such as COCO's captions.
    names = [n for n in names if n.startswith(label_format.prefix)] or names
    files = [LabelFile(os.path.join(folder, name), _split_of(name)) for name in names]
    in_split_folders = [
        LabelFile(os.path.join(folder, sub, name), split_of(sub), sub)
        for sub in sorted(os.listdir(folder))
        if split_of(sub) and os.path.isdir(os.path.join(folder, sub))
        for name in _list(os.path.join(folder, sub), suffixes)
    ]
    files = [f for f in files if f.split] or in_split_folders or files
    for i, file in enumerate(files):
        if file.split in [other.split for other in files[:i]]:
            raise ConfigError(
                f"{spec}: {os.path.basename(file.path)} is not the only file for "
                f"{'all splits' if file.split is None else f'the split {file.split!r}'}; name one "
                "file in config.data.source, or keep one for each split"
            )
    if not files:
        raise ConfigError(f"{spec}: has no {' or '.join(suffixes)} file; name the label file")
    return files


def _list(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    names = sorted(os.listdir(folder))
    return [n for n in names if n.lower().endswith(suffixes) and not n.startswith(".")]


def _split_of(name: str) -> str | None:
    """The split in a file's name: 'val' for `instances_val2017.json`; None without one."""
    splits = splits_in(os.path.splitext(name)[0])
    return splits.pop() if len(splits) == 1 else None

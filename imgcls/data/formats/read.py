"""Readers of label files, one a format; each fills the same table (`imgcls.data.table`)."""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.formats.coco import read_coco
from imgcls.data.formats.darwin import read_darwin
from imgcls.data.formats.folder import read_folder
from imgcls.data.formats.label_studio import read_label_studio
from imgcls.data.formats.manifest import read_manifest
from imgcls.data.table.table import SPLITS, Table


class LabelFile(NamedTuple):
    """A file of labels: its path, its split if its name says one, and where its paths begin."""

    path: str
    split: str | None = None
    base: str = ""


class Format(NamedTuple):
    """How files of a format end, and what reads one into a table."""

    suffixes: tuple[str, ...]
    read: Callable[[str, Table], None]


FORMATS = {
    "manifest": Format((".csv", ".tsv", ".jsonl"), read_manifest),
    "darwin": Format((".json",), read_darwin),
    "labelstudio": Format((".json",), read_label_studio),
    "coco": Format((".json",), read_coco),
}


def read_table(
    kind: str, path: str, data_dir: str | None, multi_label: bool | None, separator: str
) -> tuple[Table, Files]:
    """What the files of a source say, and its pictures.

    Args:
      kind: 'folder' or one of `FORMATS`.
      path: of a folder of classes, a label file, or a directory with one of them for each split
        (`train.csv`, `instances_val2017.json`, `test/labels.csv`).
      data_dir, multi_label, separator: as in `imgcls.data.sources.open.open_data_set`.

    Raises:
      ConfigError: no such file, or it is not of its format.
    """
    if kind == "folder":
        return read_folder(path, multi_label)
    said, path = f"{kind}:{path}", os.path.expanduser(path)
    if not os.path.exists(path):
        raise ConfigError(f"{said}: no such file or directory; check config.data.source")
    folder = path if os.path.isdir(path) else os.path.dirname(path) or "."
    files = Files(data_dir or folder, f"config.data.dir={data_dir}" if data_dir else said)
    table = Table(said, os.path.join(folder, "classes.txt"), multi_label, separator)
    found = [LabelFile(path)]
    if os.path.isdir(path) and kind != "darwin":
        found = _label_files(path, kind, said)
    for file in found:
        first = len(table.items)
        FORMATS[kind].read(file.path, table)
        if file.split:
            base = "" if data_dir else file.base
            table.items[first:] = [
                i._replace(path=os.path.join(base, i.path), split=i.split or file.split)
                for i in table.items[first:]
            ]
    return table, files


def _label_files(folder: str, kind: str, said: str) -> list[LabelFile]:
    """One file for each split, by their names or those of their folders; else the only file."""
    suffixes = FORMATS[kind].suffixes
    names = _list(folder, suffixes)
    if kind == "coco":
        # Beside these COCO has captions and keypoints of the same pictures.
        names = [n for n in names if n.startswith("instances_")] or names
    files = [LabelFile(os.path.join(folder, name), _split_of(name)) for name in names]
    deeper = [
        LabelFile(os.path.join(folder, sub, name), SPLITS[sub], sub)
        for sub in sorted(SPLITS)
        if os.path.isdir(os.path.join(folder, sub))
        for name in _list(os.path.join(folder, sub), suffixes)
    ]
    files = [f for f in files if f.split] or deeper or files
    for i, file in enumerate(files):
        if file.split in [other.split for other in files[:i]]:
            raise ConfigError(
                f"{said}: {os.path.basename(file.path)} is not the only file for "
                f"{'all splits' if file.split is None else f'the split {file.split!r}'}; name one "
                "file in config.data.source, or leave one for each split"
            )
    if not files:
        raise ConfigError(f"{said}: holds no {' or '.join(suffixes)} file; name the label file")
    return files


def _list(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    names = sorted(os.listdir(folder))
    return [n for n in names if n.lower().endswith(suffixes) and not n.startswith(".")]


def _split_of(name: str) -> str | None:
    """The split that a file's name says: `instances_val2017.json` is of 'val'."""
    words = re.findall("[a-z]+", os.path.splitext(name)[0].lower())
    said = {SPLITS[word] for word in words if word in SPLITS}
    return said.pop() if len(said) == 1 else None

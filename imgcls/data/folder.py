"""Class folders, unpacked or in a zip: `PATH/class/*.jpg`, or `PATH/train/class/*.jpg`."""

import os
import pathlib
import threading
import zipfile
import zlib

import numpy as np

from imgcls.cli import one_line
from imgcls.data.sources import parse_split, stratified_slice
from imgcls.errors import ConfigError, DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# A tree without split folders is divided by seed, every class alike.
FRACTIONS = {"train": ("", "80%"), "val": ("80%", "90%"), "test": ("90%", "")}


class FolderSource:
    """Images in one folder per class; the class names are the folders', in sorted order.

    Args:
      path: a directory or a `.zip`; the folder that holds classes (or splits) may lie deeper, when
        it is the only one on its level.
      split: `train`, `val` or `test` with an optional slice, which is stratified.
      seed: of stratified splits and slices.

    Raises:
      ConfigError: nothing there, no class folders, or no such split.
    """

    multi_label = False

    def __init__(self, path: str, split: str, seed: int):
        path = os.path.expanduser(path)
        self._root, self._zip = path, path if zipfile.is_zipfile(path) else None
        self._local = threading.local()
        files = _list_zip(path) if self._zip else _list_folder(path)
        splits = _find_splits(files, path)
        name, first, last = parse_split(split)
        name = next((k for k, names in SPLIT_FOLDERS.items() if name in names), name)
        if name not in splits and splits.keys() != {""}:
            have = ", ".join(sorted(splits))
            raise ConfigError(f"folder:{path}: has no split {name!r}; it has {have}")
        if name not in FRACTIONS:
            raise ConfigError(f"folder:{path}: split {name!r} is none of {', '.join(FRACTIONS)}")
        classes = sorted({label for members in splits.values() for _, label in members})
        self.class_names = tuple(classes)
        self.splits = tuple(k for k in FRACTIONS if k in splits or "" in splits)
        members = splits.get(name, splits.get(""))
        number = {label: i for i, label in enumerate(classes)}
        labels = np.array([number[label] for _, label in members])
        chosen = np.arange(len(members))
        if name not in splits:
            chosen = stratified_slice(labels, *FRACTIONS[name], seed)
        if first or last:
            chosen = chosen[stratified_slice(labels[chosen], first, last, seed)]
        self._files = [members[i][0] for i in chosen]
        self._labels = labels[chosen]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict:
        return {"image": self._read(self._files[index]), "label": int(self._labels[index])}

    def labels(self) -> np.ndarray:
        return self._labels

    def name(self, index: int) -> str:
        return os.path.join(self._root, self._files[index])

    def group(self, index: int) -> None:
        return None

    def _read(self, file: str) -> bytes:
        try:
            if not self._zip:
                return pathlib.Path(self._root, file).read_bytes()
            # One handle a thread: a shared one would make the threads wait for each other.
            if not hasattr(self._local, "zip"):
                self._local.zip = zipfile.ZipFile(self._zip)
            return self._local.zip.read(file)
        except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as e:
            path = os.path.join(self._root, file)
            raise DataError(f"{path}: can't be read: {one_line(e)}") from e

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _local=threading.local())


def _list_folder(path: str) -> list[str]:
    root = pathlib.Path(path)
    if not root.is_dir():
        raise ConfigError(f"folder:{path}: no such directory or zip; check config.data.source")
    found = [
        os.path.relpath(os.path.join(folder, file), path)
        for folder, _, files in os.walk(path, followlinks=True)
        for file in files
    ]
    return sorted(_images(found))


def _list_zip(path: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    for name in names:
        if name.startswith("/") or ".." in name.split("/"):
            raise ConfigError(f"folder:{path}: refused, its member {name!r} points outside of it")
    return sorted(_images(names))


def _images(files: list[str]) -> list[str]:
    """Image files, without what systems leave behind (`.DS_Store`, `__MACOSX/`)."""
    return [
        f
        for f in files
        if f.lower().endswith(EXTENSIONS)
        and not any(part.startswith((".", "__")) for part in f.split(os.sep))
    ]


def _find_splits(files: list[str], path: str) -> dict[str, list[tuple[str, str]]]:
    """Files and their class by split; `{'': ...}` for a tree without split folders."""
    parts = [f.split(os.sep) for f in files]
    depth = 0
    names = {folder: split for split, all in SPLIT_FOLDERS.items() for folder in all}
    while parts and all(len(p) > depth + 2 for p in parts):
        if len({p[depth] for p in parts}) > 1 or parts[0][depth] in names:
            break
        depth += 1
    top = {p[depth] for p in parts if len(p) > depth + 1}
    has_splits = bool(top) and top <= names.keys() and any(len(p) > depth + 2 for p in parts)
    splits: dict[str, list[tuple[str, str]]] = {}
    for file, p in zip(files, parts, strict=True):
        if len(p) > depth + 1 + has_splits:
            split = names[p[depth]] if has_splits else ""
            splits.setdefault(split, []).append((file, p[depth + has_splits]))
    if not splits:
        raise ConfigError(
            f"folder:{path}: no images found; expected PATH/CLASS/*.jpg or PATH/train/CLASS/*.jpg"
        )
    return splits

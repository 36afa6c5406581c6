"""Exports: the tags of a version in a format that the trainer's own sources read, and its images.

An export is a directory. `classes.txt` has the order of the classes, so that a model trained from
it has them in the order of the studio; `classes.json` describes them, with their attributes.
"""

import importlib
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Callable
from typing import NamedTuple

from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.studio.exchange import collection as collections
from imgcls.studio.exchange import darwin
from imgcls.studio.exchange.collection import Collection

# Folder of the images in an export; the files of labels name them relative to the export.
IMAGES = "images"
PICTURES = ("link", "copy", "none")


class Format(NamedTuple):
    """A format of exports.

    Attributes:
      module: in `imgcls.studio.exchange`; its `write(collection, paths, folder)` writes the labels.
      source: what to write in `config.data.source`, after the directory of the export.
      data_dir: what to write in `config.data.dir`, after the directory; None: nothing.
      about: what it is.
    """

    module: str
    source: str
    data_dir: str | None
    about: str


FORMATS = {
    "manifest": Format("manifest", "manifest:{}/manifest.csv", None, "a table in CSV"),
    "jsonl": Format("manifest", "manifest:{}/manifest.jsonl", None, "a table in JSON lines"),
    "darwin": Format("darwin", "darwin:{}/annotations", f"{{}}/{IMAGES}", "Darwin JSON 2.0 (V7)"),
    "labelstudio": Format("labelstudio", "labelstudio:{}/tasks.json", None, "Label Studio JSON"),
    "coco": Format("coco", "coco:{}", None, "COCO, one file per split"),
    "links": Format("links", "folder:{}", None, "a folder per split and class"),
}


def write(collection: Collection, name: str, folder: str | os.PathLike, pictures: str) -> int:
    """Writes an export.

    Args:
      collection: what is exported.
      name: of the format, a key of `FORMATS`.
      folder: an empty directory, or one to make.
      pictures: 'link' makes symbolic links to the images, 'copy' copies them, 'none' leaves them
        out.

    Returns:
      The number of images.

    Raises:
      ConfigError: the format can't hold the tags, or the folder is not empty.
    """
    check_choice("format", name, FORMATS)
    check_choice("pictures", pictures, PICTURES)
    root = pathlib.Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(f"{root}: is not an empty directory; name a new one")
    root.mkdir(parents=True, exist_ok=True)
    collections.check_classes(collection.used_classes())
    paths = collections.file_paths(collection.examples)
    placed = _write_labels(collection, name, paths, root)
    _write_classes(collection, root)
    if pictures != "none":
        place_pictures(collection, placed, root, pictures)
    return len(paths)


def command(collection: Collection, name: str, folder: str) -> list[str]:
    """Arguments of `imgcls train` with which a recipe is trained from an export."""
    source = FORMATS[name]
    arguments = [f"--config.data.source={source.source.format(folder)}"]
    if source.data_dir is not None:
        arguments.append(f"--config.data.dir={source.data_dir.format(folder)}")
    return [*arguments, f"--config.data.multi_label={collection.multi_label}"]


def place_pictures(
    collection: Collection, paths: list[str], root: pathlib.Path, how: str = "link"
) -> None:
    """Links or copies the images to their paths below `root`.

    Args:
      collection: whose images.
      paths: of the images below `root`.
      root: a directory.
      how: 'link', 'copy', or 'relative' for links that stay valid if all is moved together.
    """
    made: set[str] = set()
    for example, path in zip(collection.examples, paths, strict=True):
        target = root / path
        parent = os.path.dirname(path)
        if parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(parent)
        if how == "relative":
            os.symlink(os.path.relpath(example.file, target.parent), target)
        elif how == "link":
            os.symlink(os.path.abspath(example.file), target)
        else:
            shutil.copyfile(example.file, target)


def zip_folder(folder: pathlib.Path, file: pathlib.Path) -> None:
    """Writes a directory as a zip, with the files that its links lead to."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for parent, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(parent, name)
                # Images are compressed already.
                inside = os.path.relpath(path, folder)
                is_text = name.endswith((".json", ".jsonl", ".csv", ".txt"))
                archive.write(path, inside, zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED)


def _write_labels(
    collection: Collection, name: str, paths: list[str], root: pathlib.Path
) -> list[str]:
    """Writes the labels; returns the paths of the images in the export."""
    module = importlib.import_module(f"imgcls.studio.exchange.{FORMATS[name].module}")
    writer: Callable = module.write_jsonl if name == "jsonl" else module.write
    return writer(collection, paths, root)


def _write_classes(collection: Collection, root: pathlib.Path) -> None:
    order = "".join(f"{name}\n" for name in collection.used_classes())
    for folder in filter(pathlib.Path.is_dir, (root, root / darwin.FOLDER)):
        (folder / "classes.txt").write_text(order, encoding="utf-8")
    described = json.loads(collections.to_json(collection).split("\n", 1)[0])["classes"]
    text = json.dumps(described, indent=1, ensure_ascii=False)
    (root / "classes.json").write_text(text + "\n", encoding="utf-8")

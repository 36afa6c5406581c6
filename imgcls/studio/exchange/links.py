"""Folders of classes, as `imgcls/data/sources/folder.py` reads them: `SPLIT/CLASS/FOLDER/NAME`."""

import pathlib

from imgcls.core.errors import ConfigError
from imgcls.data.table.table import split_of
from imgcls.studio.exchange.collection import Collection


def write(collection: Collection, paths: list[str], root: pathlib.Path) -> list[str]:
    """Writes nothing but the folders of the splits; returns the images' paths.

    Raises:
      ConfigError: an image has no tag or several, or a class can't be a folder.
    """
    for name in collection.used_classes():
        if (
            "/" in name
            or "\\" in name
            or name.startswith(".")
            or name.endswith(".")
            or "\0" in name
        ):
            raise ConfigError(
                f"class {name!r}: can't be the name of a folder; rename it, or export another "
                "format, such as manifest"
            )
    placed = []
    for example, path in zip(collection.examples, paths, strict=True):
        if len(example.tags) != 1:
            count = len(example.tags) or "no"
            raise ConfigError(
                f"{path}: has {count} tags, and a folder stands for one; export another format, "
                "such as manifest"
            )
        split = example.split or "train"
        if split_of(split) != split:
            raise ConfigError(f"{path}: the split {split!r} is none of train, val and test")
        placed.append(f"{split}/{example.tags[0].name}/{path}")
        (root / split).mkdir(exist_ok=True)
    return placed

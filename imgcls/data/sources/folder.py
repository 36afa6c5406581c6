"""Class folders, unpacked or in a zip: `PATH/class/*.jpg`, or `PATH/train/class/*.jpg`."""

import os

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.table_source import open_table
from imgcls.data.table.table import SPLITS, Table


@register_source("folder", is_files=True)
def open_folder(path: str, options: SourceOptions) -> Dataset:
    """Opens images in one folder per class, unpacked or in a zip.

    Args:
      path: a directory or a `.zip`; the folder with the classes (or splits) may be nested, if it
        is the only one on its level.
      options: all but `data_dir` and `separator` are used.

    Raises:
      ConfigError: `path` does not exist, or has no class folders.
    """
    spec = f"folder:{path}"
    files = Files(path, spec)
    classes_file = f"{os.path.splitext(files.root)[0]}.classes.txt"
    if not files.is_zip:
        classes_file = os.path.join(files.root, "classes.txt")
    table = Table(spec, classes_file, options.multi_label)
    _add_items(files.images(), table)
    return open_table(table, files, options)


def _add_items(files: list[str], table: Table) -> None:
    parts = [f.split("/") for f in files]
    depth = 0
    while parts and all(len(p) > depth + 2 for p in parts):
        if len({p[depth] for p in parts}) > 1 or parts[0][depth] in SPLITS:
            break
        depth += 1
    top = {p[depth] for p in parts if len(p) > depth + 1}
    has_splits = bool(top) and top <= SPLITS.keys() and any(len(p) > depth + 2 for p in parts)
    for file, p in zip(files, parts, strict=True):
        if len(p) > depth + 1 + has_splits:
            split = SPLITS[p[depth]] if has_splits else None
            table.add(file, [p[depth + has_splits]], split)
    if not table.items:
        raise ConfigError(
            f"{table.spec}: no images found; expected PATH/CLASS/*.jpg or PATH/train/CLASS/*.jpg"
        )

"""The order of a dataset's classes, written once to its `classes.txt`.

A class that is added later is appended, so that the labels of trained models stay valid.
"""

import collections
import os
from collections.abc import Iterable

from imgcls.core.errors import ConfigError
from imgcls.data.table.names import normalize


def read_classes(path: str) -> tuple[str, ...] | None:
    """Returns the class names in a file, one per line; None if the file does not exist.

    Raises:
      ConfigError: the file lists a class twice, or is not text.
    """
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [normalize(line.strip()) for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: can't be read ({e}); write one class per line in UTF-8") from e
    duplicates = [name for name, count in collections.Counter(names).items() if count > 1]
    if duplicates:
        raise ConfigError(
            f"{path}: lists the class {duplicates[0]!r} twice; remove one of the lines"
        )
    return tuple(names)


def save_classes(names: Iterable[str], path: str) -> None:
    """Writes one class name per line, atomically; does nothing if the file can't be written.

    The permissions of the folder are checked because root could write to a read-only folder.
    """
    partial = f"{path}.{os.getpid()}.tmp"
    try:
        if not os.stat(os.path.dirname(path) or ".").st_mode & 0o222:
            return
        with open(partial, "w", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in names)
        os.replace(partial, path)
    except OSError:
        return

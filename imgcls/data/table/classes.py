"""The order of a data set's classes, written once to its `classes.txt`.

So a class that is added later goes to the end, and the labels of what was trained stay.
"""

import collections
import os
from collections.abc import Iterable

from imgcls.core.errors import ConfigError


def read_classes(place: str) -> tuple[str, ...] | None:
    """The class names in `place`, one a line; None if there is no such file.

    Raises:
      ConfigError: the file names a class twice, or is no text.
    """
    if not os.path.exists(place):
        return None
    try:
        with open(place, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{place}: can't be read ({e}); one class a line, in UTF-8") from e
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"{place}: names the class {twice[0]!r} twice; remove one of the lines")
    return tuple(names)


def write_classes(names: Iterable[str], place: str) -> None:
    """Writes one name a line, whole or not at all; a place that can't be written is left as it is.

    An administrator could write into a folder that is read-only for all, and does not here.
    """
    partial = f"{place}.{os.getpid()}.tmp"
    try:
        if not os.stat(os.path.dirname(place) or ".").st_mode & 0o222:
            return
        with open(partial, "w", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in names)
        os.replace(partial, place)
    except OSError:
        return

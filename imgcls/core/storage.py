"""A run's folder: on a disk or an object store, of one run at a time, and able to fill up.

Paths are those of `etils.epath`: a local folder, or `gs://bucket/run`.
"""

import contextlib
import errno
import importlib.util
import math
import os
import shutil
import time

from etils import epath

from imgcls.core.errors import ConfigError

# Object stores, and the package that opens them; TensorFlow does too.
STORES = {"gs": "gcsfs", "s3": "s3fs"}
# Between two times that a growing object is written.
OBJECT_SECONDS = 30


def as_path(path: str | os.PathLike) -> epath.Path:
    """The path that a user wrote, absolute.

    Raises:
      ConfigError: it is in a store that nothing here can open.
    """
    if is_local(path):
        return epath.Path(path).expanduser().absolute()
    kind = os.fspath(path).split("://")[0]
    if kind not in STORES:
        raise ConfigError(f"{path}: {kind}:// is not known; write a folder, or gs://BUCKET/FOLDER")
    package = STORES[kind]
    if not any(importlib.util.find_spec(name) for name in (package, "tensorflow")):
        raise ConfigError(f"{path}: {package} is not installed; run `pip install {package}`")
    return epath.Path(path)


def is_local(path: str | os.PathLike) -> bool:
    """Whether the system's own calls (locks, renames, appending) reach the path."""
    return "://" not in os.fspath(path)


def replace_bytes(path: os.PathLike, data: bytes) -> None:
    """Writes a file whole or not at all. What an object store gets is never there in part."""
    path = epath.Path(path)
    if not is_local(path):
        path.write_bytes(data)
        return
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            partial.unlink()  # Where the disk is full, this gives room back.
        e.filename = os.fspath(path)
        raise


def replace_text(path: os.PathLike, text: str) -> None:
    """Writes a text whole or not at all."""
    replace_bytes(path, text.encode())


class GrowingFile:
    """A file whose end waits in memory until it can be written.

    Args:
      path: of the file; what is there already stays.

    Attributes:
      path: the same.
      waiting: what is to be added; `flush` empties it.
    """

    def __init__(self, path: os.PathLike):
        self.path, self.waiting = epath.Path(path), b""
        # An object can't be added to: all of it is written again, and not all the time.
        self._written, self._next = None, -math.inf

    def flush(self, at_once: bool = False) -> None:
        """Adds what waits; where that fails, nothing of it is in the file.

        Args:
          at_once: also in an object store, where this may otherwise leave it to a later call.

        Raises:
          OSError, or what the object store's library raises: it waits on.
        """
        if not self.waiting or (not at_once and time.monotonic() < self._next):
            return
        if is_local(self.path):
            self._append()
        else:
            if self._written is None:
                self._written = self.path.read_bytes() if self.path.exists() else b""
            self.path.write_bytes(self._written + self.waiting)
            self._written += self.waiting
            self._next = time.monotonic() + OBJECT_SECONDS
        self.waiting = b""

    def _append(self) -> None:
        # Opened anew each time: a folder that went away and came back has another file.
        with open(self.path, "ab", buffering=0) as file:
            size, left = file.tell(), memoryview(self.waiting)
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise


def free_bytes(path: os.PathLike) -> int | None:
    """The room that is left where a path is or would be; None where that is not known."""
    if not is_local(path):
        return None
    for folder in (epath.Path(path), *epath.Path(path).parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None


def reason(error: BaseException) -> str:
    """What kept a file from being written, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EIO):
        if os.strerror(code) in text:
            return os.strerror(code)
    return f"{type(error).__name__}: {text[:300]}"


def megabytes(count: int | None) -> str:
    """A number of bytes as it is said."""
    return "unknown" if count is None else f"{count / 1e6:.1f} MB"

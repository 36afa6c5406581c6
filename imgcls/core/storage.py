"""Files on disks and in object stores, which may be full or unavailable.

Paths are those of `etils.epath`: a local directory, or `gs://bucket/run`.
"""

import contextlib
import errno
import importlib.util
import math
import os
import shutil
import time

from etils import epath

from imgcls.core.errors import WRITE_ERRORS, ConfigError

# Object stores and the packages that open them; TensorFlow opens them too.
STORES = {"gs": "gcsfs", "s3": "s3fs"}
# Seconds between two writes of a growing object.
OBJECT_SECONDS = 30


def as_path(path: str | os.PathLike) -> epath.Path:
    """The absolute path for a path that a user wrote.

    Raises:
      ConfigError: an unknown object store, or one whose package is not installed.
    """
    if is_local(path):
        return epath.Path(path).expanduser().absolute()
    kind = os.fspath(path).split("://")[0]
    if kind not in STORES:
        raise ConfigError(
            f"{path}: {kind}:// is not supported; write a directory, or gs://BUCKET/FOLDER"
        )
    package = STORES[kind]
    if not any(importlib.util.find_spec(name) for name in (package, "tensorflow")):
        raise ConfigError(f"{path}: {package} is not installed; run `pip install {package}`")
    return epath.Path(path)


def is_local(path: str | os.PathLike) -> bool:
    """Whether a path is in a file system, which can lock, rename and append to files."""
    return "://" not in os.fspath(path)


def replace_bytes(path: os.PathLike, data: bytes) -> None:
    """Writes a file atomically. Object stores always do."""
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
            partial.unlink()  # Frees space if the disk is full.
        e.filename = os.fspath(path)
        raise


def replace_text(path: os.PathLike, text: str) -> None:
    """Writes a text file atomically."""
    replace_bytes(path, text.encode())


class GrowingFile:
    """A file to append to, whose new data stays in memory until it can be written.

    Args:
      path: path of the file; an existing file is kept and appended to.

    Attributes:
      path: path of the file.
      waiting: data to append; `flush` writes it and empties this.
    """

    def __init__(self, path: os.PathLike):
        self.path, self.waiting = epath.Path(path), b""
        # Objects can't be appended to: each write replaces the full object, so it is done rarely.
        self._written, self._next = None, -math.inf

    def flush(self, at_once: bool = False) -> None:
        """Appends the waiting data, or nothing of it if that fails.

        Args:
          at_once: write to an object store now; by default it may be left to a later call.

        Raises:
          OSError: the data can't be written, and keeps waiting. Libraries of object stores raise
            other types.
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
        # Opened each time: after a disk was unmounted and mounted again, it is another file.
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
    """Free space at a path, which need not exist yet, in bytes; None if unknown."""
    if not is_local(path):
        return None
    for folder in (epath.Path(path), *epath.Path(path).parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None


def reason(error: BaseException) -> str:
    """A short description of why a file could not be written."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    for code in (*WRITE_ERRORS, errno.ENOENT):
        if os.strerror(code) in text:
            return os.strerror(code)
    return f"{type(error).__name__}: {text[:300]}"


def megabytes(count: int | None) -> str:
    """A number of bytes as text in megabytes."""
    return "unknown" if count is None else f"{count / 1e6:.1f} MB"

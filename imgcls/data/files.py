"""Pictures under a directory or in a zip: what is there, and their bytes."""

import os
import re
import stat
import threading
import zipfile
from collections.abc import Iterable, Iterator

from imgcls.core.errors import ConfigError, DataError, one_line

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# Of a picture's file; of as many pixels as are decoded, 3 bytes each take as much.
MAX_BYTES = 2**28
# What any zip program writes; others unpack without a bound on the memory.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MAX_LINK = 4096


class _Local(threading.local):
    """A thread's handle of the zip, once it has read from it."""

    zip: zipfile.ZipFile | None = None


class Files:
    """The files under `root`, by their path from there. Thread-safe, and can be pickled.

    Paths are written with `/`. Absolute ones and `..` lead where they say, but never out of a zip.

    Args:
      root: a directory or a `.zip`.
      spec: what the user wrote to name it, for messages.

    Raises:
      ConfigError: neither is there, or the zip has a member that points outside of it.
    """

    def __init__(self, root: str, spec: str):
        self.root = os.path.expanduser(root)
        self._local = _Local()
        self._members = None
        if zipfile.is_zipfile(self.root):
            self._members = frozenset(_list_zip(self.root, spec))
        elif not os.path.isdir(self.root):
            raise ConfigError(f"{spec}: no such directory or zip; check the path")

    @property
    def is_zip(self) -> bool:
        return self._members is not None

    def images(self) -> list[str]:
        """All pictures in sorted order, without what systems leave behind (`__MACOSX/`)."""
        found = self._members
        if found is None:
            found = (
                os.path.relpath(os.path.join(folder, file), self.root)
                for folder, files in walk(self.root)
                for file in files
            )
        return sorted(f for f in found if is_image_file(f))

    def existing(self, paths: Iterable[str]) -> set[str]:
        """Those of the paths that are there; each folder is listed once, no file is opened."""
        if self._members is not None:
            return {p for p in paths if p in self._members}
        folders: dict[str, set[str]] = {}
        return {
            p for p in paths if os.path.basename(p) in self._folder(os.path.dirname(p), folders)
        }

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises:
          DataError: there is none, it can't be read, or has more than `MAX_BYTES`.
        """
        if self._members is None:
            return read_file(self.name(path))
        try:
            # One handle a thread: a shared one would make the threads wait for each other.
            if self._local.zip is None:
                self._local.zip = zipfile.ZipFile(self.root)
            return _read_member(self._local.zip, self._local.zip.getinfo(path), MAX_BYTES)
        except Exception as e:  # For a broken zip there is no one type.
            raise DataError(f"{self.name(path)}: can't be read: {one_line(e)}") from e

    def name(self, path: str) -> str:
        """The path as a person would type it."""
        return os.path.join(self.root, path)

    def relative(self, path: str) -> str:
        """A path as others write it, as one from the root: without `./`, and relative where it can.

        Windows' `\\` divides folders where there is no `/`.
        """
        path = path if "/" in path else path.replace("\\", "/")
        if os.path.isabs(path):
            inside = os.path.relpath(path, os.path.abspath(self.root))
            return os.path.normpath(path) if inside.split("/")[0] == ".." else inside
        return os.path.normpath(path)

    def _folder(self, folder: str, known: dict[str, set[str]]) -> set[str]:
        if folder not in known:
            try:
                known[folder] = set(os.listdir(os.path.join(self.root, folder)))
            except (OSError, ValueError):  # A name that no folder can have is a ValueError.
                known[folder] = set()
        return known[folder]

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _local=_Local())


def read_file(path: str) -> bytes:
    """The bytes of a picture's file.

    Raises:
      DataError: there is none, it can't be read, is no file, or has more than `MAX_BYTES`.
    """
    try:
        # Of a pipe without a writer, opening would wait for one.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise DataError(f"{path}: can't be read: it is no file")
            if about.st_size > MAX_BYTES:
                raise DataError(
                    f"{path}: has {about.st_size:,} bytes, and at most {MAX_BYTES:,} are read"
                )
            return file.read(MAX_BYTES)
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: can't be read: {one_line(e)}") from e


def walk(root: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder under `root`, itself the first, and its files; links are followed, but never in
    a circle."""
    above: dict[str, frozenset] = {}
    for folder, folders, files in os.walk(root, followlinks=True):
        try:
            about = os.stat(folder)
        except OSError:
            folders.clear()
            continue
        own = (about.st_dev, about.st_ino)
        passed = above.pop(folder, frozenset())
        if own in passed:
            folders.clear()
            continue
        folders.sort()
        above |= {os.path.join(folder, name): passed | {own} for name in folders}
        yield folder, files


def is_image_file(path: str) -> bool:
    """By its name; hidden files and folders, and `__MACOSX/`, hold none."""
    hidden = any(part.startswith((".", "__")) for part in path.split("/"))
    return path.lower().endswith(EXTENSIONS) and not hidden


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    """A member's bytes; never more than it says, and it may say at most `limit`."""
    if member.compress_type not in _ZIP_METHODS:
        raise ValueError("compressed in a way that is not read; zip the folder anew")
    if member.file_size > limit:
        raise ValueError(f"{member.file_size:,} bytes, and at most {limit:,} are read")
    with archive.open(member) as file:
        return file.read(member.file_size)


def _list_zip(path: str, spec: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_member(archive, member, spec)
            return [member.filename for member in archive.infolist() if not member.is_dir()]
    except ConfigError:
        raise
    except Exception as e:  # For a broken zip there is no one type.
        raise ConfigError(f"{spec}: is no zip that can be read ({one_line(e)}); zip it anew") from e


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, spec: str) -> None:
    places = [member.filename]
    if stat.S_ISLNK(member.external_attr >> 16):
        link = _read_member(archive, member, _MAX_LINK).decode(errors="replace")
        folder = os.path.dirname(member.filename)
        # Where a link leads is counted from its folder: `a/../b` stays inside.
        places.append(link if _is_rooted(link) else os.path.normpath(f"{folder}/./{link}"))
    if any(_is_rooted(p) or ".." in re.split(r"[/\\]", p) for p in places):
        raise ConfigError(f"{spec}: refused, its member {member.filename!r} points outside of it")
    if "\\" in member.filename:
        raise ConfigError(
            f"{spec}: refused, its member {member.filename!r} is written with a backslash; zip the "
            "folder anew"
        )


def _is_rooted(path: str) -> bool:
    return path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path) is not None

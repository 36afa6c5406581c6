"""Pictures under a directory or in a zip: what is there, and their bytes."""

import os
import re
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterable

from imgcls.cli import one_line
from imgcls.errors import ConfigError, DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Files:
    """The files under `root`, by their path from there. Thread-safe, and can be pickled.

    Paths are written with `/`. Absolute ones and `..` lead where they say, but never out of a zip.

    Args:
      root: a directory or a `.zip`.
      said: what the user wrote to name it, for messages.

    Raises:
      ConfigError: neither is there, or the zip has a member that points outside of it.
    """

    def __init__(self, root: str, said: str):
        self.root = os.path.expanduser(root)
        self._local = threading.local()
        self._members = None
        if zipfile.is_zipfile(self.root):
            self._members = frozenset(_list_zip(self.root, said))
        elif not os.path.isdir(self.root):
            raise ConfigError(f"{said}: no such directory or zip; check the path")

    @property
    def is_zip(self) -> bool:
        return self._members is not None

    def pictures(self) -> list[str]:
        """All pictures in sorted order, without what systems leave behind (`__MACOSX/`)."""
        found = self._members
        if found is None:
            found = (
                os.path.relpath(os.path.join(folder, file), self.root)
                for folder, _, files in os.walk(self.root, followlinks=True)
                for file in files
            )
        return sorted(f for f in found if is_picture(f))

    def existing(self, paths: Iterable[str]) -> set[str]:
        """Those of the paths that are there; each folder is listed once, no file is opened."""
        if self._members is not None:
            return self._members.intersection(paths)
        folders: dict[str, set[str]] = {}
        return {
            p for p in paths if os.path.basename(p) in self._folder(os.path.dirname(p), folders)
        }

    def read(self, path: str) -> bytes:
        """The bytes of a file; a `DataError` if it can't be read."""
        try:
            if self._members is None:
                with open(os.path.join(self.root, path), "rb") as file:
                    return file.read()
            # One handle a thread: a shared one would make the threads wait for each other.
            if not hasattr(self._local, "zip"):
                self._local.zip = zipfile.ZipFile(self.root)
            return self._local.zip.read(path)
        except (
            OSError,
            KeyError,
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
        ) as e:
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
            except OSError:
                known[folder] = set()
        return known[folder]

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _local=threading.local())


def is_picture(path: str) -> bool:
    """By its name; hidden files and folders, and `__MACOSX/`, hold none."""
    hidden = any(part.startswith((".", "__")) for part in path.split("/"))
    return path.lower().endswith(EXTENSIONS) and not hidden


def _list_zip(path: str, said: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            places = [member.filename]
            if stat.S_ISLNK(member.external_attr >> 16):
                link = archive.read(member).decode(errors="replace")
                folder = os.path.dirname(member.filename)
                # Where a link leads is counted from its folder: `a/../b` stays inside.
                places.append(link if _is_rooted(link) else os.path.normpath(f"{folder}/./{link}"))
            if any(_is_rooted(p) or ".." in re.split(r"[/\\]", p) for p in places):
                raise ConfigError(
                    f"{said}: refused, its member {member.filename!r} points outside of it"
                )
            if "\\" in member.filename:
                raise ConfigError(
                    f"{said}: refused, its member {member.filename!r} is written with a backslash; "
                    "zip the folder anew"
                )
        return [member.filename for member in archive.infolist() if not member.is_dir()]


def _is_rooted(path: str) -> bool:
    return path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path) is not None

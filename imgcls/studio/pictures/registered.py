"""Files that stay where they are on the server: only below the roots, and never through links."""

import os
import pathlib
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from imgcls.studio.errors import Forbidden, NotFound, Refused

# A link in the place of a file is refused, not followed; devices and pipes are not waited for.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def check_path(path: str, roots: Sequence[str | os.PathLike]) -> pathlib.Path:
    """The absolute path of a file or folder below one of the roots.

    Raises:
      Forbidden: it is not below a root, or it may lead out of it.
      Refused: it is no absolute path of this machine.
    """
    if not roots:
        raise Forbidden("no files of the server may be registered; start it with --roots=DIR")
    if "\0" in path or not path.isprintable():
        raise Refused("a path has printable characters only; write another path")
    if path.startswith(("//", "\\\\")) or re.match(
        r"[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*:", path
    ):
        raise Refused(f"{path[:200]!r} names another machine or drive; write /FOLDER/FILE")
    if not path.startswith("/"):
        raise Refused(f"{path[:200]!r} is relative; write the whole path, /FOLDER/FILE")
    if ".." in path.split("/"):
        raise Forbidden(f"{path[:200]!r} has '..' in it; write the path without it")
    clean = pathlib.Path(os.path.normpath(path))
    _root_of(clean, roots)
    return clean


def open_below(path: str | os.PathLike, roots: Sequence[str | os.PathLike]) -> BinaryIO:
    """Opens a regular file below a root for reading. No folder or file on the way may be a link.

    Each folder is opened from the one above it, so nobody can exchange one for a link meanwhile.

    Raises:
      Forbidden: it is not below a root, a link is on the way, or it is no regular file.
      NotFound: there is no such file.
    """
    clean = pathlib.Path(os.path.normpath(path))
    root = _root_of(clean, roots)
    fd = os.open(os.path.realpath(root), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in clean.relative_to(root).parts:
            inner = os.open(part, _FLAGS, dir_fd=fd)
            os.close(fd)
            fd = inner
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Forbidden(f"{clean} is no regular file; register images")
        return os.fdopen(fd, "rb")
    except BaseException as e:
        os.close(fd)
        if isinstance(e, FileNotFoundError):
            raise NotFound(f"there is no file {clean}") from e
        if isinstance(e, OSError):
            raise Forbidden(f"{clean} can't be opened, or is a link, which is not followed") from e
        raise


def find_files(
    paths: Iterable[str], roots: Sequence[str | os.PathLike]
) -> Iterator[tuple[pathlib.Path, str, str]]:
    """Yields `(path, folder, why)` of all files that the paths name, those in folders sorted.

    `folder` is relative to the folder that was named. Links are not followed: `why` says so, and is
    empty for a file that may be opened. Hidden files and folders are left out.

    Raises:
      Forbidden, Refused: as `check_path`; before anything is yielded.
    """
    named = [check_path(path, roots) for path in paths]
    for path in named:
        if path.is_symlink() or not path.is_dir():
            yield path, "", _why(path)
            continue
        for folder, folders, names in os.walk(path):  # os.walk does not enter links.
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            relative = os.path.relpath(folder, path)
            for name in sorted(name for name in names if not name.startswith(".")):
                file = pathlib.Path(folder, name)
                yield file, "" if relative == "." else relative, _why(file)


def _why(path: pathlib.Path) -> str:
    if path.is_symlink():
        return "a symbolic link, which is not followed"
    if not path.exists():
        return "there is no such file"
    return "" if path.is_file() else "no regular file"


def _root_of(path: pathlib.Path, roots: Sequence[str | os.PathLike]) -> pathlib.Path:
    for root in roots:
        root = pathlib.Path(os.path.abspath(root))
        if path.is_relative_to(root):
            return root
    raise Forbidden(f"{str(path)[:200]!r} is not below --roots; register files below them")

"""Image files in a directory or a zip: listing and reading."""

import collections
import functools
import os
import stat
import threading
import zipfile
from collections.abc import Iterable, Iterator

from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.decode.containers import VIDEO_EXTENSIONS
from imgcls.data.decode.dicom import is_dicom
from imgcls.data.decode.formats import ARRAY_EXTENSIONS, DICOM_EXTENSIONS, START, VOLUME_EXTENSIONS
from imgcls.data.decode.voxels import MAX_VOLUME_BYTES
from imgcls.data.frame_folder import frames_in, read_frames
from imgcls.data.listing import Listing, is_hidden, list_files
from imgcls.data.series import group_series, read_packed
from imgcls.data.table.names import normalize
from imgcls.data.zip_members import ZIP_METHODS, list_zip, read_member

# Largest image file; the largest decoded image, at 3 bytes per pixel, takes as much.
MAX_BYTES = 2**28
# Files of volumes and videos may be larger than images.
_LARGE = (*VOLUME_EXTENSIONS, *ARRAY_EXTENSIONS, *DICOM_EXTENSIONS, *VIDEO_EXTENSIONS)
# Longest chain of links, as on Linux.
_MAX_LINKS = 40


class _ThreadLocal(threading.local):
    """A thread's handle of the zip, opened by its first read."""

    zip: zipfile.ZipFile | None = None


class Files:
    """The files under `root`, by their relative path. Thread-safe and picklable.

    Paths are written with `/`. In a directory, absolute paths and `..` may point outside of `root`;
    in a zip they never do. Links are followed, in a zip only those to files.

    Args:
      root: a directory or a `.zip`.
      spec: the root as the user wrote it, for messages.
      videos: whether the examples are videos, of which a folder of frames is one.

    Raises:
      ConfigError: `root` does not exist, or the zip has a member that points outside of it or a
        link to a folder.
    """

    def __init__(self, root: str, spec: str, videos: bool = False):
        self.root, self.videos = os.path.expanduser(root), videos
        self._local = _ThreadLocal()
        self._members: frozenset[str] | None = None
        self._folders: set[str] = set()
        self._series: dict[str, dict[str, tuple[str, ...]]] = {}
        self._links: dict[str, str] = {}
        if zipfile.is_zipfile(self.root):
            names, self._links = list_zip(self.root, spec)
            self._members = frozenset(name for name in names if not name.endswith("/"))
            self._folders = {name.strip("/") for name in names if name.endswith("/")}
            self._check_links(spec)
        elif not os.path.isdir(self.root):
            raise ConfigError(f"{spec}: no such directory or zip; check the path")

    @property
    def is_zip(self) -> bool:
        return self._members is not None

    def listing(self) -> Listing:
        """Returns all files and folders, without those of the system, in sorted order."""
        if self._members is None:
            return list_folder(self.root, self.videos)
        parents = {f for path in self._members for f in _parents(path)}
        return list_files(self._members, parents | self._folders, self._read_start, self.videos)

    def existing(self, paths: Iterable[str]) -> dict[str, str]:
        """Returns `{path: path as it is stored}` of the paths that exist, in any Unicode form.

        Each folder is listed once, no file is opened. Among videos, folders of frames exist too.
        """
        stored: dict[str, str] = {}
        folders: dict[str, set[str]] = {}
        others = []
        for path in paths:
            if self._is_folder_of_frames(path):
                stored[path] = path
                continue
            names = self._members
            if names is None:
                names = self._list_folder(os.path.dirname(path), folders)
            if (path if self._members is not None else os.path.basename(path)) in names:
                stored[path] = path
            elif not path.isascii():
                others.append(path)
        if others:
            stored |= self._find_normalized(others, folders)
        return stored

    def read(self, path: str) -> bytes:
        """Returns the bytes of a file; of DICOM those of its series, and of a folder its frames.

        Raises:
          DataError: the file does not exist, can't be read or is larger than `MAX_BYTES`, or
            `MAX_VOLUME_BYTES` of a volume or video.
        """
        if self._members is None:
            return read_example(self.name(path))
        if path in self._frames:
            name = functools.partial(os.path.join, "" if path == "." else path)
            return read_frames(
                self.name(path), self._frames[path], lambda file: self._read_alone(name(file))
            )
        data = self._read_alone(path)
        if not is_dicom(data):
            return data
        folder = os.path.dirname(path)
        if folder not in self._series:
            siblings = [p for p in self._members if os.path.dirname(p) == folder]
            self._series[folder] = group_series(siblings, self._read_start)
        return read_packed(self._series[folder].get(path, (path,)), self._read_alone)

    @functools.cached_property
    def _frames(self) -> dict[str, list[str]]:
        """The frames of each folder of a zip of videos, in order."""
        if not self.videos or self._members is None:
            return {}
        folders = collections.defaultdict(list)
        for path in self._members:
            folder, name = os.path.split(path)
            if not is_hidden(path):
                folders[folder or "."].append(name)
        frames = {folder: frames_in(names) for folder, names in folders.items()}
        return {folder: names for folder, names in frames.items() if names}

    def _is_folder_of_frames(self, path: str) -> bool:
        if self._members is not None:
            return path in self._frames
        return self.videos and os.path.isdir(self.name(path))

    def _read_alone(self, path: str) -> bytes:
        """The bytes of a member of the zip."""
        try:
            archive = self._zip()
            return read_member(archive, archive.getinfo(self._follow(path)), _limit(path))
        except Exception as e:  # A broken zip raises errors of many types.
            raise DataError(f"{self.name(path)}: can't be read: {one_line(e)}") from e

    def name(self, path: str) -> str:
        """Returns the path including the root, as a user would type it."""
        return os.path.join(self.root, path)

    def relative(self, path: str) -> str:
        """Normalizes a path from a label file: relative to the root if it is inside, without `./`.

        In a path without `/`, a `\\` separates folders, as on Windows.
        """
        path = path if "/" in path else path.replace("\\", "/")
        if os.path.isabs(path):
            inside = os.path.relpath(path, os.path.abspath(self.root))
            return os.path.normpath(path) if inside.split("/")[0] == ".." else inside
        return os.path.normpath(path)

    def _zip(self) -> zipfile.ZipFile:
        # One handle per thread: threads would wait for each other on a shared one.
        if self._local.zip is None:
            self._local.zip = zipfile.ZipFile(self.root)
        return self._local.zip

    def _check_links(self, spec: str) -> None:
        """Raises a ConfigError if a link of the zip leads to a folder."""
        if not self._links:
            return
        assert self._members is not None
        folders = self._folders | {f for path in self._members for f in _parents(path)}
        for link, target in self._links.items():
            if target in folders:
                raise ConfigError(
                    f"{spec}: {link!r} is a link to the folder {target!r}; zip the folder again so "
                    "that links are replaced by their files: `zip -r` without -y"
                )

    def _follow(self, path: str) -> str:
        """Returns the member of the zip that a link leads to; a path that is not a link as it is.

        Raises:
          ValueError: the links lead to no member.
        """
        member = path
        for _ in range(_MAX_LINKS):
            if member not in self._links:
                break
            member = self._links[member]
        assert self._members is not None
        if path in self._links and (member in self._links or member not in self._members):
            raise ValueError(f"a link to {self._links[path]!r}, which is not a file of the zip")
        return member

    def _read_start(self, path: str) -> bytes:
        """The first bytes of a member of the zip; b'' if it can't be read."""
        try:
            archive = self._zip()
            member = archive.getinfo(self._follow(path))
            with archive.open(member) as file:
                return file.read(START) if member.compress_type in ZIP_METHODS else b""
        except Exception:  # A broken zip raises errors of many types.
            return b""

    def _find_normalized(self, paths: list[str], folders: dict[str, set[str]]) -> dict[str, str]:
        """`{path: path as it is stored}` of paths that are spelled in another Unicode form."""
        if self._members is not None:
            members = _by_form(self._members)
            return {p: members[normalize(p)] for p in paths if normalize(p) in members}

        @functools.cache
        def find_folder(path: str) -> str | None:
            parent, name = os.path.split(path)
            if not name or os.path.isdir(os.path.join(self.root, path)):
                return path
            found = find_folder(parent)
            if found is None or not os.path.isdir(os.path.join(self.root, found)):
                return None
            same = _by_form(os.listdir(os.path.join(self.root, found))).get(normalize(name))
            return None if same is None else os.path.join(found, same)

        @functools.cache
        def files_in(folder: str) -> dict[str, str]:
            return _by_form(self._list_folder(folder, folders))

        stored = {}
        for path in paths:
            folder, name = find_folder(os.path.dirname(path)), os.path.basename(path)
            if folder is not None and normalize(name) in files_in(folder):
                stored[path] = os.path.join(folder, files_in(folder)[normalize(name)])
        return stored

    def _list_folder(self, folder: str, cache: dict[str, set[str]]) -> set[str]:
        if folder not in cache:
            try:
                with os.scandir(os.path.join(self.root, folder)) as entries:
                    cache[folder] = {entry.name for entry in entries if not _is_folder(entry)}
            except (OSError, ValueError):  # An invalid folder name raises a ValueError.
                cache[folder] = set()
        return cache[folder]

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _local=_ThreadLocal())


def _by_form(names: Iterable[str]) -> dict[str, str]:
    """`{name in one Unicode form: name}`."""
    return {normalize(name): name for name in sorted(names)}


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder; a link to itself, for example, is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _limit(path: str) -> int:
    return MAX_VOLUME_BYTES if path.lower().endswith(_LARGE) else MAX_BYTES


def read_example(path: str) -> bytes:
    """Returns the bytes of a file; of DICOM those of its series, and of a folder its frames.

    Raises:
      DataError: see `read_file`, or the series or folder is too large.
    """
    if os.path.isdir(path):
        names = frames_in(os.listdir(path))
        return read_frames(path, names, lambda name: read_file(os.path.join(path, name)))
    data = read_file(path)
    if not is_dicom(data):
        return data
    folder, name = os.path.split(path)
    try:
        changed = os.stat(folder or ".").st_mtime_ns
    except OSError as e:
        raise DataError(f"{path}: can't be read: {one_line(e)}") from e
    files = _series_in(folder, changed).get(name, (name,))
    return read_packed(files, lambda file: read_file(os.path.join(folder, file)))


@functools.lru_cache(1024)
def _series_in(folder: str, changed: int) -> dict[str, tuple[str, ...]]:
    """The series of a folder, by file name; `changed` is when its files were last added."""
    del changed
    names = [name for name in os.listdir(folder or ".") if not is_hidden(name)]
    return group_series(names, lambda name: _read_start(os.path.join(folder, name)))


def read_file(path: str) -> bytes:
    """Returns the bytes of a file of an image or volume.

    Raises:
      DataError: `path` does not exist, can't be read, is not a regular file or is larger than
        `MAX_BYTES`, or `MAX_VOLUME_BYTES` of a volume.
    """
    limit = _limit(path)
    try:
        # O_NONBLOCK: opening a pipe would otherwise wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path}: can't be read: not a regular file")
            if status.st_size > limit:
                raise DataError(
                    f"{path}: {status.st_size:,} bytes are more than the {limit:,} allowed"
                )
            return file.read(limit)
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: can't be read: {one_line(e)}") from e


def list_folder(root: str, videos: bool = False) -> Listing:
    """Returns all files and folders under a directory, see `list_files`."""
    paths, folders = [], []
    for folder, files in walk(root):
        relative = "" if folder == root else os.path.relpath(folder, root)
        folders.append(relative)
        paths += [os.path.join(relative, file) for file in files]
    return list_files(paths, folders, lambda path: _read_start(os.path.join(root, path)), videos)


def walk(root: str) -> Iterator[tuple[str, list[str]]]:
    """Yields each folder under `root`, starting with `root` itself, and its files.

    Links are followed unless they lead back to a parent folder.
    """
    ancestors: dict[str, frozenset] = {}
    for folder, folders, files in os.walk(root, followlinks=True):
        try:
            status = os.stat(folder)
        except OSError:
            folders.clear()
            continue
        folder_id = (status.st_dev, status.st_ino)
        parents = ancestors.pop(folder, frozenset())
        if folder_id in parents:
            folders.clear()
            continue
        folders.sort()
        ancestors |= {os.path.join(folder, name): parents | {folder_id} for name in folders}
        yield folder, files


def _read_start(path: str) -> bytes:
    """The first bytes of a file; b'' if it can't be read or is a pipe or device."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read(START)
    except OSError:
        return b""


def _parents(path: str) -> Iterator[str]:
    """The folders above a relative path."""
    while path := os.path.dirname(path):
        yield path

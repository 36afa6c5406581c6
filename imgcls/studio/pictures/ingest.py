"""Takes files into a data set: sniffed, hashed, grouped, split, stored."""

import concurrent.futures
import hashlib
import os
import pathlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy import Connection

from imgcls.core.errors import UserError, one_line
from imgcls.studio.errors import DiskFull, Refused
from imgcls.studio.home import Home
from imgcls.studio.pictures.media import Opened
from imgcls.studio.pictures.near import NearIndex, fingerprint
from imgcls.studio.pictures.registered import open_below
from imgcls.studio.store import changes, datasets
from imgcls.studio.store.changes import Action, Group
from imgcls.studio.store.connect import Database
from imgcls.studio.store.incoming import Incoming, insert
from imgcls.studio.store.users import User

# Files that are stored by one change.
BATCH = 500
_WORKERS = 2
_BLOCK = 2**20


class Item(NamedTuple):
    """A file that arrives.

    Attributes:
      path: where it is now.
      name: as its owner calls it.
      folder: where it was, relative; '' for none.
      registered: it stays where it is, below a root; other files are moved into the home.
    """

    path: pathlib.Path
    name: str
    folder: str = ""
    registered: bool = False


class _Failed(NamedTuple):
    name: str
    why: str


class Ingest:
    """Takes files into the data sets of a home.

    Args:
      home: where pictures are stored.
      database: of the home.
      roots: directories below which files may be registered.
    """

    def __init__(self, home: Home, database: Database, roots: Sequence[str] = ()):
        self._home, self._database, self._roots = home, database, roots
        self._near: dict[int, NearIndex] = {}

    def run(
        self,
        user: User,
        dataset_id: int,
        items: Iterable[Item],
        request_id: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Reads, checks and stores files. Those that can't be read are listed, never stored.

        Args:
          user: who sends them.
          dataset_id: where they go.
          items: files that are not registered are gone afterwards.
          request_id: the same again changes nothing.
          progress: called with the number of files so far.

        Returns:
          `{"seq", "added": [ids], "duplicates": [{"name", "of": id, "same_as": name}],
          "unreadable": [{"name", "why"}]}`.

        Raises:
          NotFound: there is no such data set.
          DiskFull: there is no space; what was stored before is kept.
        """
        request_id = request_id or str(uuid.uuid4())
        items = list(items)
        with self._database.read() as connection:
            datasets.get(connection, dataset_id)
            again = changes.repeated(connection, request_id, user.id, "upload")
        if again:
            for item in items:
                _discard(item)
            return again
        total: dict[str, Any] = {"added": [], "duplicates": [], "unreadable": []}
        seq = done = 0
        parts = [items[start : start + BATCH] for start in range(0, max(len(items), 1), BATCH)]
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            found = self._prepare(part)
            done += len(part)
            seq = self._store(
                user,
                dataset_id,
                request_id if last else f"{request_id[:50]}.{number}",
                found,
                total,
            )
            if progress is not None:
                progress(done)
        return {"seq": seq, **total}

    def _prepare(self, items: Sequence[Item]) -> list[Incoming | _Failed]:
        with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
            return list(pool.map(self._read, items))

    def _read(self, item: Item) -> Incoming | _Failed:
        """Reads a file, and moves it to its place; nothing refers to it there yet."""
        shown = f"{item.folder}/{item.name}" if item.folder else item.name
        try:
            with self._open(item) as file:
                sha256, size = _digest(file)
                opened = Opened(file, item.path, item.name)
                poster = opened.poster()
                media, extension = opened.media, opened.extension
            bits, thumb = fingerprint(poster.pixels)
            if not item.registered:
                self._move(item.path, self._home.picture(sha256, extension))
        except (UserError, ValueError, MemoryError) as e:
            _discard(item)
            if isinstance(e, DiskFull):
                raise
            return _Failed(shown, one_line(e)[:500])
        height, width = poster.pixels.shape[:2]
        return Incoming(
            *(sha256, item.name, item.folder, media, extension),
            path=str(item.path) if item.registered else None,
            **{"width": width, "height": height, "frames": poster.frames, "size": size},
            hash=None if bits is None or media == "volume" else bits,
            thumb=thumb,
        )

    def _open(self, item: Item) -> BinaryIO:
        return open_below(item.path, self._roots) if item.registered else open(item.path, "rb")

    def _move(self, source: pathlib.Path, target: pathlib.Path) -> None:
        try:
            if target.exists():
                source.unlink()
                return
            target.parent.mkdir(exist_ok=True, mode=0o700)
            with open(source, "rb+") as file:
                os.fsync(file.fileno())
            os.chmod(source, 0o400)
            os.replace(source, target)
            _sync_folder(target.parent)
        except OSError as e:
            raise DiskFull(
                f"the home can't store {target.name}: {e.strerror}; all that was stored before is "
                "kept; make space and send it again"
            ) from e

    def _store(
        self,
        user: User,
        dataset_id: int,
        request_id: str,
        found: Sequence[Incoming | _Failed],
        total: dict[str, Any],
    ) -> int:
        index = self._near.setdefault(dataset_id, NearIndex(dataset_id))
        with self._database.read() as connection:
            index.refresh(connection)
        total["unreadable"] += [item._asdict() for item in found if isinstance(item, _Failed)]
        good = [item for item in found if isinstance(item, Incoming)]

        def write(connection: Connection) -> tuple[int, dict[str, Any]]:
            index.refresh(connection)
            new = insert(connection, user, dataset_id, good, index)
            known = {**total, "added": total["added"] + new.added}
            known["duplicates"] = total["duplicates"] + new.duplicates
            count = len(new.added)
            action = Action(
                *(request_id, user.id, dataset_id, "upload"),
                what=f"uploaded {count:,} {'image' if count == 1 else 'images'}",
            )
            groups = [
                Group(ids, {"removed": True}, {"removed": False, "split": split})
                for split, ids in new.by_split.items()
            ]
            return changes.record(connection, action, groups=groups, result=known)["seq"], known

        try:
            seq, known = self._database.write(write)
        except BaseException:
            self._near.clear()  # It may have images that were rolled back.
            raise
        total.update(known)
        return seq


def _digest(file: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    if not size:
        raise Refused("empty file")
    return digest.hexdigest(), size


def _discard(item: Item) -> None:
    if not item.registered:
        item.path.unlink(missing_ok=True)


def _sync_folder(path: pathlib.Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

"""Uploads in parts, which continue where they stopped, and the files in what was uploaded.

The bytes received so far are a file in the home's `uploads`, and its length is the truth about how
many there are. Only who began an upload may continue it.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from imgcls.core.errors import one_line
from imgcls.studio.errors import Conflict, DiskFull, NotFound, Refused, TooLarge
from imgcls.studio.home import Home
from imgcls.studio.pictures.archives import (
    ArchiveLimits,
    check_name,
    is_zip,
    list_members,
    open_zip,
    unpack,
)
from imgcls.studio.pictures.ingest import Item
from imgcls.studio.store import datasets
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import upload
from imgcls.studio.store.users import User

MAX_BYTES = 64 << 30
# Unfinished uploads of one user.
MAX_OPEN = 200
KEPT_SECONDS = 7 * 86400.0
# The disk is not filled to the last byte: the database needs some.
RESERVE = 64 << 20


class Uploads:
    """The unfinished uploads of a home; forgets those of last week.

    Args:
      home: whose `uploads` has the bytes.
      database: of the home.
    """

    def __init__(self, home: Home, database: Database):
        self._home, self._database = home, database
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._sweep()

    def begin(
        self, user: User, dataset_id: int, request_id: str, name: str, size: int, sha256: str | None
    ) -> dict[str, Any]:
        """Begins an upload, or finds the one that the same request began.

        Raises:
          Refused: the name leads out, the size is larger than allowed, too many are unfinished.
          DiskFull: there is no space for it.
        """
        name = check_name(name) or "unnamed"
        if size > MAX_BYTES:
            raise TooLarge(f"{name!r} has more than {MAX_BYTES:,} bytes; upload smaller files")
        if size + RESERVE > shutil.disk_usage(self._home.uploads).free:
            raise DiskFull(f"the disk of the home has no space for {name!r}; make space")
        key = hashlib.sha256(f"{user.id} {request_id}".encode()).hexdigest()[:32]
        values = dict(id=key, dataset_id=dataset_id, user_id=user.id, name=name, size=size)

        def add(connection: Connection) -> None:
            datasets.get(connection, dataset_id)
            if connection.execute(sa.select(upload).where(upload.c.id == key)).first():
                return
            mine = sa.select(sa.func.count()).where(upload.c.user_id == user.id)
            if connection.execute(mine).scalar_one() >= MAX_OPEN:
                raise Conflict(f"you have {MAX_OPEN} unfinished uploads; finish or delete some")
            row = {**values, "sha256": sha256 and sha256.lower(), "created": time.time()}
            connection.execute(upload.insert().values(row))

        self._database.write(add)
        self._path(key).touch(0o600)
        return self.state(user, key)

    def state(self, user: User, key: str) -> dict[str, Any]:
        """`{"id", "received", "size"}` in bytes; raises NotFound for another's upload."""
        row = self._row(user, key)
        return {"id": key, "received": self._received(key), "size": row.size}

    @contextlib.contextmanager
    def writing(self, user: User, key: str, offset: int) -> Iterator["Part"]:
        """Yields what takes the bytes from `offset` on. They stay where the upload breaks off.

        Raises:
          Conflict: `offset` is not where the upload stopped (`received` says where that is), or
            another request writes to it.
        """
        row = self._row(user, key)
        with self._alone(key):
            received = self._received(key)
            if offset != received:
                raise Conflict(
                    f"offset={offset}, but {received} bytes are here; continue there",
                    received=received,
                )
            with open(self._path(key), "r+b") as file:
                file.seek(offset)
                try:
                    yield Part(file, row.size - offset)
                finally:
                    with contextlib.suppress(OSError):
                        file.flush()
                        os.fsync(file.fileno())

    @contextlib.contextmanager
    def finishing(self, user: User, key: str) -> Iterator[tuple[int, list[Item], list[dict]]]:
        """Yields `(data set, files, unreadable)` of a whole upload, and forgets it afterwards.

        Raises:
          Conflict: bytes are missing, or they are not those that were announced.
        """
        row = self._row(user, key)
        with self._alone(key):
            path = self._path(key)
            received = self._received(key)
            if received != row.size:
                raise Conflict(
                    f"{received} of {row.size} bytes are here; send the others first",
                    received=received,
                )
            if row.sha256 and _sha256(path) != row.sha256:
                os.truncate(path, 0)
                raise Conflict("the bytes have another SHA-256; send them again", received=0)
            items, unreadable = expand(path, row.name, self._home.uploads)
            try:
                yield row.dataset_id, items, unreadable
                self._forget(key)
            finally:
                for item in items:
                    if item.path != path:
                        item.path.unlink(missing_ok=True)

    def delete(self, user: User, key: str) -> None:
        """Forgets an upload and its bytes."""
        self._row(user, key)
        with self._alone(key):
            self._forget(key)

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        with self._lock:
            if key in self._busy:
                raise Conflict("another request writes to this upload; wait for it")
            self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)

    def _row(self, user: User, key: str) -> Row:
        with self._database.read() as connection:
            query = sa.select(upload).where(upload.c.id == key, upload.c.user_id == user.id)
            row = connection.execute(query).first()
        if row is None or not self._path(row.id).exists():
            raise NotFound("there is no such upload; begin one with POST /api/uploads")
        return row

    def _path(self, key: str) -> pathlib.Path:
        return self._home.uploads / key

    def _received(self, key: str) -> int:
        return self._path(key).stat().st_size

    def _forget(self, key: str) -> None:
        self._database.write(lambda c: c.execute(upload.delete().where(upload.c.id == key)))
        self._path(key).unlink(missing_ok=True)

    def _sweep(self) -> None:
        old = upload.c.created < time.time() - KEPT_SECONDS
        self._database.write(lambda c: c.execute(upload.delete().where(old)))
        with self._database.read() as connection:
            known = set(connection.execute(sa.select(upload.c.id)).scalars())
        for path in self._home.uploads.iterdir():
            if path.name not in known and path.is_file():
                path.unlink()


class Part:
    """Takes bytes of an upload, at most `left`."""

    def __init__(self, file: BinaryIO, left: int):
        self._file, self._left = file, left

    def write(self, data: bytes) -> None:
        """Writes bytes; raises Refused for more than were announced, DiskFull without space."""
        if len(data) > self._left:
            raise TooLarge("these are more bytes than the upload's size; begin another upload")
        try:
            self._file.write(data)
        except OSError as e:
            raise DiskFull(
                f"the home can't store the upload: {e.strerror}; make space and continue it"
            ) from e
        self._left -= len(data)

    def end(self) -> int:
        """Brings the bytes to the disk; returns how many are there from the start."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


def expand(
    path: pathlib.Path, name: str, work: pathlib.Path, limits: ArchiveLimits | None = None
) -> tuple[list[Item], list[dict[str, str]]]:
    """The files in what was uploaded: itself, or the members of a zip, unpacked to `work`.

    Returns:
      The files, and `{"name", "why"}` of members that can't be used.

    Raises:
      Refused: a hostile or broken archive.
      DiskFull: there is no space to unpack it.
    """
    folder, _, name = name.rpartition("/")
    if not is_zip(path):
        return [Item(path, name, folder)], []
    items: list[Item] = []
    unreadable: list[dict[str, str]] = []
    try:
        with open_zip(path) as archive:
            members = list_members(archive, limits)
            total = sum(member.info.file_size for member in members)
            if total + RESERVE > shutil.disk_usage(work).free:
                raise DiskFull(f"the disk of the home has no space to unpack {name!r}; make space")
            for member in members:
                inside = f"{folder}/{member.folder}".strip("/")
                target = work / f"{uuid.uuid4()}.part"
                why = member.why or unpack(archive, member, target)
                if why:
                    shown = f"{inside}/{member.name}" if inside else member.name
                    unreadable.append({"name": shown, "why": why})
                else:
                    items.append(Item(target, member.name, inside))
    except BaseException as e:
        for item in items:
            item.path.unlink(missing_ok=True)
        if isinstance(e, OSError):
            raise DiskFull(f"the home can't unpack {name!r}: {e.strerror}; make space") from e
        if isinstance(e, Refused) and name not in str(e):
            raise type(e)(f"{name}: {one_line(e)}", **e.details) from e
        raise
    return items, unreadable


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

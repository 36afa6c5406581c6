"""A copy of a home in one file, made while the home is served, and a home made from it.

The file is a tar: `tables/NAME.jsonl` has the rows of a table as of one moment, `files/` the
pictures, features, versions and runs, and `manifest.json`, at the end, the SHA-256 of each. Both
databases write the same, so a home can change its database on the way.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from imgcls.core.errors import ConfigError, one_line
from imgcls.core.storage import reason
from imgcls.studio.home import Home
from imgcls.studio.store import dump
from imgcls.studio.store.connect import migrate, open_engine

# Thumbnails are made again; exports are downloads; unfinished uploads are sent again.
FOLDERS = ("pictures", "features", "versions", "runs")
_FORMAT = 1
_MANIFEST = "manifest.json"
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a backup holds: version of the tables, rows by table, `(bytes, sha256)` by member."""

    revision: str
    created: float
    rows: dict[str, int]
    members: dict[str, tuple[int, str]]


def write(home: Home, target: str | os.PathLike) -> Manifest:
    """Writes a backup and reads it back, to check it. The home may be in use meanwhile.

    Raises:
      ConfigError: there is no home, the file exists, or it can't be written.
    """
    target = pathlib.Path(target)
    if target.exists():
        raise ConfigError(f"{target} exists; write the backup to another file")
    part = target.with_name(f"{target.name}.part")
    try:
        with open(part, "xb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            os.chmod(part, 0o600)
            _write_members(home, tar)
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        manifest = verify(part)
        os.rename(part, target)
        _sync_folder(target.parent)
    except FileExistsError as e:
        raise ConfigError(f"{part} exists, of another backup or a broken one; remove it") from e
    except OSError as e:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{target}: {reason(e)}; choose another place for the backup") from e
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return manifest


def verify(path: str | os.PathLike) -> Manifest:
    """Reads a whole backup and compares it with its manifest.

    Raises:
      ConfigError: it is no backup, or damaged.
    """
    with _open(path) as tar:
        manifest = _read_manifest(path, tar)
        seen = set()
        for info in tar:
            if info.name == _MANIFEST:
                continue
            if info.name not in manifest.members or info.name in seen or not info.isreg():
                raise ConfigError(f"{path}: {info.name!r} does not belong to a backup")
            seen.add(info.name)
            found, rows = _digest(tar, info)
            if found != manifest.members[info.name]:
                raise ConfigError(f"{path}: {info.name} is damaged; take another backup")
            table = info.name.removeprefix("tables/").removesuffix(".jsonl")
            if info.name.startswith("tables/") and rows != manifest.rows.get(table):
                raise ConfigError(f"{path}: {info.name} is not whole; take another backup")
        if missing := manifest.members.keys() - seen:
            raise ConfigError(f"{path}: {min(missing)} is missing; take another backup")
    return manifest


def restore(path: str | os.PathLike, directory: str | os.PathLike, database_url: str = "") -> Home:
    """Makes a home from a backup, checked before and after.

    Args:
      directory: of the home; it must not exist, or be empty.
      database_url: an empty PostgreSQL database, instead of SQLite in the directory.

    Raises:
      ConfigError: the backup is damaged, or the directory or database is not empty. Nothing is left
        behind.
    """
    target = pathlib.Path(directory).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--home={directory} is not empty; restore to a new directory")
    manifest = verify(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as e:
        raise ConfigError(f"--home={directory}: {reason(e)}; choose a writable one") from e
    try:
        with _open(path) as tar:
            _extract_files(tar, manifest, work)
            _load(tar, manifest, Home(work, database_url).database_url)
        if target.exists():
            target.rmdir()
        os.rename(work, target)
        _sync_folder(target.parent)
    except OSError as e:
        raise ConfigError(f"--home={directory}: {reason(e)}; nothing was restored") from e
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Home(target, database_url)


def _write_members(home: Home, tar: tarfile.TarFile) -> None:
    members: dict[str, tuple[int, str]] = {}
    rows: dict[str, int] = {}
    engine = open_engine(home.database_url)
    try:
        # One transaction sees one state of all tables, and pictures are only ever added.
        with engine.connect() as connection, connection.begin():
            revision = dump.revision_of(connection)
            for table in dump.read_tables(connection):
                with tempfile.TemporaryFile() as file:
                    rows[table.name] = 0
                    for line in dump.read_rows(connection, table):
                        file.write(line.encode() + b"\n")
                        rows[table.name] += 1
                    size = file.tell()
                    file.seek(0)
                    _add(tar, members, f"tables/{table.name}.jsonl", file, size)
    except SQLAlchemyError as e:
        raise ConfigError(f"--home={home.root}: its database can't be read: {_reason(e)}") from e
    finally:
        engine.dispose()
    for file in _files(home):
        # Files that grow meanwhile, as logs do, are copied as they are now; others are gone.
        with contextlib.suppress(FileNotFoundError), open(file, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            _add(tar, members, f"files/{file.relative_to(home.root)}", source, size)
    data = {"format": _FORMAT, "revision": revision, "created": time.time()}
    text = json.dumps({**data, "rows": rows, "members": members}, indent=1).encode()
    _add(tar, {}, _MANIFEST, io.BytesIO(text), len(text))


def _files(home: Home) -> Iterator[pathlib.Path]:
    for name in FOLDERS:
        for folder, folders, files in os.walk(home.root / name):
            folders.sort()
            for file in sorted(files):
                path = pathlib.Path(folder, file)
                if path.is_file() and not path.is_symlink():
                    yield path


def _add(tar: tarfile.TarFile, members: dict, name: str, file: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(time.time())
    source = _Hashed(file, size)
    tar.addfile(info, source)  # type: ignore[arg-type]
    members[name] = (size, source.digest.hexdigest())


class _Hashed:
    """The first bytes of a file, hashed while they are read; zeros where it became shorter."""

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._left = file, size
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left)).ljust(min(size, self._left), b"\0")
        self._left -= len(data)
        self.digest.update(data)
        return data


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, mode="r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError) as e:
        raise ConfigError(f"{path}: no backup of a studio, or damaged: {one_line(e)}") from e
    except FileNotFoundError as e:
        if e.filename != os.fspath(path):
            raise
        raise ConfigError(f"there is no backup {path}") from e


def _read_manifest(path: str | os.PathLike, tar: tarfile.TarFile) -> Manifest:
    try:
        file = tar.extractfile(_MANIFEST)
        assert file is not None
        data: dict[str, Any] = json.load(file)
        members = {
            str(name): (int(size), str(sha)) for name, (size, sha) in data["members"].items()
        }
        manifest = Manifest(str(data["revision"]), float(data["created"]), data["rows"], members)
        version = data["format"]
    except (KeyError, ValueError, TypeError, AttributeError, AssertionError) as e:
        raise ConfigError(f"{path}: no backup of a studio, or damaged: no manifest") from e
    if version != _FORMAT:
        raise ConfigError(f"{path}: written by a newer imgcls; restore it with that one")
    for name in members:
        _check_name(path, name)
    return manifest


def _check_name(path: str | os.PathLike, name: str) -> None:
    """A backup may come from anybody: nothing is written but to the folders of a home."""
    parts = name.split("/")
    table = len(parts) == 2 and parts[0] == "tables" and name.endswith(".jsonl")
    file = len(parts) > 2 and parts[0] == "files" and parts[1] in FOLDERS
    if not (table or file) or {"", ".", ".."} & set(parts) or "\\" in name or "\0" in name:
        raise ConfigError(f"{path}: {name!r} does not belong to a backup")


def _digest(tar: tarfile.TarFile, info: tarfile.TarInfo) -> tuple[tuple[int, str], int]:
    file = tar.extractfile(info)
    assert file is not None
    digest, size, lines = hashlib.sha256(), 0, 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
        lines += chunk.count(b"\n")
    return (size, digest.hexdigest()), lines


def _extract_files(tar: tarfile.TarFile, manifest: Manifest, root: pathlib.Path) -> None:
    for name in manifest.members:
        if name.startswith("files/"):
            path = root / name.removeprefix("files/")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            source = tar.extractfile(name)
            assert source is not None
            with open(path, "xb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
                file.flush()
                os.fsync(file.fileno())


def _load(tar: tarfile.TarFile, manifest: Manifest, url: str) -> None:
    """Makes the tables as they were, fills them, and brings them to today's version."""
    engine = open_engine(url)
    try:
        if sa.inspect(engine).get_table_names():
            raise ConfigError("--database is not empty; restore to a new database")
        try:
            _fill(engine, tar, manifest)
        except BaseException:
            with engine.begin() as connection:
                there = sa.MetaData()
                there.reflect(connection)
                there.drop_all(connection)
            raise
    except (SQLAlchemyError, ValueError, KeyError) as e:
        raise ConfigError(f"the backup's tables can't be restored: {_reason(e)}") from e
    finally:
        engine.dispose()


def _fill(engine: sa.Engine, tar: tarfile.TarFile, manifest: Manifest) -> None:
    migrate(engine, manifest.revision)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        for table in dump.read_tables(connection):
            name = f"tables/{table.name}.jsonl"
            if name in manifest.members:
                file = tar.extractfile(name)
                assert file is not None
                dump.write_rows(connection, table, (line.decode() for line in file))
    migrate(engine)


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "orig", None) or error)


def _sync_folder(folder: pathlib.Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

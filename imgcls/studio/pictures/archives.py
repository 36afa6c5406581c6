"""Zip archives of strangers: their members are checked before anything is unpacked.

Names of members are only text: what is unpacked is stored under its hash. An archive whose
structure is hostile (a path that leads out, entries that overlap, a bomb) is refused as a whole.
"""

import dataclasses
import os
import pathlib
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from imgcls.core.errors import one_line
from imgcls.studio.errors import Refused, TooLarge

_CHUNK = 1 << 20
# What systems put into archives beside the files.
_CLUTTER = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|Thumbs\.db$|desktop\.ini$|\._)", re.IGNORECASE)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


@dataclasses.dataclass(frozen=True)
class ArchiveLimits:
    """Bounds on an archive: `ratio` is unpacked bytes per packed byte, beyond `free` bytes."""

    members: int = 200_000
    member: int = 4 << 30
    total: int = 64 << 30
    ratio: int = 100
    free: int = 256 << 20


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in an archive: `why` says why it can't be used; empty if it can."""

    info: zipfile.ZipInfo
    name: str
    folder: str
    why: str = ""


def is_zip(path: str | os.PathLike) -> bool:
    """Whether a file starts as a zip archive does: an image with an archive behind it is none."""
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def list_members(archive: zipfile.ZipFile, limits: ArchiveLimits | None = None) -> list[Member]:
    """The files of an archive, without folders and clutter.

    Raises:
      Refused: a name leads out of the archive, or two entries share their bytes.
      TooLarge: too many members, or a bomb.
    """
    limits = limits or ArchiveLimits()
    infos = archive.infolist()
    if len(infos) > limits.members:
        raise TooLarge(f"the zip has {len(infos):,} members; pack at most {limits.members:,}")
    packed = _check_overlap(infos)
    unpacked = sum(info.file_size for info in infos)
    if unpacked > min(limits.total, max(limits.free, packed * limits.ratio)):
        raise TooLarge(f"the zip unpacks to {unpacked:,} bytes from {packed:,}; pack fewer files")
    members, seen = [], set()
    for info in infos:
        path = check_name(info.filename)
        if info.is_dir() or _CLUTTER.search(path):
            continue
        folder, _, name = path.rpartition("/")
        why = _problem(info, limits)
        if path in seen:
            why = why or "the zip has this name twice"
        seen.add(path)
        members.append(Member(info, name, folder, why))
    return members


def unpack(archive: zipfile.ZipFile, member: Member, target: pathlib.Path) -> str:
    """Unpacks a member to a new file; returns what is wrong with it, or "".

    Not more is written than the archive's list says. A file that is wrong does not stay.
    """
    written = 0
    try:
        with archive.open(member.info) as source, open(target, "xb") as out:
            for chunk in _chunks(source):
                written += len(chunk)
                if written > member.info.file_size:
                    raise zipfile.BadZipFile("it is larger than the zip says")
                out.write(chunk)
        if written != member.info.file_size:
            raise zipfile.BadZipFile("it is shorter than the zip says")
    except _BROKEN as e:
        target.unlink(missing_ok=True)
        if isinstance(e, OSError) and e.errno:  # The disk, not the archive.
            raise
        return f"broken in the zip: {one_line(e)}"
    return ""


def open_zip(path: str | os.PathLike) -> zipfile.ZipFile:
    """Opens an archive; raises Refused if it is broken."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, ValueError) as e:
        raise Refused(f"the zip can't be read: {one_line(e)}; pack it again") from e


def check_name(name: str) -> str:
    """A member's or file's path with `/` between its parts.

    Raises:
      Refused: it is absolute, a drive or share of Windows, leads upward, or has control characters.
    """
    path = name.replace("\\", "/")
    parts = path.split("/")
    if (
        path.startswith("/")
        or re.match(r"[A-Za-z]:", path)
        or ".." in parts
        or any(ord(c) < 32 or ord(c) == 127 for c in path)
        or len(path) > 1000
    ):
        raise Refused(f"the name {name[:200]!r} leads out of its folder; pack relative names")
    return "/".join(part for part in parts if part not in ("", "."))


def _check_overlap(infos: list[zipfile.ZipInfo]) -> int:
    """Raises Refused if entries overlap, as in bombs; returns their packed bytes."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise Refused("entries of the zip overlap; pack the files again")
        end = info.header_offset + 30 + len(info.orig_filename.encode()) + info.compress_size
    return sum(info.compress_size for info in infos)


def _problem(info: zipfile.ZipInfo, limits: ArchiveLimits) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "a symbolic link, which is not followed"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "no regular file"
    if info.flag_bits & 0x1:
        return "encrypted; pack it without a password"
    if info.file_size > limits.member:
        return f"more than {limits.member:,} bytes"
    return ""


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk

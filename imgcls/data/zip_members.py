"""The members of a zip, checked: none points outside of it, and none takes unbounded memory."""

import os
import re
import stat
import zipfile

from imgcls.core.errors import ConfigError, one_line

# The usual compression methods; the others decompress without a bound on memory.
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MAX_LINK = 4096


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    """Returns a member's bytes: no more than its declared size, which is at most `limit`."""
    if member.compress_type not in ZIP_METHODS:
        raise ValueError("unsupported compression method; zip the folder again")
    if member.file_size > limit:
        raise ValueError(f"{member.file_size:,} bytes are more than the {limit:,} allowed")
    with archive.open(member) as file:
        return file.read(member.file_size)


def list_zip(path: str, spec: str) -> tuple[list[str], dict[str, str]]:
    """The names of a zip's members, where those of folders end in `/`, and the targets of links."""
    try:
        with zipfile.ZipFile(path) as archive:
            links = {}
            for member in archive.infolist():
                target = _link_target(archive, member)
                _check_member(member, target, spec)
                if target is not None:
                    links[member.filename] = target
            return archive.namelist(), links
    except ConfigError:
        raise
    except Exception as e:  # A broken zip raises errors of many types.
        raise ConfigError(f"{spec}: can't read the zip ({one_line(e)}); zip it again") from e


def _link_target(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str | None:
    """Where a link leads, relative to the root; None for other members."""
    if not stat.S_ISLNK(member.external_attr >> 16):
        return None
    link = read_member(archive, member, _MAX_LINK).decode(errors="replace")
    # A link's target is relative to its folder: `a/../b` stays inside.
    folder = os.path.dirname(member.filename)
    return link if _is_absolute(link) else os.path.normpath(os.path.join(folder, link))


def _check_member(member: zipfile.ZipInfo, target: str | None, spec: str) -> None:
    paths = [member.filename] if target is None else [member.filename, target]
    if any(_is_absolute(path) or ".." in re.split(r"[/\\]", path) for path in paths):
        raise ConfigError(f"{spec}: refused, its member {member.filename!r} points outside of it")
    if "\\" in member.filename:
        raise ConfigError(
            f"{spec}: refused, its member {member.filename!r} is written with a backslash; zip the "
            "folder again"
        )


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path) is not None

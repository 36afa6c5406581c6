"""Zips that are refused: members and links that point outside."""

import stat
import zipfile

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import open_dataset


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("../1.png", "points outside"),
        ("/x/1.png", "points outside"),
        ("x/../../1.png", "points outside"),
        ("C:/x/1.png", "points outside"),
        ("c:x.png", "points outside"),
        ("..\\x\\1.png", "points outside"),
        ("\\x\\1.png", "points outside"),
        ("x\\1.png", "written with a backslash"),
    ],
)
def test_refused_zip_members(tmp_path, member, message):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("x/0.png", b"")
        archive.writestr(zipfile.ZipInfo(member), b"")
    with pytest.raises(ConfigError, match=f"refused, its member .* {message}"):
        open_dataset(f"folder:{tmp_path / 'bad.zip'}")


@pytest.mark.parametrize(
    ("target", "leaves"),
    [("/etc/passwd", True), ("../../x", True), ("..\\..\\x", True), ("../y/1.png", False)],
)
def test_links_in_a_zip(tmp_path, target, leaves):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("x/0.png", b"")
        archive.writestr("y/1.png", b"")
        link = zipfile.ZipInfo("x/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, target)
    if leaves:
        with pytest.raises(ConfigError, match="refused, its member 'x/link.png' points outside"):
            open_dataset(f"folder:{tmp_path / 'bad.zip'}")
    else:
        open_dataset(f"folder:{tmp_path / 'bad.zip'}")

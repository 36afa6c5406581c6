"""Zip archives: hostile ones are refused as a whole, unusable members are named."""

import io
import stat
import struct
import subprocess
import sys
import zipfile

import pytest

from imgcls.studio.errors import Refused, TooLarge
from imgcls.studio.pictures.archives import (
    ArchiveLimits,
    check_name,
    is_zip,
    list_members,
    open_zip,
    unpack,
)


def make_zip(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # The constructor would make it harmless.
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def members_of(path, **limits):
    with open_zip(path) as archive:
        return list_members(archive, ArchiveLimits(**limits))


def test_files_come_with_their_folders_and_without_clutter(tmp_path):
    path = make_zip(
        tmp_path / "a.zip",
        {
            "cats/": b"",
            "cats/1.png": b"one",
            "./cats/old/2.png": b"two",
            "win\\3.png": b"three",
            "__MACOSX/cats/._1.png": b"",
            ".DS_Store": b"",
        },
    )
    with open_zip(path) as archive:
        found = list_members(archive)
        assert [(m.folder, m.name, m.why) for m in found] == [
            ("cats", "1.png", ""),
            ("cats/old", "2.png", ""),
            ("win", "3.png", ""),
        ]
        for member, data in zip(found, (b"one", b"two", b"three"), strict=True):
            assert unpack(archive, member, tmp_path / "out") == ""
            assert (tmp_path / "out").read_bytes() == data
            (tmp_path / "out").unlink()


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "a/../../evil.png",
        "/etc/passwd",
        "C:\\windows\\evil.png",
        "c:evil.png",
        "\\\\server\\share\\evil.png",
        "//server/share/evil.png",
        "..\\evil.png",
        "a\r\nSet-Cookie: x=1.png",
        "a\x1b[31m.png",
        "a" * 2000,
    ],
)
def test_a_name_that_leads_out_refuses_the_archive(tmp_path, name):
    with pytest.raises(Refused, match="leads out"):
        members_of(make_zip(tmp_path / "a.zip", {"good.png": b"x", name: b"y"}))


def test_a_zero_byte_ends_a_name(tmp_path):
    """As zipfile reads it: what is behind the zero is not part of the name."""
    path = make_zip(tmp_path / "a.zip", {"good.pngX../../evil": b"x"})
    path.write_bytes(path.read_bytes().replace(b"pngX", b"png\0"))
    assert [m.name for m in members_of(path)] == ["good.png"]


def test_links_devices_and_encrypted_members_are_named(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, mode in (("link", stat.S_IFLNK), ("pipe", stat.S_IFIFO), ("file", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode | 0o644) << 16
            archive.writestr(info, "/etc/passwd")
        archive.writestr("secret", "x")
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 8] |= 1  # The flag of encryption.
    path.write_bytes(data)
    why = {m.name: m.why for m in members_of(path)}
    assert "symbolic link" in why["link"] and "no regular" in why["pipe"]
    assert "password" in why["secret"] and why["file"] == ""


def test_a_name_given_twice(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.png": b"1", "./a.png": b"2"})
    assert ["twice" in m.why for m in members_of(path)] == [False, True]


def test_bombs(tmp_path):
    zeros = make_zip(tmp_path / "a.zip", {"zeros": bytes(10 << 20)})
    with pytest.raises(TooLarge, match="10,485,760 bytes"):
        members_of(zeros, free=1 << 20)
    assert members_of(zeros)[0].why == ""  # A volume may well be mostly empty.
    assert "more than 1,000 bytes" in members_of(zeros, member=1000)[0].why
    with pytest.raises(TooLarge, match="members"):
        members_of(make_zip(tmp_path / "b.zip", {str(i): b"" for i in range(11)}), members=10)


def test_a_bomb_of_entries_that_share_their_bytes(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a": bytes(100_000), "b": bytes(100_000)})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    path.write_bytes(data)
    with pytest.raises(Refused, match="overlap"):
        members_of(path)


@pytest.mark.parametrize("lie", [10, 1_000_000])
def test_a_size_that_lies_is_found_and_nothing_stays(tmp_path, lie):
    path = make_zip(tmp_path / "a.zip", {"a": bytes(50_000)})
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", lie)
    path.write_bytes(data)
    with open_zip(path) as archive:
        why = unpack(archive, list_members(archive)[0], tmp_path / "out")
    assert why.startswith("broken in the zip")
    assert not (tmp_path / "out").exists()


def test_damaged_bytes_are_found_and_nothing_stays(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a": bytes(range(256)) * 20})
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    with open_zip(path) as archive:
        assert unpack(archive, list_members(archive)[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_archive_is_one_line(tmp_path):
    for data in (b"PK\x03\x04", b"", b"no zip"):
        (tmp_path / "a.zip").write_bytes(data)
        with pytest.raises(Refused, match="can't be read"):
            open_zip(tmp_path / "a.zip")


def test_an_image_with_an_archive_behind_it_is_an_image(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "x")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + buffer.getvalue())
    assert not is_zip(tmp_path / "a.png")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    assert is_zip(tmp_path / "a.zip")


def test_names_of_the_zip_command(tmp_path):
    """What another program packs is read, with names in UTF-8."""
    (tmp_path / "Übung").mkdir()
    (tmp_path / "Übung" / "猫 1.png").write_bytes(b"x")
    code = "import shutil, sys; shutil.make_archive(sys.argv[1], 'zip', sys.argv[2])"
    packed, folder = tmp_path.parent / f"{tmp_path.name}_packed", tmp_path
    subprocess.run([sys.executable, "-c", code, str(packed), str(folder)], check=True)
    (member,) = members_of(f"{packed}.zip")
    assert (member.folder, member.name) == ("Übung", "猫 1.png")


def test_check_name_keeps_what_is_harmless():
    assert check_name("a..b/c d/...png") == "a..b/c d/...png"
    assert check_name("./a//b.png") == "a/b.png"

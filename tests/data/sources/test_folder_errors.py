"""Class folders that can't be read: missing, empty, unsafe or damaged."""

import os
import zipfile

import pytest

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.sources.open import create_source
from tests.data.sources.trees import class_files, write_images, write_zip


@pytest.mark.parametrize("member", ["../a/1.png", "/a/1.png", "a/../../1.png"])
def test_zip_members_that_point_outside_are_refused(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("a/0.png", b"x")
        archive.writestr(zipfile.ZipInfo(member), b"x")
    with pytest.raises(ConfigError, match="refused, its member .* points outside"):
        create_source(f"folder:{tmp_path / 'bad.zip'}", "train")


@pytest.mark.parametrize("kind", ["missing", "empty", "flat", "text"])
def test_no_images(tmp_path, kind):
    path = tmp_path / kind
    if kind == "text":
        path.write_text("not a zip")
    elif kind != "missing":
        path.mkdir()
        write_images(path, ["1.png"] if kind == "flat" else [])
    message = {"flat": "1 x image in no class folder", "empty": "no images found"}.get(
        kind, "no such directory or zip"
    )
    with pytest.raises(ConfigError, match=f"folder:{path}: {message}"):
        create_source(f"folder:{path}", "train")


def test_a_vanished_file_is_a_data_error(tmp_path):
    write_images(tmp_path, class_files({"a": 10}))
    source = create_source(f"folder:{tmp_path}", "train")
    os.remove(source.name(2))
    with pytest.raises(DataError, match=os.path.basename(source.name(2))):
        source[2]
    assert source[3]["image"].startswith(b"\x89PNG")


def test_a_dangling_link_is_a_data_error(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    write_images(tmp_path, ["test/a/1.png"])
    (tmp_path / "train" / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    source = create_source(f"folder:{tmp_path}", "train")
    with pytest.raises(DataError, match="gone.png"):
        source[0]


def test_a_damaged_zip_member_is_a_data_error(tmp_path):
    write_images(tmp_path / "tree", ["train/a/1.png", "train/a/2.png", "test/a/3.png"])
    path = write_zip(tmp_path / "tree.zip", tmp_path / "tree")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("train/a/1.png")
    data = bytearray((tmp_path / "tree.zip").read_bytes())
    data[info.header_offset + 30 + len(info.filename) + info.file_size // 2] ^= 0xFF
    (tmp_path / "tree.zip").write_bytes(data)
    source = create_source(f"folder:{path}", "train")
    with pytest.raises(DataError, match="1.png"):
        source[0]
    assert source[1]["image"].startswith(b"\x89PNG")

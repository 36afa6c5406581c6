"""Zips: members that are refused, and links."""

import io
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.image import EncodedImage
from imgcls.data.files import Files
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


def write_zip(path, **links) -> str:
    """Writes two images and links; returns the data source."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, gray in (("train/x/0.png", 10), ("train/y/1.png", 200)):
            file = io.BytesIO()
            Image.fromarray(np.full((4, 4), gray, np.uint8)).save(file, "png")
            archive.writestr(name, file.getvalue())
        for name, target in links.items():
            link = zipfile.ZipInfo(f"train/x/{name}.png")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
    return f"folder:{path}"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../x", "..\\..\\x", "C:\\x"])
def test_links_out_of_a_zip_are_refused(tmp_path, target):
    with pytest.raises(
        ConfigError, match="refused, its member 'train/x/link.png' points outside of it"
    ):
        open_dataset(write_zip(tmp_path / "bad.zip", link=target))


def test_links_in_a_zip_are_followed(tmp_path):
    """To an image of another folder, and to another link."""
    data = open_dataset(write_zip(tmp_path / "a.zip", link="../y/1.png", more="link.png"))
    source = data.open("train")
    names = [source.name(i).rpartition("/")[2] for i in range(len(source))]
    assert names == ["0.png", "link.png", "more.png", "1.png"]
    assert source.labels().tolist() == [0, 0, 0, 1]
    for index, gray in enumerate((10, 200, 200, 200)):
        image = EncodedImage(source[index]["image"], names[index], channels=1).pixels
        assert (image == gray).all()


@pytest.mark.parametrize("links", [{"link": "gone.png"}, {"link": "b.png", "b": "link.png"}])
def test_a_dangling_link_in_a_zip_is_a_data_error(tmp_path, links):
    source = open_dataset(write_zip(tmp_path / "a.zip", **links)).open("train")
    index = [source.name(i).endswith("link.png") for i in range(len(source))].index(True)
    with pytest.raises(DataError, match="link.png: can't be read: a link to 'train/x/.*.png'"):
        source[index]


def test_a_link_to_a_folder_of_a_zip_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'train/x/link.png' is a link to the folder 'train/y'"):
        open_dataset(write_zip(tmp_path / "a.zip", link="../y"))


def test_the_audit_follows_a_link_in_a_zip(command, tmp_path):
    data = write_zip(tmp_path / "a.zip", link="../y/1.png")
    done = command("audit", f"--data={data}", f"--out={tmp_path / 'audit'}")
    assert "not an image" not in done.stdout + done.stderr
    assert "3 images" in done.stdout, done.stdout + done.stderr


def test_a_link_to_itself_hides_no_other_image(tmp_path):
    for name in ("cat/1.jpg", "dog/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "cat" / "loop.jpg").symlink_to(tmp_path / "cat" / "loop.jpg")
    files = Files(str(tmp_path), "x")
    assert files.existing(["cat/1.jpg", "cat", "cat/2.jpg"]) == {"cat/1.jpg": "cat/1.jpg"}

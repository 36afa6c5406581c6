"""Which files are images, in a directory and in a zip, and how the others are counted."""

import io
import zipfile

import pytest
from PIL import Image

from imgcls.core.errors import ConfigError
from imgcls.data.decode import formats
from imgcls.data.files import Files
from imgcls.data.listing import count_extensions, describe_extensions
from imgcls.data.sources.open import open_dataset
from imgcls.data.table import problems as kinds

IMAGES = {
    "cat/1.jpg": "JPEG",
    "cat/2.JFIF": "JPEG",
    "cat/3.jpe": "JPEG",
    "cat/4.ppm": "PPM",
    "cat/5.pgm": "PPM",
    "dog/1.avif": "AVIF",
    "dog/2.webp": "WEBP",
    "dog/3.bmp": "BMP",
    "dog/4.tif": "TIFF",
    "dog/5": "PNG",  # recognized by the first bytes, like the next two
    "dog/6.jpg_large": "JPEG",
    "dog/7.heic": "JPEG",  # renamed
}
OTHERS = {
    "cat/1.txt": b"\xff\xd8\xff is text",
    "cat/8.xcf": b"gimp",
    "cat/9.HEIC": b"\0\0\0\x24ftypheix",
    "README": b"read",
    "dog/a.xcf": b"",
}


@pytest.fixture(params=["folder", "zip"])
def root(request, tmp_path):
    folder = tmp_path / "tree"
    for path, name in IMAGES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (200, 0, 0)).save(file, name)
        (folder / path).write_bytes(file.getvalue())
    for path, content in OTHERS.items():
        (folder / path).write_bytes(content)
    for path in (".DS_Store", "cat/Thumbs.db"):
        (folder / path).write_bytes(b"x")
    (folder / "cat" / "sub").mkdir()
    if request.param == "folder":
        return folder
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return tmp_path / "tree.zip"


def others() -> dict[str, bytes]:
    """The files that are passed over; HEIC is decoded where pillow-heif is installed."""
    heic = ".heic" in formats.extensions()
    return {path: data for path, data in OTHERS.items() if not (heic and path.endswith("HEIC"))}


def test_listing(root):
    listing = Files(str(root), "x").listing()
    assert listing.others == sorted(others())
    assert listing.images == sorted({*IMAGES, *OTHERS} - others().keys())
    assert listing.folders == ["cat", "cat/sub", "dog"]


def test_images_are_read_and_others_counted(root, capsys):
    data = open_dataset(f"folder:{root}")
    found = {n for s in data.splits for n in map(data.open(s).name, range(len(data.open(s))))}
    assert {name.removeprefix(f"{root}/") for name in found} >= IMAGES.keys()
    expected = count_extensions(others())
    assert data.problems.other_files == expected
    warning = capsys.readouterr().err
    assert warning == f"warning: folder:{root}: passed over: {describe_extensions(expected)}\n"


def test_counts_in_words():
    counts = count_extensions(["a.HEIC", "b.heic", "c.txt", "d/e", "f.TXT", "g.txt"])
    assert counts == {".txt": 3, ".heic": 2, "": 1}
    text = "3 .txt, 2 .heic, 1 without extension"
    if ".heic" not in formats.extensions():
        text += " [to read .heic: run `pip install -r requirements-heif.txt`]"
    assert describe_extensions(counts) == text


def write(folder, *paths: str) -> None:
    """Writes red images, or files that are not images where the path ends in .xcf or .txt."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith((".xcf", ".txt")):
            (folder / path).write_bytes(b"gimp")
        else:
            Image.new("RGB", (8, 8), (200, 0, 0)).save(folder / path)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["cat/1.png", "dog/1.xcf", "dog/2.xcf", "dog/3.txt"], "dog: 2 .xcf, 1 .txt"),
        (["cat/1.png", "dog/.DS_Store.png", "cat/2.png"], "dog: empty"),
        (["train/cat/1.png", "train/dog/1.xcf", "val/cat/1.png"], "train/dog: 1 .xcf"),
        (["train/cat/1.png", "val/cat/1.xcf", "val/2.xcf"], "val: 2 .xcf"),
        (["train/cat/1.png", "val/1.xcf"], "val: 1 .xcf"),
        (["data/train/cat/1.png", "data/val/dog/1.xcf"], "data/val: 1 .xcf"),
    ],
)
def test_a_class_folder_without_an_image_is_an_error(tmp_path, paths, expected):
    write(tmp_path, *paths)
    with pytest.raises(ConfigError, match=rf"1 x folder without an image \({expected}\)"):
        open_dataset(f"folder:{tmp_path}")
    assert not (tmp_path / "classes.txt").exists()
    problems = open_dataset(f"folder:{tmp_path}", on_error="skip").problems
    assert problems.counts[kinds.NO_IMAGE] == 1


def test_folders_that_are_not_meant_as_classes(tmp_path):
    """Folders of text, and a class without images in one of the splits."""
    write(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.xcf")
    write(tmp_path, "labels/1.txt", "train/cat/labels/1.txt", "train/notes/2.txt")
    (tmp_path / "val").mkdir()
    data = open_dataset(f"folder:{tmp_path}")
    assert data.splits == ("train", "test") and not data.problems
    assert data.open("train").class_names == ("cat", "dog")


def test_only_other_files(tmp_path):
    write(tmp_path, "cat/1.xcf", "dog/1.xcf", "dog/2.xcf")
    with pytest.raises(ConfigError, match="no images found; passed over: 3 .xcf; expected PATH"):
        open_dataset(f"folder:{tmp_path}")

"""Digits, class folders and zips of them: splits, slices, classes, names, and what is refused."""

import collections
import importlib
import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.image import decode_image
from imgcls.data.sources.open import create_source


def write_images(root, files: list[str]) -> None:
    """A PNG of 2x2 pixels for each path; the pixels are the path's number."""
    for number, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2), (number, 0, 0)).save(path, format="PNG")


def write_zip(path, folder) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return str(path)


def contents(source) -> dict[str, str]:
    """Class name by file name, of the whole source."""
    return {source.name(i): source.class_names[source[i]["label"]] for i in range(len(source))}


def class_files(counts: dict[str, int], root: str = "") -> list[str]:
    return [f"{root}{name}/{i:03d}.png" for name, n in counts.items() for i in range(n)]


@pytest.fixture(params=["folder", "zip"])
def make_source(request, tmp_path):
    """Opens a tree of images, as it is or zipped: `make_source(files, split) -> source`."""

    def make(files: list[str], split: str, seed: int = 0):
        root = tmp_path / "tree"
        if not root.exists():
            write_images(root, files)
        path = str(root) if request.param == "folder" else write_zip(tmp_path / "tree.zip", root)
        return create_source(f"folder:{path}", split, seed=seed)

    return make


# ---- Digits.


def test_digits():
    data = load_digits()
    seen = {}
    for split, size in (("train", 1438), ("test", 359)):
        source = create_source("digits", split)
        assert len(source) == size
        assert source.class_names == tuple("0123456789") and source.multi_label is False
        for i in range(len(source)):
            number = int(source.name(i).removeprefix("digit "))
            example = source[i]
            assert example["image"].shape == (8, 8, 1) and example["image"].dtype == np.uint8
            expected = np.round(data.images[number] * 255 / 16)
            np.testing.assert_array_equal(example["image"][..., 0], expected)
            assert example["label"] == data.target[number]
            assert number not in seen
            seen[number] = split
    assert len(seen) == 1797


def test_digits_splits_are_stratified():
    counts = np.bincount(load_digits().target)
    source = create_source("digits", "train")
    found = np.bincount([source[i]["label"] for i in range(len(source))])
    assert np.all(np.abs(found - 0.8 * counts) <= 1)


def test_digits_slices():
    def names(split: str, seed: int = 0) -> set[str]:
        return set(contents(create_source("digits", split, seed=seed)))

    whole = names("train")
    first, rest = names("train[:1003]"), names("train[1003:]")
    assert len(first) == 1003 and first | rest == whole and not first & rest
    assert len(names("train[:25%]")) == round(0.25 * 1438)
    assert names("train", seed=1) != whole
    assert names("train", seed=1) | names("test", seed=1) == whole | names("test")


def test_digits_has_two_splits():
    with pytest.raises(ConfigError, match="split 'val': digits has the splits train, test"):
        create_source("digits", "val")


# ---- Folders and zips.


def test_split_folders(make_source):
    files = [
        *class_files({"dog": 3, "cat": 2, "Zebra": 1}, "train/"),
        *class_files({"cat": 2, "emu": 1}, "validation/"),
        "testing/dog/a.png",
    ]
    train = make_source(files, "train")
    # One order of the classes for all splits; that of Python's sorted().
    assert train.class_names == ("Zebra", "cat", "dog", "emu")
    assert collections.Counter(contents(train).values()) == {"dog": 3, "cat": 2, "Zebra": 1}
    for split in ("val", "valid", "validation"):
        source = make_source(files, split)
        assert source.class_names == train.class_names
        assert sorted(contents(source).values()) == ["cat", "cat", "emu"]
    (name,) = contents(make_source(files, "test"))
    assert name.endswith(os.path.join("testing", "dog", "a.png"))


def test_order_and_names(make_source, tmp_path):
    files = ["train/b/2.png", "train/a/9.png", "train/b/10.png", "train/a/sub/1.png"]
    source = make_source([*files, "test/a/1.png"], "train")
    # Every name lies under the path that the user gave, and labels follow the folders.
    root = tmp_path / ("tree.zip" if (tmp_path / "tree.zip").exists() else "tree")
    expected = ["train/a/9.png", "train/a/sub/1.png", "train/b/10.png", "train/b/2.png"]
    assert [source.name(i) for i in range(4)] == [str(root / file) for file in expected]
    assert [source[i]["label"] for i in range(4)] == [0, 0, 1, 1]


def test_pixels_belong_to_their_name(make_source):
    files = class_files({"a": 20, "b": 10})
    source = make_source(files, "train")
    assert len(source) == 24
    for i in range(len(source)):
        number = next(n for n, file in enumerate(files) if source.name(i).endswith(file))
        image = decode_image(source[i]["image"], source.name(i))
        np.testing.assert_array_equal(image, np.full((2, 2, 3), [number, 0, 0], np.uint8))
        assert source.class_names[source[i]["label"]] == files[number][0]


def test_tree_without_splits_is_divided(make_source):
    counts = {"a": 100, "b": 50, "c": 10}
    files = class_files(counts)
    parts = {split: contents(make_source(files, split)) for split in ("train", "val", "test")}
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    for split, part in parts.items():
        found = collections.Counter(part.values())
        assert len(part) == 160 * shares[split]
        for name, count in counts.items():
            assert abs(found[name] - count * shares[split]) < 2
    names = [name for part in parts.values() for name in part]
    assert len(names) == len(set(names)) == 160
    assert contents(make_source(files, "train", seed=1)).keys() != parts["train"].keys()


def test_slices_of_a_folder(make_source):
    files = [*class_files({"a": 40, "b": 20}, "train/"), "test/a/x.png"]
    whole = contents(make_source(files, "train"))
    first = contents(make_source(files, "train[:90%]"))
    rest = contents(make_source(files, "train[90%:]"))
    assert first.keys() | rest.keys() == whole.keys() and not first.keys() & rest.keys()
    assert collections.Counter(rest.values()) == {"a": 4, "b": 2}


def test_deeper_root(make_source):
    files = [f"download/pictures/{f}" for f in class_files({"x": 8, "y": 8})]
    assert make_source(files, "train").class_names == ("x", "y")


def test_deeper_root_with_splits(make_source):
    files = ["a/train/x/1.png", "a/train/y/1.png", "a/test/x/2.png"]
    source = make_source(files, "test")
    assert source.class_names == ("x", "y") and len(source) == 1


def test_a_single_split_folder(make_source):
    """`PATH/train/CLASS/*` alone is the whole training split, and there is no other."""
    files = class_files({"x": 10, "y": 10}, "train/")
    source = make_source(files, "train")
    assert source.class_names == ("x", "y") and len(source) == 20
    with pytest.raises(ConfigError, match="has no split 'test'; it has train"):
        make_source(files, "test")


def test_a_single_class(make_source):
    source = make_source(class_files({"x": 10}), "train")
    assert source.class_names == ("x",) and len(source) == 8


def test_classes_named_like_splits(make_source):
    files = class_files({"train": 10, "bus": 10})
    assert make_source(files, "train").class_names == ("bus", "train")


def test_what_systems_leave_behind_is_no_image(make_source, tmp_path):
    images = ["train/a/1.png", "train/b/2.PNG", "train/b/3.jpeg", "test/a/4.webp"]
    junk = ["train/a/.hidden.png", ".cache/3.png", "__MACOSX/train/a/._1.png"]
    write_images(tmp_path / "tree", [*images, *junk])
    for file in ("train/a/.DS_Store", "train/a/notes.txt", "train/c/Thumbs.db", "README.md"):
        (tmp_path / "tree" / file).parent.mkdir(exist_ok=True)
        (tmp_path / "tree" / file).write_text("x")
    source = make_source([], "train")
    assert source.class_names == ("a", "b")
    found = [os.path.basename(source.name(i)) for i in range(len(source))]
    assert found == ["1.png", "2.PNG", "3.jpeg"]
    assert len(make_source([], "test")) == 1


@pytest.mark.parametrize("split", ["val", "extra"])
def test_missing_split(make_source, split):
    files = ["train/a/1.png", "test/a/2.png"]
    with pytest.raises(ConfigError, match=f"has no split '{split}'; it has test, train"):
        make_source(files, split)


def test_missing_split_of_a_divided_tree(make_source):
    with pytest.raises(ConfigError, match="split 'extra' is none of train, val, test"):
        make_source(class_files({"a": 10}), "extra")


def test_empty_slice(make_source):
    files = ["train/a/1.png", "test/a/2.png"]
    with pytest.raises(ConfigError, match=r"split 'train\[5:\]': holds no examples"):
        make_source(files, "train[5:]")


def test_pickled_source_reads_the_same(make_source):
    source = make_source(class_files({"a": 10, "b": 10}), "train")
    before = [source[i] for i in range(len(source))]  # opens the zip
    again = pickle.loads(pickle.dumps(source))
    assert [again[i] for i in range(len(again))] == before
    assert again.class_names == source.class_names and again.name(3) == source.name(3)


def test_pickled_digits():
    source = create_source("digits", "test")
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[7]["image"], source[7]["image"])
    assert len(again) == len(source) and again.name(7) == source.name(7)


def test_links_are_followed(tmp_path):
    write_images(tmp_path / "elsewhere", class_files({"a": 10}))
    (tmp_path / "tree").mkdir()
    for name in ("x", "y"):
        (tmp_path / "tree" / name).symlink_to(tmp_path / "elsewhere" / "a")
    source = create_source(f"folder:{tmp_path / 'tree'}", "train")
    assert source.class_names == ("x", "y") and len(source) == 16


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
        path.write_text("neither a folder nor a zip")
    elif kind != "missing":
        path.mkdir()
        write_images(path, ["1.png"] if kind == "flat" else [])
    message = "no such directory or zip" if kind in ("missing", "text") else "no images found"
    with pytest.raises(ConfigError, match=f"folder:{path}: {message}"):
        create_source(f"folder:{path}", "train")


def test_home_is_expanded(tmp_path, monkeypatch):
    write_images(tmp_path, class_files({"a": 10}))
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert len(create_source(f"folder:~/{tmp_path.name}", "train")) == 8


# ---- Records that can't be read are data errors, which `data.on_error` knows.


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


# ---- Names of sources.


@pytest.mark.parametrize(
    "spec",
    [
        "digit",
        "digits:x",
        "folder:",
        "folder",
        "tfds:",
        "",
        "http://x",
        "coco",
        "manifest:",
        "/tmp",
    ],
)
def test_unknown_source(spec):
    with pytest.raises(ConfigError, match="unknown.*; write one of digits, folder:PATH") as error:
        create_source(spec, "train")
    for kind in ("tfds:NAME", "manifest:", "darwin:", "labelstudio:", "coco:", "records:"):
        assert kind in str(error.value)


def test_a_misspelled_source_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown; did you mean 'manifest'?"):
        create_source("manifst:/x.csv", "train")


FORMAT = """
from imgcls.data.formats.format import register_format

@register_format("lines_test", suffixes=(".lines",))
def read_lines(path, table):
    '''One image and label a line.'''
    for line in open(path):
        path, label = line.split(":")
        table.add(path, [label])
"""
SOURCE = """
import numpy as np
from imgcls.data.sources.source import Dataset, register_source
from imgcls.data.sources.digits import DigitsSource

@register_source("tiny_test", "COUNT")
def open_tiny(path, options):
    '''Some digits.'''
    return Dataset(("train",), lambda split: DigitsSource(f"train[:{path}]", options.seed))
"""


def test_a_new_format_and_a_new_source_are_a_file_each(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_format.py").write_text(FORMAT)
    (tmp_path / "my_source.py").write_text(SOURCE)
    importlib.import_module("my_format")
    importlib.import_module("my_source")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "all.lines").write_text("a.png:cat\nb.png:dog\n")
    source = create_source(f"lines_test:{tmp_path}", "train")
    assert source.class_names == ("cat", "dog")
    assert len(create_source("tiny_test:30", "train")) == 30
    with pytest.raises(ConfigError, match="tiny_test:COUNT"):
        create_source("tiny_test", "train")


def test_splits_and_groups(make_source):
    assert create_source("digits", "test").splits == ("train", "test")
    assert create_source("digits", "test").group(0) is None
    files = ["train/a/1.png", "test/a/2.png", "validation/a/3.png"]
    source = make_source(files, "test")
    assert source.splits == ("train", "val", "test")
    assert source.group(0) is None and source.metadata(0) == {}


# ---- Real data.


@pytest.fixture(scope="module")
def cifar10(shared_data):
    path = shared_data / "cifar10_jpg.zip"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return f"folder:{path}"


def test_cifar10(cifar10):
    train, test = create_source(cifar10, "train"), create_source(cifar10, "test")
    assert (len(train), len(test)) == (50_000, 10_000)
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    assert train.class_names == test.class_names == tuple(names)
    for i in (0, 12_345, 49_999):
        image = decode_image(train[i]["image"], train.name(i))
        assert image.shape == (32, 32, 3) and image.std() > 1
        path = train.name(i)
        assert f"cifar10/train/{names[train[i]['label']]}/" in path
    assert train.name(0).endswith("cifar10_jpg.zip/cifar10/train/airplane/0000.jpg")
    with pytest.raises(ConfigError, match="has no split 'val'; it has test, train"):
        create_source(cifar10, "val")


def test_cifar10_slice_is_balanced(cifar10):
    part = create_source(cifar10, "train[:2%]")
    rest = create_source(cifar10, "train[2%:]")
    assert (len(part), len(rest)) == (1000, 49_000)
    names = {part.name(i) for i in range(1000)}
    classes = collections.Counter(name.split("/")[-2] for name in names)
    assert classes == dict.fromkeys(part.class_names, 100)
    assert not names & {rest.name(i) for i in range(49_000)}

"""Class folders, unpacked and zipped: splits, slices, classes and names."""

import collections
import os
import pickle

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.decode.image import decode_image
from imgcls.data.sources.open import create_source
from tests.data.sources.trees import class_files, contents, write_images


def test_split_folders(make_source):
    files = [
        *class_files({"dog": 3, "cat": 2, "Zebra": 1}, "train/"),
        *class_files({"cat": 2, "emu": 1}, "validation/"),
        "testing/dog/a.png",
    ]
    train = make_source(files, "train")
    # The classes of all splits, in the order of Python's sorted().
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
    # Names start with the user's path, and labels follow the folders.
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


def test_a_tree_without_splits_is_split(make_source):
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
    full = contents(make_source(files, "train"))
    first = contents(make_source(files, "train[:90%]"))
    rest = contents(make_source(files, "train[90%:]"))
    assert first.keys() | rest.keys() == full.keys() and not first.keys() & rest.keys()
    assert collections.Counter(rest.values()) == {"a": 4, "b": 2}


def test_nested_root(make_source):
    files = [f"download/pictures/{f}" for f in class_files({"x": 8, "y": 8})]
    assert make_source(files, "train").class_names == ("x", "y")


def test_nested_root_with_splits(make_source):
    files = ["a/train/x/1.png", "a/train/y/1.png", "a/test/x/2.png"]
    source = make_source(files, "test")
    assert source.class_names == ("x", "y") and len(source) == 1


def test_a_single_split_folder(make_source):
    """`PATH/train/CLASS/*` alone is the training split, and there are no others."""
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


def test_system_files_are_not_images(make_source, tmp_path):
    images = ["train/a/1.png", "train/b/2.PNG", "train/b/3.jpeg", "test/a/4.webp"]
    system = ["train/a/.hidden.png", ".cache/3.png", "__MACOSX/train/a/._1.png"]
    write_images(tmp_path / "tree", [*images, *system])
    for file in ("train/a/.DS_Store", "train/a/notes.txt", "train/b/Thumbs.db", "README.md"):
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


def test_missing_split_of_a_tree_without_splits(make_source):
    with pytest.raises(ConfigError, match="split 'extra' is not one of train, val, test"):
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


def test_links_are_followed(tmp_path):
    write_images(tmp_path / "elsewhere", class_files({"a": 10}))
    (tmp_path / "tree").mkdir()
    for name in ("x", "y"):
        (tmp_path / "tree" / name).symlink_to(tmp_path / "elsewhere" / "a")
    source = create_source(f"folder:{tmp_path / 'tree'}", "train")
    assert source.class_names == ("x", "y") and len(source) == 16


def test_home_is_expanded(tmp_path, monkeypatch):
    write_images(tmp_path, class_files({"a": 10}))
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert len(create_source(f"folder:~/{tmp_path.name}", "train")) == 8


def test_splits_and_groups(make_source):
    assert create_source("digits", "test").splits == ("train", "test")
    assert create_source("digits", "test").group(0) is None
    files = ["train/a/1.png", "test/a/2.png", "validation/a/3.png"]
    source = make_source(files, "test")
    assert source.splits == ("train", "val", "test")
    assert source.group(0) is None and source.metadata(0) == {}

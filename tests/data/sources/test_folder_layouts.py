"""Which folders are classes, which are splits, and what is refused because it could be either."""

import collections

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import open_dataset
from imgcls.data.table import problems as kinds
from tests.data.sources.trees import class_files, contents, write_images

# A tree of any of these names in place of train, val and test.
SPLIT_FOLDERS = (
    ("Training", None, "Testing"),
    ("train", "dev", "test"),
    ("Train", "Validation", None),
    ("TRAIN", "Eval", "TEST"),
    ("train", "validate", "test"),
    ("training_set", None, "test_set"),
    ("train2017", "val2017", None),
)


def write_split_folders(root, names: tuple) -> None:
    """Writes 6, 4 and 2 images of two classes to the folders of the splits that have a name."""
    for folder, each in zip(names, (3, 2, 1), strict=True):
        if folder:
            write_images(root, class_files({"cat": each, "dog": each}, f"{folder}/"))


@pytest.mark.parametrize("names", SPLIT_FOLDERS)
def test_names_of_splits(tmp_path, names):
    write_split_folders(tmp_path, names)
    data = open_dataset(f"folder:{tmp_path}")
    expected = {
        split: 2 * each
        for split, each, name in zip(("train", "val", "test"), (3, 2, 1), names, strict=True)
        if name
    }
    assert data.splits == tuple(expected)
    assert {split: len(data.open(split)) for split in data.splits} == expected
    assert data.open("train").class_names == ("cat", "dog")
    counts = collections.Counter(contents(data.open("train")).values())
    assert counts == {"cat": 3, "dog": 3}


@pytest.mark.parametrize(
    "other",
    ["samples/1.png", "chest_xray/train/cat/1.png", "samples/cat/1.png", "val_old/cat/1.png"],
)
def test_splits_beside_others_are_refused(tmp_path, other):
    write_split_folders(tmp_path, ("train", None, "Test"))
    write_images(tmp_path, [other, "__MACOSX/train/cat/1.png"])
    name = other.split("/")[0]
    message = rf"has folders of splits \(Test, train\) beside others \({name}\); move the others"
    with pytest.raises(ConfigError, match=message):
        open_dataset(f"folder:{tmp_path}", on_error="skip")


def test_images_in_one_split_beside_classes_are_refused(tmp_path):
    """Unlabeled test images beside the folders of the classes."""
    write_images(tmp_path, [*class_files({"cat": 4, "dog": 4}), "test/1.png"])
    with pytest.raises(ConfigError, match=r"splits \(test\) beside others \(cat, dog\)"):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("folders", [("val", "valid"), ("val", "VAL"), ("dev", "validation")])
def test_two_folders_of_one_split_are_refused(tmp_path, folders):
    write_split_folders(tmp_path, ("train", folders[0], "test"))
    write_split_folders(tmp_path, (None, folders[1], None))
    both = ", ".join(sorted(folders))
    with pytest.raises(ConfigError, match=rf"has 2 folders of the split 'val' \({both}\)"):
        open_dataset(f"folder:{tmp_path}")


def test_folders_that_look_like_splits_are_refused(tmp_path):
    write_split_folders(tmp_path, ("seg_train", None, "seg_test"))
    message = "the folders seg_test, seg_train look like splits; rename them to train, val, test"
    with pytest.raises(ConfigError, match=message):
        open_dataset(f"folder:{tmp_path}")


def test_classes_with_names_of_splits(tmp_path):
    write_images(tmp_path, class_files({"train": 4, "bus": 4, "test_tube": 2, "train_station": 2}))
    classes = open_dataset(f"folder:{tmp_path}").open("train").class_names
    assert classes == ("bus", "test_tube", "train", "train_station")


def test_names_of_splits_in_the_paths_of_a_manifest(tmp_path):
    write_split_folders(tmp_path, ("Training", "dev", "Testing"))
    rows = [f"{p.relative_to(tmp_path)},{p.parent.name}" for p in tmp_path.rglob("*.png")]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]))
    data = open_dataset(f"manifest:{tmp_path / 'all.csv'}")
    assert {s: len(data.open(s)) for s in data.splits} == {"train": 6, "val": 4, "test": 2}


@pytest.mark.parametrize("name", ["__background__", "__init__", "_", "@"])
def test_a_class_of_any_name(tmp_path, name):
    write_images(tmp_path, class_files({name: 10, "cat": 10}))
    data = open_dataset(f"folder:{tmp_path}")
    assert sum(len(data.open(split)) for split in data.splits) == 20
    assert set(data.open("train").class_names) == {name, "cat"}


def test_folders_of_the_system_are_hidden(tmp_path):
    hidden = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", ".ipynb_checkpoints")
    write_images(tmp_path, class_files({"cat": 10, "dog": 10, **dict.fromkeys(hidden, 3)}))
    write_images(tmp_path, [f"cat/{name}/1.png" for name in hidden])
    data = open_dataset(f"folder:{tmp_path}")
    assert data.open("train").class_names == ("cat", "dog")
    assert sum(len(data.open(split)) for split in data.splits) == 20


@pytest.mark.parametrize("flat", ["val", "train"])
def test_images_in_no_class_folder(tmp_path, flat):
    """A flat `val/` as in the archive of ImageNet, or a flat `train/` with names `cat.0.jpg`."""
    other = {"val": "train", "train": "test"}[flat]
    write_images(tmp_path, class_files({"cat": 4, "dog": 4}, f"{other}/"))
    write_images(tmp_path, [f"{flat}/cat.{i}.png" for i in range(8)])
    message = (
        rf"8 x image in no class folder \({flat}/cat.0.png, {flat}/cat.1.png, {flat}/cat.2.png, "
        r"...\) \[move them into class folders, or name their labels in a manifest: docs/data.md\]"
    )
    with pytest.raises(ConfigError, match=message):
        open_dataset(f"folder:{tmp_path}")
    assert not (tmp_path / "classes.txt").exists()
    data = open_dataset(f"folder:{tmp_path}", on_error="skip")
    assert data.splits == (other,) and len(data.open(other)) == 8
    assert data.problems.counts[kinds.NO_CLASS] == 8


@pytest.mark.parametrize("folders", [("train",), ("train", "test"), ("",)])
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_no_class_folder_at_all(tmp_path, folders, on_error):
    write_images(tmp_path, [f"{folder}/{i}.png".strip("/") for folder in folders for i in range(8)])
    message = f"{8 * len(folders)} x image in no class folder .* expected PATH/CLASS/"
    with pytest.raises(ConfigError, match=message):
        open_dataset(f"folder:{tmp_path}", on_error=on_error)
    assert not (tmp_path / "classes.txt").exists()


def test_an_image_beside_a_folder_that_is_alone(tmp_path):
    """It does not make the folder a class."""
    write_images(tmp_path, ["data/cover.png", *class_files({"a": 4, "b": 4}, "data/train/")])
    write_images(tmp_path, ["cover.png"])
    data = open_dataset(f"folder:{tmp_path}", on_error="skip")
    assert data.splits == ("train",) and data.open("train").class_names == ("a", "b")
    assert data.problems.counts == {kinds.NO_CLASS: 2}

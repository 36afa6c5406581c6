"""What a run says of its dataset before it trains: classes, splits, and classes to look at."""

from imgcls.data.sources.open import open_dataset
from imgcls.data.summary import describe_classes, describe_splits, find_oddities
from tests.data.own import write_csv
from tests.data.sources.trees import class_files, write_images


def test_classes():
    assert describe_classes(("cat",)) == "1 class: cat"
    names = tuple("abcdefghij")
    assert describe_classes(names) == "10 classes: a, b, c, d, e, f, g, h, i, j"
    many = describe_classes((*names, *map(str, range(1000))))
    assert many == "1,010 classes: a, b, c, d, e, f, g, h, i, j, ..."


def test_splits(tmp_path):
    write_images(tmp_path, class_files({"cat": 10, "dog": 10}, "train/"))
    write_images(tmp_path, class_files({"cat": 2, "dog": 1}, "test/"))
    data = open_dataset(f"folder:{tmp_path}")
    text = "splits: train 20, test 3; training on train[:90%] 18"
    assert describe_splits(data, data.open("train[:90%]"), "train[:90%]") == text
    assert find_oddities(data, data.open("train"), "train") == []


def test_classes_without_training_examples(tmp_path):
    write_images(tmp_path, class_files({"cat": 10, "dog": 10}, "train/"))
    write_images(tmp_path, class_files({"cat": 2, "emu": 3, "Dog": 1}, "test/"))
    data = open_dataset(f"folder:{tmp_path}")
    assert find_oddities(data, data.open("train"), "train") == [
        "class names alike: 'Dog' and 'dog'",
        "class 'Dog' has no example in train, only in test 1",
        "class 'emu' has no example in train, only in test 3",
    ]


def test_several_labels(tmp_path):
    rows = [("1.png", "a|b", "train"), ("2.png", "a", "train"), ("3.png", "b|c", "val")]
    write_images(tmp_path, [row[0] for row in rows])
    data = open_dataset(
        f"manifest:{write_csv(tmp_path / 'a.csv', ['path', 'label', 'split'], rows)}"
    )
    warnings = find_oddities(data, data.open("train"), "train")
    assert warnings == ["class 'c' has no example in train, only in val 1"]

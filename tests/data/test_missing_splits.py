"""A missing validation split is cut from the training split, and stands in for a missing test."""

import collections

import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.create import open_data, open_split
from imgcls.data.missing_splits import replace_missing_splits
from tests.data.own import write_csv
from tests.data.sources.trees import class_files, contents, write_images


def configure(source: str, **evaluators: str):
    """The splits of `configs/own.py`, or other evaluators."""
    config = default_config()
    config.data.source, config.data.missing_splits = source, "replace"
    for name, split in (evaluators or {"val": "val", "test": "test"}).items():
        config.evaluators[name] = {"split": split, "every": "1 epochs"}
    return config


def splits_of(config) -> dict[str, str]:
    evaluators = {name: section.split for name, section in config.evaluators.items()}
    return {"train": config.data.train_split, **evaluators}


def write_splits(root, **counts: int) -> str:
    """Two classes of so many images each in each of the splits."""
    for split, each in counts.items():
        write_images(root, class_files({"cat": each, "dog": each}, f"{split}/"))
    return f"folder:{root}"


CASES = [
    ({"train": 10, "val": 2, "test": 2}, {"train": "train", "val": "val", "test": "test"}),
    ({"train": 10, "val": 2}, {"train": "train", "val": "val"}),
    ({"train": 10, "test": 2}, {"train": "train[:80%]", "val": "train[80%:]", "test": "test"}),
    ({"train": 60, "test": 2}, {"train": "train[:90%]", "val": "train[90%:]", "test": "test"}),
    ({"train": 10}, {"train": "train[:80%]", "val": "train[80%:]"}),
]


@pytest.mark.parametrize(("counts", "expected"), CASES)
def test_what_replaces_a_missing_split(tmp_path, counts, expected):
    config = configure(write_splits(tmp_path, **counts))
    replace_missing_splits(config)
    assert splits_of(config) == expected
    opened = {name: contents(open_split(config, split)) for name, split in expected.items()}
    names = [name for part in opened.values() for name in part]
    assert len(names) == len(set(names)) == 2 * sum(counts.values())
    for part in opened.values():
        assert len(set(collections.Counter(part.values()).values())) == 1  # as many cats as dogs
    # A run that is continued finds the same.
    replace_missing_splits(config)
    assert splits_of(config) == expected


@pytest.mark.parametrize("count", [3, 4, 5, 8, 15, 40])
def test_few_images_without_splits(tmp_path, count):
    write_images(tmp_path, class_files({"cat": count // 2, "dog": count - count // 2}))
    config = configure(f"folder:{tmp_path}")
    replace_missing_splits(config)
    splits = splits_of(config)
    assert {"train", "val"} <= splits.keys()
    opened = {name: set(contents(open_split(config, split))) for name, split in splits.items()}
    assert all(opened.values()) and len(set().union(*opened.values())) == count
    assert sum(map(len, opened.values())) == count


def test_groups_are_not_divided(tmp_path):
    rows = [(f"{i}.png", "cd"[i % 2], "train", f"patient {i // 6}") for i in range(60)]
    write_images(tmp_path, [row[0] for row in rows])
    table = write_csv(tmp_path / "all.csv", ["path", "label", "split", "group"], rows)
    config = configure(f"manifest:{table}")
    replace_missing_splits(config)
    sources = [open_split(config, split) for split in ("train[:80%]", "train[80%:]")]
    groups = [{source.group(i) for i in range(len(source))} for source in sources]
    assert splits_of(config) == {"train": "train[:80%]", "val": "train[80%:]"}
    assert len(groups[0]) == 8 and len(groups[1]) == 2 and not groups[0] & groups[1]


def test_a_single_group_cannot_be_divided(tmp_path):
    rows = [(f"{i}.png", "cd"[i % 2], "train", "patient") for i in range(60)]
    write_images(tmp_path, [row[0] for row in rows])
    table = write_csv(tmp_path / "all.csv", ["path", "label", "split", "group"], rows)
    with pytest.raises(
        ConfigError, match="has no split 'val', and can't cut one from the 60 train"
    ):
        replace_missing_splits(configure(f"manifest:{table}"))


def test_splits_that_the_user_chose_stay(tmp_path):
    source = write_splits(tmp_path, train=10)
    config = configure(source, held_out="train[90%:]")
    config.data.train_split = "train[:90%]"
    replace_missing_splits(config)
    assert splits_of(config) == {"train": "train[:90%]", "held_out": "train[90%:]"}
    # Without a validation split in the config, the test split is replaced by one.
    config = configure(source, test="test")
    replace_missing_splits(config)
    assert splits_of(config) == {"train": "train[:80%]", "test": "train[80%:]"}


def test_missing_splits_fail_by_default(tmp_path):
    config = configure(write_splits(tmp_path, train=10))
    config.data.missing_splits = "fail"
    replace_missing_splits(config)
    assert splits_of(config) == {"train": "train", "val": "val", "test": "test"}
    with pytest.raises(ConfigError, match="has no split 'val'; it has train"):
        open_split(config, "val", open_data(config))

"""Finding label files: one for all splits, one per split, or none."""

import os

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source, open_dataset
from tests.data.formats.cases import examples, write


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "val.tsv", "test.csv"),
        ("my_training_2.csv", "Validation-set.csv", "labels test.csv"),
        ("train/labels.csv", "valid/labels.csv", "testing/labels.csv"),
    ],
)
def test_files_for_splits(pictures, names):
    root = pictures(*(os.path.join(os.path.dirname(n), f"{i}.jpg") for i, n in enumerate(names)))
    for i, name in enumerate(names):
        delimiter = "\t" if name.endswith("tsv") else ","
        write(root, name, f"path{delimiter}label\n{i}.jpg{delimiter}x\n")
    write(root, "sample_submission.csv", "id,answer\n1,2\n")
    for i, split in enumerate(("train", "val", "test")):
        source = create_source(f"manifest:{root}", split, write_classes=True)
        expected = str(root / os.path.dirname(names[i]) / f"{i}.jpg")
        assert [source.name(j) for j in range(len(source))] == [expected]
        assert source.splits == ("train", "val", "test")
    assert (root / "classes.txt").read_text() == "x\n"


def test_a_split_column_overrides_the_file_name(pictures):
    root = pictures("a.jpg", "b.jpg")
    write(root, "train.csv", "path,label,split\na.jpg,x,\nb.jpg,x,test\n")
    assert create_source(f"manifest:{root}", "train").name(0) == str(root / "a.jpg")
    assert create_source(f"manifest:{root}", "test").name(0) == str(root / "b.jpg")


def test_ambiguous_directories(pictures):
    root = pictures("a.jpg")
    with pytest.raises(ConfigError, match="has no .csv or .tsv or .jsonl file"):
        open_dataset(f"manifest:{root}")
    write(root, "some.csv", "path,label\na.jpg,x\n")
    assert examples(f"manifest:{root}", data_dir=str(root)) == {"a.jpg": ["x"]}
    write(root, "other.csv", "path,label\na.jpg,x\n")
    with pytest.raises(ConfigError, match="some.csv is not the only file for all splits"):
        open_dataset(f"manifest:{root}")
    write(root, "train.csv", "path,label\na.jpg,x\n")
    write(root, "training.csv", "path,label\na.jpg,x\n")
    with pytest.raises(
        ConfigError, match="training.csv is not the only file for the split 'train'"
    ):
        open_dataset(f"manifest:{root}")


@pytest.mark.parametrize("kind", ["manifest", "darwin", "labelstudio", "coco"])
def test_missing_file(kind, tmp_path):
    with pytest.raises(ConfigError, match=f"{kind}:{tmp_path}/no: no such file or directory"):
        open_dataset(f"{kind}:{tmp_path}/no")
    file = write(tmp_path, "m.csv", "path,label\n")
    with pytest.raises(ConfigError, match="config.data.dir=/no/such: no such directory or zip"):
        open_dataset(f"{kind}:{file}", data_dir="/no/such")


@pytest.mark.parametrize("kind", ["darwin", "labelstudio", "coco"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1,\n "b" 2}', "line 2, column 6"),
        ("[1, 2]", "expected"),
        (b"\xff\xfe", "can't be read"),
    ],
)
def test_malformed_json(kind, content, message, tmp_path):
    file = write(tmp_path, "all.json", content)
    with pytest.raises(ConfigError, match=message) as error:
        open_dataset(f"{kind}:{file}", on_error="skip")
    assert file in str(error.value) and "expected" in str(error.value)

"""ArrayRecord datasets: reading back, and errors of damaged ones."""

import pickle
import threading

import numpy as np
import pytest

from imgcls.convert import convert
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.sources.open import create_source, open_dataset
from tests.data.own import write_csv


@pytest.fixture
def written(tmp_path):
    """A manifest with several labels, groups and metadata, and the folder of its records."""
    (tmp_path / "files").mkdir()
    rows, generator = [], np.random.default_rng(0)
    for i in range(40):
        (tmp_path / "files" / f"{i:02d}.jpg").write_bytes(generator.bytes(300))
        label = ("a", "a|b", "c|a", "")[i % 4]
        rows.append(
            (
                f"{i:02d}.jpg",
                label,
                ("train", "valid")[i % 5 == 0],
                f"g{i // 10}{i % 5 == 0}",
                f"é{i}",
            )
        )
    header = ["path", "label", "split", "group", "note"]
    spec = f"manifest:{write_csv(tmp_path / 'files' / 'm.csv', header, rows)}"
    convert(spec, str(tmp_path / "records"), shards=3)
    return spec, tmp_path / "records"


@pytest.mark.parametrize("split", ["train", "val", "validation", "train[50%:]", "train[:7]"])
def test_records_equal_their_source(written, split):
    spec, folder = written
    source, records = create_source(spec, split), create_source(f"records:{folder}", split)
    assert len(records) == len(source) > 0 and records.splits == source.splits == ("train", "val")
    assert records.class_names == source.class_names == ("a", "b", "c")
    assert records.multi_label is source.multi_label is True
    np.testing.assert_array_equal(records.labels(), source.labels())
    for i in range(len(source)):
        assert records.name(i) == source.name(i) and records.group(i) == source.group(i)
        assert (
            records.metadata(i) == source.metadata(i) == {"note": f"é{int(source.name(i)[-6:-4])}"}
        )
        assert records[i]["image"] == source[i]["image"]
        np.testing.assert_array_equal(records[i]["label"], source[i]["label"])


def test_threads_and_pickling(written):
    source = create_source(f"records:{written[1]}", "train")
    expected = [source[i]["image"] for i in range(len(source))]
    again = pickle.loads(pickle.dumps(source))
    found = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda f=f: f.extend(again[i]["image"] for i in range(len(again))))
        for f in found
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(images == expected for images in found)


def test_missing_manifest(tmp_path):
    with pytest.raises(ConfigError, match="has no manifest.json; write it with `python -m imgcls"):
        open_dataset(f"records:{tmp_path}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "train-00001-of-00003.array_record").unlink(), "train-00001.* is missing"),
        (lambda d: (d / "val.jsonl").unlink(), "val.jsonl: can't be read"),
        (lambda d: (d / "val.jsonl").write_text('{"name": 1'), "val.jsonl: can't be read"),
        (lambda d: (d / "val.jsonl").write_text(""), "hold 40 images and its tables 32 names"),
        (lambda d: (d / "manifest.json").write_text("{"), "manifest.json: line 1, column 2"),
        (lambda d: (d / "manifest.json").write_text('{"version": 2}'), "is not version 1"),
        (
            lambda d: (d / "train-00000-of-00003.array_record").write_bytes(b"x" * 99),
            "can't be read",
        ),
    ],
)
def test_damaged_files(written, damage, message):
    damage(written[1])
    with pytest.raises(ConfigError, match=message):
        open_dataset(f"records:{written[1]}")


def test_a_damaged_record_is_a_data_error(written):
    source = create_source(f"records:{written[1]}", "train")
    file = written[1] / "train-00001-of-00003.array_record"
    data = file.read_bytes()
    part = source[15]["image"][100:200]
    assert data.count(part) == 1  # noise is stored uncompressed
    file.write_bytes(data.replace(part, bytes(100)))
    source = create_source(f"records:{written[1]}", "train")
    with pytest.raises(DataError, match=f"{source.name(15)}: can't be read"):
        source[15]
    assert len(source[16]["image"]) == 300

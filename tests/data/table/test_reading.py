"""Paths and bytes of a table's images."""

import json
import os
import pickle
import threading
import zipfile

import numpy as np

from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.table import problems as kinds
from tests.data.table.reading import names, skipped


def test_sorted_by_path(manifest, tmp_path):
    inside = str(tmp_path / "a" / "7.jpg")
    rows = [
        ("b/1.jpg", "x"),
        ("a/z.jpg", "y"),
        ("./a/10.jpg", "x"),
        (inside, "y"),
        ("c//d.jpg", "y"),
    ]
    spec = manifest([*rows, ("a\\2.jpg", "x")])
    (tmp_path / "a" / "2.jpg").write_bytes(b"a/2.jpg")
    data = open_dataset(spec)
    sources = [data.open(split) for split in data.splits]
    found = sorted(os.path.relpath(s.name(i), tmp_path) for s in sources for i in range(len(s)))
    assert found == ["a/10.jpg", "a/2.jpg", "a/7.jpg", "a/z.jpg", "b/1.jpg", "c/d.jpg"]
    for source in sources:
        paths = [source.name(i) for i in range(len(source))]
        assert paths == sorted(paths)


def test_images_outside_of_the_root(manifest, tmp_path):
    """Absolute paths and `..` may point outside of the root."""
    (tmp_path / "root").mkdir()
    (tmp_path / "far").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "far" / name).write_bytes(b"far")
    rows = [("../far/1.jpg", "x", "train"), (str(tmp_path / "far/2.jpg"), "y", "train")]
    spec = manifest(rows, ("path", "label", "split"), write_images=False)
    source = create_source(spec, "train", data_dir=str(tmp_path / "root"))
    assert names(source) == ["1.jpg", "2.jpg"] and source[0] == {"image": b"far", "label": 0}


def test_invalid_paths_are_missing(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"one")
    paths = ["1.jpg", "\ud800/1.jpg", "a\0b/1.jpg"]
    file = tmp_path / "m.jsonl"
    file.write_text("".join(json.dumps({"path": p, "label": "x"}) + "\n" for p in paths))
    assert len(skipped(f"manifest:{file}").names[kinds.MISSING]) == 2


def test_images_in_a_zip(manifest, tmp_path):
    with zipfile.ZipFile(tmp_path / "pics.zip", "w") as archive:
        archive.writestr("a/1.png", b"one")
        archive.writestr("a/2.png", b"two")
    rows = [("a/1.png", "x"), ("a/2.png", "y"), ("../pics.zip", "x"), ("/etc/hostname", "x")]
    spec = manifest(rows, write_images=False)
    options = dict(data_dir=str(tmp_path / "pics.zip"))
    found = skipped(spec, **options)
    # Paths outside of the zip are missing.
    assert found.names == {kinds.MISSING: ["../pics.zip", "/etc/hostname"]}
    data = open_dataset(spec, on_error="skip", **options)
    sources = [data.open(split) for split in data.splits]
    images = {s.name(i): s[i]["image"] for s in sources for i in range(len(s))}
    root = tmp_path / "pics.zip"
    assert images == {f"{root}/a/1.png": b"one", f"{root}/a/2.png": b"two"}


def test_threads_and_pickling(manifest):
    rows = [(f"{i}.jpg", f"class {i % 3}") for i in range(60)]
    source = create_source(manifest(rows), "train")
    again = pickle.loads(pickle.dumps(source))
    found = [[] for _ in range(4)]

    def read(examples: list) -> None:
        examples.extend(again[i] for i in range(len(again)))

    threads = [threading.Thread(target=read, args=(examples,)) for examples in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [source[i] for i in range(len(source))]
    assert len(expected) == 48 and all(examples == expected for examples in found)
    assert names(again) == names(source)
    np.testing.assert_array_equal(again.labels(), source.labels())

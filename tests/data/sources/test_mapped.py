"""Classes of a source matched by name to those of a model."""

import pickle

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.arrays import ArraySource
from imgcls.data.sources.mapped import map_classes
from imgcls.data.sources.open import create_source, open_dataset
from tests.data.own import write_csv

IMAGES = np.zeros((4, 2, 2, 1), np.uint8)


def test_labels_are_renumbered_by_name():
    source = ArraySource(IMAGES, np.array([2, 0, 1, 2]), ("cat", "dog", "ant"))
    mapped = pickle.loads(pickle.dumps(map_classes(source, ("ant", "bee", "cat", "dog"), "x")))
    assert mapped.class_names == ("ant", "bee", "cat", "dog") and len(mapped) == 4
    np.testing.assert_array_equal(mapped.labels(), [0, 2, 3, 0])
    assert [int(mapped[i]["label"]) for i in range(4)] == [0, 2, 3, 0]
    assert mapped[1]["image"] is source[1]["image"] or (mapped[1]["image"] == IMAGES[1]).all()
    assert map_classes(source, ("cat", "dog", "ant"), "x") is source


def test_multi_hot_labels_are_renumbered_by_name(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    rows = [("a.jpg", "z|x", "test", "g"), ("b.jpg", "", "test", "")]
    file = write_csv(tmp_path / "m.csv", ["path", "label", "split", "group"], rows)
    source = create_source(f"manifest:{file}", "test")
    mapped = map_classes(source, ("z", "y", "x"), "x")
    assert mapped.multi_label and mapped.labels().dtype == np.uint8
    np.testing.assert_array_equal(mapped.labels(), [[1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(mapped[0]["label"], [1, 0, 1])
    assert [mapped.name(0), mapped.group(0)] == [str(tmp_path / "a.jpg"), "g"]


def test_only_classes_of_examples_must_be_known():
    source = ArraySource(IMAGES, np.array([0, 0, 1, 1]), ("cat", "dog", "unused"))
    assert map_classes(source, ("dog", "cat"), "x").labels().tolist() == [1, 1, 0, 0]
    message = r"^split 'test': 2 of 4 examples have classes that are not in the model \('dog'\)"
    with pytest.raises(ConfigError, match=message):
        map_classes(source, ("cat", "ant"), "split 'test'")


def test_composed_and_decomposed_names_are_the_same_class():
    source = ArraySource(IMAGES, np.array([0, 1, 1, 1]), ("caf\u00e9", "tea"))
    assert map_classes(source, ("tea", "cafe\u0301"), "x").labels().tolist() == [1, 0, 0, 0]
    both = ("cafe\u0301", "caf\u00e9", "tea")
    assert map_classes(source, both, "x").labels().tolist() == [1, 2, 2, 2]


def test_opening_data_writes_nothing(tmp_path):
    for name in ("x/1.png", "y/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    open_dataset(f"folder:{tmp_path}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x", "y"]

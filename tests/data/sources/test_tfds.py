"""TFDS datasets: labels and splits from their features, without a prepared dataset."""

from types import SimpleNamespace

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.tfds import TfdsSource

tfds = pytest.importorskip("tensorflow_datasets")


def make_builder(label, labels):
    """Builder of a dataset with one record for each of `labels`."""
    info = SimpleNamespace(
        splits={"train": None},
        full_name="shapes/1.0.0",
        supervised_keys=("image", "label"),
        features={"image": tfds.features.Image(), "label": label},
    )
    records = [{"image": b"file", "label": np.asarray(numbers, int)} for numbers in labels]
    return SimpleNamespace(info=info, as_data_source=lambda split, decoders: records)


def test_one_label():
    builder = make_builder(tfds.features.ClassLabel(names=["cat", "dog"]), [1, 0])
    source = TfdsSource(builder, "train")
    assert source.class_names == ("cat", "dog") and source.multi_label is False
    assert source[0] == {"image": b"file", "label": 1}
    assert source.labels().tolist() == [1, 0]


def test_several_labels():
    label = tfds.features.Sequence(tfds.features.ClassLabel(names=["cat", "dog", "emu"]))
    source = TfdsSource(make_builder(label, [[2, 0], []]), "train")
    assert source.class_names == ("cat", "dog", "emu") and source.multi_label is True
    assert source.labels().tolist() == [[1, 0, 1], [0, 0, 0]]


def test_unknown_split():
    builder = make_builder(tfds.features.ClassLabel(names=["cat"]), [0])
    with pytest.raises(ConfigError, match="tfds:shapes/1.0.0: has no split 'val'; it has train"):
        TfdsSource(builder, "val[:10%]")

"""Labels of a table: one or several per image."""

import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.create import open_split
from imgcls.data.sources.open import create_source, open_dataset


def test_multi_hot(manifest):
    rows = [("a.jpg", "x|z", "train"), ("b.jpg", "", "train"), ("c.jpg", "y", "test")]
    source = create_source(manifest(rows, ("path", "label", "split")), "train")
    assert source.multi_label is True and source.class_names == ("x", "y", "z")
    assert source.labels().dtype == np.uint8
    np.testing.assert_array_equal(source.labels(), [[1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(source[0]["label"], [1, 0, 1])
    assert source[0]["label"].dtype == np.uint8


def test_a_folder_as_multi_label(tmp_path):
    for name in ("x/1.png", "y/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    data = open_dataset(f"folder:{tmp_path}", multi_label=True)
    labels = [data.open(split).labels() for split in data.splits]
    assert sorted(np.concatenate(labels).tolist()) == [[0, 1], [1, 0]]


def test_options_come_from_the_config(manifest):
    config = default_config()
    config.data.source = manifest([("a.jpg", "x+y"), ("b.jpg", "x"), ("c.jpg", "")])
    with pytest.raises(ConfigError, match="image without a label"):
        open_split(config, "train")
    config.data.on_error = "skip"
    assert open_split(config, "train").class_names == ("x", "x+y")
    config.data.separator, config.data.on_error = "+", "fail"
    assert open_split(config, "train").class_names == ("x", "y")
    config.data.multi_label = False
    with pytest.raises(ConfigError, match="a.jpg has the labels x, y"):
        open_split(config, "train")
    config.data.on_error = "skipp"
    with pytest.raises(ConfigError, match="data.on_error"):
        open_split(config, "train")

"""Features of a split: every example once, in the source's order, on any number of devices."""

import jax
import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError, DataError, TrainingError
from imgcls.data.create import open_split
from imgcls.data.info import DataInfo
from imgcls.data.sources.subset import Subset
from imgcls.evaluate import features, gather
from imgcls.evaluate.evaluators.knn import KNN
from imgcls.evaluate.features import FeatureReader
from imgcls.evaluate.probe import accuracies, class_members
from tests.conftest import make_mesh
from tests.evaluate.cases import (
    DIGITS,
    INFO,
    Linear,
    draw_variables,
    features_of,
    make_config,
    read_digits,
)

VARIABLES = {"": draw_variables(0), "ema_": draw_variables(1)}
SPLIT = "test[:101]"


def make_reader(config=None, layer="backbone", batch_size=None, info=INFO, **axes):
    mesh = make_mesh(**axes)
    return FeatureReader(config or make_config(), Linear(), mesh, info, layer, batch_size)


@pytest.mark.parametrize(
    ("batch_size", "axes", "layer"),
    [
        (8, {"data": 4}, "backbone"),  # 12 batches and 5 examples
        (30, {"data": 2, "fsdp": 2}, "projector"),  # rounded up to 32
        (None, {"data": 1}, "backbone"),  # a training batch and one example
        (500, {"data": 8}, "projector"),
    ],
)
def test_every_example_once_in_order(batch_size, axes, layer):
    reader = make_reader(None, layer, batch_size, **axes)
    found = reader.read(VARIABLES, reader.open(SPLIT))
    images, labels = read_digits(SPLIT)
    assert found.keys() == {"", "ema_"}
    for prefix, (values, found_labels, index) in found.items():
        np.testing.assert_array_equal(found_labels, labels)
        np.testing.assert_array_equal(index, np.arange(101))
        assert values.dtype == np.float32
        np.testing.assert_allclose(
            values, features_of(VARIABLES[prefix], images, layer), rtol=1e-4, atol=1e-5
        )


def test_subset():
    reader = make_reader(data=2)
    source = reader.open("train")
    part = Subset(source, np.array([70, 3, 1400]))
    found = reader.read(VARIABLES, part)[""]
    images, labels = read_digits("train")
    np.testing.assert_array_equal(found.labels, labels[[70, 3, 1400]])
    np.testing.assert_array_equal(part.labels(), found.labels)
    expected = features_of(VARIABLES[""], images[[70, 3, 1400]])
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
    assert part.name(0) == source.name(70) and part.class_names == DIGITS


def test_one_pass_over_each_split(monkeypatch):
    passes, create = [], gather.create_eval_loader

    def count(config, source, mesh, batch_size):
        passes.append(len(source))
        return create(config, source, mesh, batch_size)

    monkeypatch.setattr(gather, "create_eval_loader", count)
    options = {"train_split": "train[:300]", "split": SPLIT}
    KNN(make_config(), Linear(), make_mesh(), INFO, **options).run(VARIABLES)
    assert passes == [300, 101]


@pytest.fixture
def pictures(tmp_path):
    """Four digits of each class as PNGs, and two broken files among them."""
    images, labels = read_digits("test")
    for label in range(10):
        folder = tmp_path / "test" / str(label)
        folder.mkdir(parents=True)
        for number, image in enumerate(images[labels == label][:4]):
            Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    (tmp_path / "test" / "0" / "-first.png").write_bytes(b"")
    (tmp_path / "test" / "4" / "2.png").write_text("not an image")
    (tmp_path / "train").symlink_to("test")
    return tmp_path


def test_unreadable_examples_are_left_out(pictures):
    config = make_config()
    config.data.source = f"folder:{pictures}"
    reader = make_reader(config, batch_size=8, data=2)
    with pytest.raises(DataError, match="-first.png"):
        reader.read(VARIABLES, reader.open("test"))
    config.data.on_error = "skip"
    found = reader.read(VARIABLES, reader.open("test"))[""]
    images, labels = read_digits("test")
    expected = np.concatenate([images[labels == c][:4] for c in range(10)])
    expected = np.delete(expected, 4 * 4 + 2, 0)
    assert len(found.labels) == 39 and 0 not in found.index
    np.testing.assert_allclose(
        found.values, features_of(VARIABLES[""], expected), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ConfigError, match="no example of the split can be read"):
        reader.read(VARIABLES, Subset(reader.open("test"), np.array([0])))


# ---- Mistakes.


def test_unknown_layer():
    with pytest.raises(ConfigError, match="layer='head': .*'supervised' has backbone, projector"):
        make_reader(layer="head")


def test_other_classes():
    info = DataInfo((*DIGITS[:9], "nine"), False, (8, 8, 1))
    with pytest.raises(ConfigError, match="classes that are not in the model \\('9'\\)"):
        make_reader(info=info).open("test")


def test_multi_label(monkeypatch):
    source = open_split(make_config(), "test")
    source.multi_label = True
    monkeypatch.setattr(features, "open_split", lambda config, split: source)
    with pytest.raises(ConfigError, match="split 'test': the labels are multi-label"):
        make_reader().open("test")


def test_same_split_twice():
    message = "split='test' overlaps with train_split='test'.*'train' and 'test'"
    with pytest.raises(ConfigError, match=message):
        KNN(make_config(), Linear(), make_mesh(), INFO, train_split="test")


def test_non_finite_features():
    broken = jax.tree.map(lambda x: x * np.nan, draw_variables())
    reader = make_reader()
    with pytest.raises(TrainingError, match="features are not finite"):
        reader.read(VARIABLES | {"ema_": broken}, reader.open(SPLIT))


def test_class_members():
    source = open_split(make_config(), "test[:100]")
    _, labels = read_digits("test[:100]")
    members = class_members(source, 1, "here")
    np.testing.assert_array_equal(labels[np.concatenate(members)], np.sort(labels))
    source.class_names = (*DIGITS, "ten")
    with pytest.raises(ConfigError, match="here: class 'ten' has 0 examples, fewer than 1"):
        class_members(source, 1, "here")
    source.class_names = ("0",)
    with pytest.raises(ConfigError, match="here: class '0' is the only one"):
        class_members(source, 1, "here")


def test_accuracies():
    ranked = np.array([[3, 1, 0, 2, 4], [1, 3, 0, 2, 4], [5, -1, -1, -1, -1], [0, 1, 2, 4, 5]])
    labels = np.array([3, 4, 5, 3])
    assert accuracies(ranked, labels, 6) == {"accuracy": 0.5, "top5_accuracy": 0.75}
    assert accuracies(ranked[:, :2], labels, 5) == {"accuracy": 0.5}

"""The resident loader gives the same batches as the reading loader."""

import dataclasses
import threading

import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.create import create_reader, create_train_loader
from imgcls.data.loading import resident
from imgcls.data.loading.batch_loader import BatchPlan
from imgcls.data.loading.loader import Loader
from imgcls.data.loading.order import create_balanced
from imgcls.data.loading.reader import Reader
from imgcls.data.loading.resident import ResidentLoader
from imgcls.data.sources.open import create_source
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS
from tests.conftest import make_mesh


@dataclasses.dataclass
class RandomImages:
    """Random images; some are unreadable."""

    length: int
    unreadable: tuple[int, ...] = ()
    multi_label: bool = False

    class_names = ("even", "odd")

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.unreadable:
            raise DataError(f"{self.name(index)}: truncated")
        rng = np.random.default_rng(index)
        label = np.array([index % 2, 1], np.uint8) if self.multi_label else index % 2
        return {"image": rng.integers(0, 256, (5, 6, 3), np.uint8), "label": label}

    def name(self, index):
        return f"image {index}"


def make_reader(source, recipe="", **options) -> Reader:
    return Reader(source, spec.parse(recipe, TRANSFORMS, "test"), 3, True, **options)


def read(kind, reader, first, last, mesh=None, **options):
    """The batches of some steps as NumPy arrays, and the loader's count of unreadable records."""
    loader = kind(BatchPlan(reader, mesh or make_mesh(), 8, first, last), **options)
    batches = [{key: np.asarray(value) for key, value in batch.items()} for batch in loader]
    loader.close()
    return batches, loader.skipped


def assert_same(reader, first, last, mesh=None, **options):
    expected, skipped = read(Loader, reader, first, last)
    batches, resident_skipped = read(ResidentLoader, reader, first, last, mesh, **options)
    assert len(batches) == last - first and resident_skipped == skipped
    for step, (ours, theirs) in enumerate(zip(batches, expected, strict=True), start=first):
        epoch = ours.pop("epoch")
        positions = np.arange(step * 8, step * 8 + 8)
        np.testing.assert_array_equal(epoch, positions // len(reader.source))
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert ours[key].dtype == value.dtype
            np.testing.assert_array_equal(ours[key], value, err_msg=key)


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("axes", [{}, {"data": 4}, {"data": 2, "fsdp": 2}])
def test_same_batches_as_the_loader(first, axes):
    """From any step, on any mesh; an epoch of 20 examples ends within a batch."""
    assert_same(make_reader(RandomImages(20)), first, first + 4, make_mesh(**axes))


@pytest.mark.parametrize("recipe", ["resize((4, 4))", "resize((8, 8))|center_crop(4)"])
def test_same_fixed_transforms(recipe):
    assert_same(make_reader(RandomImages(11), recipe), 0, 3, threads=3, prefetch=5)


def test_same_labels_of_several_classes():
    assert_same(make_reader(RandomImages(11, multi_label=True)), 1, 3)


def test_same_balanced_order():
    balanced = create_balanced(np.array([0] * 15 + [1] * 2), 3)
    assert_same(make_reader(RandomImages(17), balanced=balanced), 0, 5)


def test_same_replacements_of_unreadable_records():
    source = RandomImages(20, unreadable=(13, 14, 19))
    assert_same(make_reader(source, on_error="skip"), 0, 6)


def test_unreadable_record_fails_by_name():
    with pytest.raises(DataError, match="image 13: truncated"):
        read(ResidentLoader, make_reader(RandomImages(20, unreadable=(13,))), 0, 1)


def test_no_readable_records():
    source = RandomImages(300, unreadable=tuple(range(300)))
    with pytest.raises(DataError, match="in a row are unreadable"):
        read(ResidentLoader, make_reader(source, on_error="skip"), 0, 1)


def test_same_sharding():
    mesh = make_mesh(data=4)
    plan = BatchPlan(make_reader(RandomImages(20)), mesh, 8, 0, 1)
    loader, expected = ResidentLoader(plan), next(iter(Loader(plan)))
    for key, value in next(iter(loader)).items():
        sharding = expected.get(key, expected["index"]).sharding
        assert value.sharding.is_equivalent_to(sharding, value.ndim)
    loader.close()


def test_close_leaves_no_thread_behind():
    before = threading.active_count()
    loader = ResidentLoader(BatchPlan(make_reader(RandomImages(20)), make_mesh(), 8, 0, 1000))
    next(iter(loader))
    loader.close()
    assert threading.active_count() <= before


def test_too_many_images_are_refused(monkeypatch):
    monkeypatch.setattr(resident, "MAX_DEVICE_BYTES", 1 << 20)
    with pytest.raises(
        ConfigError, match=r"20,000 images of shape \(5, 6, 3\) .*; set it to False"
    ):
        read(ResidentLoader, make_reader(RandomImages(20_000)), 0, 1)


# ---- Configs.


def make_config(**options):
    config = default_config()
    config.data.update({"channels": 1, "device_resident": True, **options})
    return config


def create_loader(config):
    reader = create_reader(config, create_source("digits", "train[:30]"), train=True)
    return create_train_loader(config, reader, make_mesh(), 0, 2)


def test_config_chooses_the_loader():
    loader = create_loader(make_config())
    assert isinstance(loader, ResidentLoader)
    loader.close()
    loader = create_loader(make_config(device_resident=False))
    assert isinstance(loader, Loader)
    loader.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_transform": "resize((8, 8))|flip"}, "so flip of data.train_transform would be"),
        ({"train_transform": "pad_crop(8)"}, r"so pad_crop\(8\) of .*augment in data.batch_trans"),
        ({"views": "two"}, "supports one view, not data.views='two'"),
        ({"workers": 2}, "reads with threads; set data.workers=0"),
    ],
)
def test_refused_settings(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        create_loader(make_config(**options))
    assert "\n" not in str(error.value) and "config.data.device_resident=True" in str(error.value)

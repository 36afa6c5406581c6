"""Data pipelines built from configs, and refused settings."""

import contextlib

import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.create import (
    create_batch_transforms,
    create_eval_loader,
    create_reader,
    create_train_loader,
    describe,
    open_split,
)
from imgcls.data.sources.cached import CachedSource
from tests.conftest import make_mesh


def make_config(**data):
    config = default_config()
    config.batch_size = 8
    config.data.update({"source": "digits", "channels": 1, "mean": (0.5,), "std": (0.5,), **data})
    return config


def make_reader(config, train=True):
    return create_reader(config, open_split(config, "train[:20]"), train=train)


def read(loader):
    with contextlib.closing(loader):
        return [{key: np.asarray(value) for key, value in batch.items()} for batch in loader]


def test_cached_source_gives_the_same_examples():
    plain, cached = (open_split(make_config(cache_gb=gb), "train[:20]") for gb in (0.0, 0.1))
    assert not isinstance(plain, CachedSource) and isinstance(cached, CachedSource)
    assert cached.splits == plain.splits and cached.class_names == plain.class_names
    np.testing.assert_array_equal(cached[3]["image"], plain[3]["image"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"cache_gb": -1.0}, "config.data.cache_gb=-1.0: must be 0 or more"),
        ({"on_error": "skipp"}, "config.data.on_error"),
        ({"channels": 0}, r"config.data.channels=0: must be 1 \(gray\), 3"),
        ({"max_skipped": 2.0}, "config.data.max_skipped=2.0: must be"),
        ({"threads": -1}, "config.data.threads=-1: must be 0 or more"),
        ({"workers": -1}, "config.data.workers=-1: must be 0 or more"),
        ({"prefetch": -1}, "config.data.prefetch=-1: must be 0 or more"),
        ({"sampling": "balance"}, "config.data.sampling"),
        ({"views": "three"}, "config.data.views"),
        ({"partners": "labels"}, "config.data.partners"),
        ({"train_transform2": "flip"}, "config.data.train_transform2: .*data.views='two'"),
        ({"train_transform": "flop"}, "config.data.train_transform: unknown transform 'flop'"),
        ({"device_resident": True, "train_transform": "flip"}, "config.data.device_resident=True"),
    ],
)
def test_refused_settings(data, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_reader(make_config(**data))
    assert "\n" not in str(error.value)


def test_refused_seed():
    config = make_config()
    config.seed = -1
    with pytest.raises(ConfigError, match="config.seed=-1: must be 0 or more"):
        make_reader(config)


def test_evaluation_uses_its_own_transforms():
    config = make_config(train_transform="flop", eval_transform="resize(16)")
    assert make_reader(config, train=False).spec["image"].shape == (16, 16, 1)


@pytest.mark.parametrize("resident", [False, True])
def test_train_loader_follows_the_order(resident):
    config = make_config(device_resident=resident)
    reader = make_reader(config)
    batches = read(create_train_loader(config, reader, make_mesh(), 2, 5))
    found = np.concatenate([batch["index"] for batch in batches])
    np.testing.assert_array_equal(found, [reader.index_at(p, 0) for p in range(16, 40)])


def test_balanced_train_loader():
    config = make_config(sampling="balanced")
    reader = create_reader(config, open_split(config, "train[:200]"), train=True)
    batches = read(create_train_loader(config, reader, make_mesh(), 0, 10))
    counts = np.bincount(np.concatenate([batch["label"] for batch in batches]), minlength=10)
    assert counts.tolist() == [8] * 10


def test_eval_loader_gives_every_example_once():
    config = make_config()
    loader = create_eval_loader(config, open_split(config, "train[:20]"), make_mesh(), 8)
    batches = read(loader)
    index, mask = (np.concatenate([b[key] for b in batches]) for key in ("index", "mask"))
    assert index.tolist() == [*range(20), -1, -1, -1, -1]
    assert mask.tolist() == [1.0] * 20 + [0.0] * 4
    assert loader.skipped == 0 and loader.positions == 24


def test_describe():
    config = make_config()
    info = describe(config, make_reader(config))
    assert info.class_names == tuple("0123456789") and not info.multi_label
    assert info.image_shape == (8, 8, 1) and info.num_examples == 20 and info.class_counts == ()


@pytest.mark.parametrize("key", ["mean", "std"])
def test_describe_refuses_wrong_number_of_channels(key):
    config = make_config(**{key: (0.5, 0.5, 0.5)})
    with pytest.raises(ConfigError, match=rf"config.data.{key}=.*1 channel\(s\)"):
        describe(config, make_reader(config))


def test_batch_transforms_keep_their_order():
    config = make_config(batch_transform="random_flip|cutout(2)")
    flip, cutout = create_batch_transforms(config)
    assert "random_flip" in flip.__qualname__ and "cutout" in cutout.__qualname__

"""CIFAR-10 as class folders in a zip."""

import collections

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.decode.image import decode_image
from imgcls.data.sources.open import create_source


@pytest.fixture(scope="module")
def cifar10(shared_data):
    path = shared_data / "cifar10_jpg.zip"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return f"folder:{path}"


def test_cifar10(cifar10):
    train, test = create_source(cifar10, "train"), create_source(cifar10, "test")
    assert (len(train), len(test)) == (50_000, 10_000)
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    assert train.class_names == test.class_names == tuple(names)
    for i in (0, 12_345, 49_999):
        image = decode_image(train[i]["image"], train.name(i))
        assert image.shape == (32, 32, 3) and image.std() > 1
        path = train.name(i)
        assert f"cifar10/train/{names[train[i]['label']]}/" in path
    assert train.name(0).endswith("cifar10_jpg.zip/cifar10/train/airplane/0000.jpg")
    with pytest.raises(ConfigError, match="has no split 'val'; it has test, train"):
        create_source(cifar10, "val")


def test_cifar10_slice_is_balanced(cifar10):
    part = create_source(cifar10, "train[:2%]")
    rest = create_source(cifar10, "train[2%:]")
    assert (len(part), len(rest)) == (1000, 49_000)
    names = {part.name(i) for i in range(1000)}
    classes = collections.Counter(name.split("/")[-2] for name in names)
    assert classes == dict.fromkeys(part.class_names, 100)
    assert not names & {rest.name(i) for i in range(49_000)}

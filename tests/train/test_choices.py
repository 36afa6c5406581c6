"""The rules of `imgcls.train.auto`."""

import numpy as np
import pytest
from PIL import Image

from imgcls.core.config import merge
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.sources.arrays import ArraySource
from imgcls.data.sources.open import create_source
from imgcls.train import choices
from imgcls.train.choices import Candidate


def source(count: int = 1500, shape: tuple[int, ...] = (8, 8, 3)) -> ArraySource:
    images = np.broadcast_to(np.zeros((), np.uint8), (count, *shape))
    return ArraySource(images, np.arange(count) % 5, tuple("abcde"))


def candidates(count: int, sizes: tuple[int, ...], **model) -> tuple[Candidate, ...]:
    config = merge(default_config(), default_config())
    config.model.update(model)
    return choices.list_candidates(config, source(count), sizes)


@pytest.mark.parametrize(
    ("shape", "side", "sizes"),
    [
        ((8, 8, 1), 8, (16,)),
        ((28, 40, 3), 28, (32,)),
        ((64, 48, 3), 48, (32,)),
        ((64, 49, 3), 49, (64,)),
        ((80, 100, 3), 80, (64,)),
        ((90, 120, 3), 90, (64, 128)),
        ((500, 375, 3), 375, (64, 128, 224)),
    ],
)
def test_size_comes_from_the_shorter_sides(shape, side, sizes):
    assert choices.read_side(source(20, shape)) == side
    assert choices.choose_sizes(side) == sizes


def test_size_of_files_is_read(tmp_path):
    for number, (name, side) in enumerate([("a", 20), ("a", 30), ("b", 40)]):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("RGB", (side, 60)).save(tmp_path / name / f"{number}.png")
    opened = create_source(f"folder:{tmp_path}", "train[:]")
    assert choices.read_side(opened) == 30


def test_candidates_grow_and_keep_what_the_config_sets():
    found = candidates(1500, (32,))
    assert [dict(c.model) for c in found] == [
        {"stem": "cifar", "width": width} for width in (16, 32, 64)
    ]
    # Convolutions grow with the square of the width, but for the first.
    ratios = [b.flops / a.flops for a, b in zip(found, found[1:], strict=False)]
    assert all(3.8 < ratio < 4 for ratio in ratios)
    # ResNet-18 for CIFAR has 0.56 GFLOPs (multiply-adds) at a width of 64.
    assert found[-1].flops == pytest.approx(6 * 0.56e9, rel=0.01)

    (only,) = candidates(1500, (32,), width=24, stem="imagenet")
    assert only.model == () and only.size == 32
    large = candidates(1500, (64, 128, 224))
    assert [(c.size, dict(c.model)["width"]) for c in large] == list(choices.LARGE)
    assert {dict(c.model)["width"] for c in candidates(100, (64, 224))} == {32}
    assert [c.model for c in candidates(1500, (64,), name="vgg16_bn")] == [()]


def test_the_default_model_comes_from_the_size():
    small = candidates(1500, (32,), name="auto")
    assert [dict(c.model)["widths"] for c in small] == [(w, 4 * w, 4 * w) for w in (16, 32, 64)]
    assert {dict(c.model)["name"] for c in small} == {"airbench94"}
    large = candidates(1500, (64, 128), name="auto")
    assert {dict(c.model)["name"] for c in large} == {"resnet18"}


def test_the_most_expensive_candidate_that_is_seen_enough():
    few, many = Candidate(32, (("width", 16),), 1e8), Candidate(32, (("width", 32),), 4e8)
    enough = choices.wanted_epochs(1500) * 1500
    assert choices.wanted_epochs(1500) == 100
    assert choices.wanted_epochs(50_000) < choices.wanted_epochs(5000) < 100
    assert choices.select((few, many), 4e8 * enough, enough) is many
    assert choices.select((few, many), 3.9e8 * enough, enough) is few
    assert choices.select((few, many), 1.0, enough) is few


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (1e3 * 64 * 500, 500),
        (0.0, 24),  # One epoch, if nothing more fits.
        (1e15, 300 * 1500 // 64),
    ],
)
def test_length(budget, steps):
    assert choices.choose_steps(budget, 1e3, 64, 1500) == steps


def test_few_images_may_be_seen_more_often():
    assert choices.most_epochs(100) == 600 and choices.most_epochs(10_000) == 300


def test_augmentation():
    strong = choices.augmentation(32, 30, epochs=40, mirrored=True)
    assert strong == {
        "data.train_transform": "resize((32, 32))|pad_crop(32, padding=4)|flip|trivial_augment()",
        "data.eval_transform": "resize((32, 32))",
        "data.batch_transform": "",
    }
    mixed = choices.augmentation(32, 30, epochs=200, mirrored=True)
    assert mixed == strong | {"data.batch_transform": "cutmix(1.0, p=0.5)"}
    light = choices.augmentation(128, 300, epochs=39, mirrored=False)
    assert light == {
        "data.train_transform": "random_resized_crop(128, scale=(0.5, 1.0))",
        "data.eval_transform": "resize((128, 128))",
        "data.batch_transform": "",
    }


def test_sampling():
    assert choices.choose_sampling(np.array([10, 29, 0])) == "uniform"
    assert choices.choose_sampling(np.array([10, 30, 20])) == "balanced"


def test_images_that_cannot_be_read():
    class Broken(ArraySource):
        def __getitem__(self, index):
            return {"image": b"not an image", "label": 0}

    with pytest.raises(ConfigError, match="none of 20 images"):
        choices.read_side(Broken(**vars(source(20))))

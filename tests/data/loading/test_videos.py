"""Batches of clips depend on the seed and the position alone."""

import pathlib

import jax
import numpy as np
import pytest

from imgcls.data.sources.open import open_dataset
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS
from imgcls.models.create import create_model
from tests.conftest import make_mesh
from tests.data.loading.test_loader import read
from tests.data.videos import number_in, numbered_video

RECIPE = "sample_frames(4, stride=3, size=32)|random_resized_crop(24)|flip|rand_augment(2, 10)"
KINDS = [
    ("mp4", "libx264", dict(gop=12)),
    ("avi", "mpeg4", dict(options={"bf": "2"})),
    ("gif", "gif", dict(pixels="rgb8")),
    ("webm", "libvpx", {}),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """12 videos of four formats."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(12):
        container, codec, options = KINDS[number % 4]
        folder = root / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        data = numbered_video(20 + number, container, codec, **options)
        (folder / f"{number:02d}.{container}").write_bytes(data)
    return open_dataset(f"folder:{root}", videos=True).open("train")


def batches(source, recipe: str = RECIPE, **options) -> list[dict]:
    return read(source, transforms=spec.parse(recipe, TRANSFORMS, "x"), **options)[0]


def assert_equal(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            np.testing.assert_array_equal(one[key], value, err_msg=key)


@pytest.fixture(scope="module")
def expected(source):
    """Six steps, which are four epochs."""
    found = batches(source, steps=6)
    assert found[0]["image"].shape == (8, 4, 24, 24, 3)
    return found


@pytest.mark.parametrize("options", [dict(threads=1), dict(threads=5), dict(workers=2)])
def test_threads_and_workers_give_the_same_batches(options, source, expected):
    assert_equal(batches(source, steps=6, **options), expected)


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_give_the_same_batches(devices, source, expected):
    assert_equal(batches(source, steps=6, mesh=make_mesh(data=devices)), expected)


def test_a_later_start_gives_the_same_batches(source, expected):
    assert_equal(batches(source, steps=3, first=3, threads=2), expected[3:])


def test_an_epoch_has_another_clip_of_each_video(source):
    found = batches(source, "sample_frames(2)", steps=6)
    index = np.concatenate([batch["index"] for batch in found])
    starts = np.array([number_in(clip[0]) for batch in found for clip in batch["image"]])
    assert (np.bincount(index) == 4).all()
    assert np.mean([len(set(starts[index == i])) for i in range(12)]) > 3


def test_evaluation_has_each_video_once(source):
    found = batches(source, "sample_frames(2, clips=2)", train=False)
    assert found[0]["image"].shape == (8, 2, 2, 64, 96, 3)
    index = np.concatenate([batch["index"][batch["mask"] == 1] for batch in found])
    np.testing.assert_array_equal(index, np.arange(12))
    lengths = [20 + int(pathlib.Path(source.name(i)).stem) for i in range(12)]
    clips = np.concatenate([batch["image"] for batch in found])[:12]
    for length, (first, last) in zip(lengths, clips, strict=True):
        assert [number_in(f) for f in (*first, *last)] == [0, 1, length - 2, length - 1]


@pytest.mark.parametrize("options", [dict(threads=2), dict(workers=2)])
def test_lengths_of_padded_clips_are_in_the_batch(options, source):
    """Videos have 20 to 31 frames; the logits are those of the frames without padding."""
    recipe = "sample_frames(25, short='pad', size=16)|center_crop(16)"
    (batch, *_) = batches(source, recipe, steps=1, **options)
    numbers = [int(pathlib.Path(source.name(int(index))).stem) for index in batch["index"]]
    lengths = [min(25, 20 + number) for number in numbers]
    assert batch["length"].dtype == np.int32 and batch["length"].tolist() == lengths
    model = create_model("cnn_gru", 3, backbone_options=dict(width=4, stage_sizes=(1,)), units=5)
    images = batch["image"].astype(np.float32) / 255
    variables = model.init(jax.random.key(0), images[:1])
    padded = model.apply(variables, images, length=batch["length"])
    for image, length, logits in zip(images, lengths, padded, strict=True):
        alone = model.apply(variables, image[None, :length])
        np.testing.assert_allclose(logits, alone[0], rtol=1e-4, atol=1e-5)

"""Classes that differ in the order of the frames only: which models tell them apart.

python -m pytest -m slow tests/end_to_end/test_motion.py
"""

import json

import numpy as np
import pytest

import imgcls
from imgcls.data.decode.video import EncodedVideo
from imgcls.data.sources.open import open_dataset
from tests import motion

# Nothing is flipped, which would exchange the classes.
ARGUMENTS = (
    "--config.batch_size=32",
    "--config.data.train_transform=sample_frames(8)",
    "--config.data.eval_transform=sample_frames(8)",
    "--config.model={}",
)
# The last map of this backbone is one pixel, so that its features know where the square is.
NET = {"stem": "imagenet", "width": 32, "stage_sizes": (1, 1, 1, 1)}
BACKBONE = ("--config.model.backbone=resnet18", f"--config.model.backbone_options={NET}")
VIVIT = {"width": 64, "depth": 3, "time_depth": 2, "num_heads": 4, "mlp_dim": 128}
MODELS = {
    "frame_average": (1, BACKBONE),
    "cnn_lstm": (5, (*BACKBONE, "--config.model.units=64")),
    "r2plus1d_18": (1, ("--config.model.width=16", "--config.model.stage_sizes=(1, 1, 1)")),
    "vivit_ti8x2": (2, tuple(f"--config.model.{key}={value}" for key, value in VIVIT.items())),
}


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


def test_the_square_moves_and_all_else_stays(pictures):
    videos = motion.draw(pictures, seed=1)
    assert videos.shape == (4, 8, 32, 32, 3)
    corners = set()
    for number, frames in enumerate(videos):
        square = pictures[2 * number][10:22, 10:22]
        background = pictures[2 * number + 1]
        found = []
        for frame in frames:
            rows, columns = np.nonzero((frame != background).any(-1))
            top, left = rows.min(), columns.min()
            np.testing.assert_array_equal(frame[top : top + 12, left : left + 12], square)
            rest = np.delete(frame.reshape(-1, 3), _inside(top, left), axis=0)
            np.testing.assert_array_equal(
                rest, np.delete(background.reshape(-1, 3), _inside(top, left), axis=0)
            )
            found.append((top, left))
        tops, lefts = zip(*found, strict=True)
        assert len(set(tops)) == 1 and set(np.diff(lefts)) == {2}
        corners.add(found[0])
    assert len(corners) > 1


def _inside(top: int, left: int) -> np.ndarray:
    """Numbers of the pixels of a square."""
    return (np.arange(top, top + 12)[:, None] * 32 + np.arange(left, left + 12)).ravel()


@pytest.fixture(scope="module")
def saved(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    return folder, motion.save(shared_data / "cifar10_jpg.zip", folder, train=3, test=2)


def test_both_classes_have_the_same_frames(saved):
    folder, source = saved
    for split, pairs in (("train", 3), ("test", 2)):
        right, left = (sorted((folder / split / name).iterdir()) for name in motion.CLASSES)
        assert len(right) == len(left) == pairs
        for one, other in zip(right, left, strict=True):
            assert one.name == other.name
            ours, theirs = (
                EncodedVideo(file.read_bytes(), "clip").frames(range(8)) for file in (one, other)
            )
            np.testing.assert_array_equal(ours[::-1], theirs)
            assert (ours[0] != ours[7]).any()
    assert len(open_dataset(source, videos=True).open("test")) == 4


def test_no_picture_is_in_both_splits(shared_data):
    archive = shared_data / "cifar10_jpg.zip"
    train, test = (motion.read_pictures(archive, split, 200) for split in ("train", "test"))
    assert train.shape == test.shape == (200, 32, 32, 3)
    known = {picture.tobytes() for picture in train}
    assert len(known) == 200 and not known & {picture.tobytes() for picture in test}


@pytest.fixture(scope="module")
def source(shared_data, tmp_path_factory) -> str:
    """Videos of 5,000 pairs of pictures for training, and of 250 for the test."""
    folder = tmp_path_factory.mktemp("motion")
    return motion.save(shared_data / "cifar10_jpg.zip", folder, train=5000, test=250)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_which_models_see_the_order(name, source, command, tmp_path):
    epochs, options = MODELS[name]
    recipe = f"--config=configs/own_videos.py:data={source},frames=8,size=32,epochs={epochs}"
    flags = (recipe, *ARGUMENTS, f"--config.model.name={name}", *options)
    # Compiled as users compile: the fast compilation of other tests makes these runs slow.
    done = command("main", *flags, f"--workdir={tmp_path}", timeout=1800, XLA_FLAGS="")
    assert done.returncode == 0, done.stderr
    run = imgcls.load(f"{tmp_path}:newest")
    metrics = run.evaluate("test", bootstrap=0).metrics
    assert metrics["examples"] == 500
    low, high = (0.45, 0.55) if name == "frame_average" else (0.95, 1.0)
    assert low <= metrics["accuracy"] <= high, json.dumps(metrics)

"""Videos of two classes that differ in the order of their frames only.

A square of one CIFAR-10 picture crosses another one, from left to right or from right to left. Both
videos are made of every pair of pictures, and have the same frames in opposite orders. So whatever
a model knows of the frames without their order is the same for both classes.
"""

import pathlib
import zipfile

import numpy as np
from PIL import Image

from tests.data.videos import write_video

CLASSES = ("right", "left")
FRAMES, SIDE, STEP = 8, 12, 2  # of a video; pixels of the square; pixels from frame to frame.


def crossing(square: np.ndarray, background: np.ndarray, x: int, y: int) -> np.ndarray:
    """Frames uint8 `[8, H, W, 3]`: a square `[12, 12, 3]` at `(x, y)` moves to the right."""
    frames = np.repeat(background[None], FRAMES, axis=0)
    for number, frame in enumerate(frames):
        left = x + STEP * number
        frame[y : y + SIDE, left : left + SIDE] = square
    return frames


def draw(pictures: np.ndarray, seed: int) -> np.ndarray:
    """Pictures `[2 N, H, W, 3]` -> frames of N videos `[N, 8, H, W, 3]` that move to the right.

    Each picture is used once; the place of the square is random.
    """
    rng = np.random.default_rng(seed)
    height, width = pictures.shape[1:3]
    room = height - SIDE, width - SIDE - STEP * (FRAMES - 1)
    videos, middle = [], slice((height - SIDE) // 2, (height + SIDE) // 2)
    for picture, background in zip(pictures[::2], pictures[1::2], strict=True):
        y, x = rng.integers(0, room, endpoint=True)
        videos.append(crossing(picture[middle, middle], background, x, y))
    return np.stack(videos)


def read_pictures(archive: pathlib.Path, split: str, count: int) -> np.ndarray:
    """Pictures uint8 `[N, 32, 32, 3]` of a split, evenly from all classes.

    Args:
      archive: `cifar10_jpg.zip`, of `cifar10/{train,test}/CLASS/*.jpg`.
      split: train or test.
      count: number of pictures.
    """
    with zipfile.ZipFile(archive) as files:
        names = sorted(n for n in files.namelist() if f"/{split}/" in n and n.endswith(".jpg"))
        names = np.random.default_rng(0).permutation(names)[:count]
        return np.stack([np.asarray(Image.open(files.open(name))) for name in names])


def save(archive: pathlib.Path, folder: pathlib.Path, train: int, test: int) -> str:
    """Writes videos of so many pairs of pictures to `FOLDER/SPLIT/CLASS`; returns the source.

    The codec is lossless, so a video has the frames of its opposite.
    """
    for seed, (split, pairs) in enumerate((("train", train), ("test", test))):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        for number, frames in enumerate(draw(read_pictures(archive, split, 2 * pairs), seed)):
            for name, ordered in zip(CLASSES, (frames, frames[::-1]), strict=True):
                data = write_video(ordered, "matroska", "ffv1", pixels="bgr0")
                (folder / split / name / f"{number:04d}.mkv").write_bytes(data)
    return f"folder:{folder}"

"""Datasets of real images with planted faults."""

import dataclasses
import functools
import io
import pathlib

import numpy as np
from PIL import Image

from imgcls.data.decode.image import decode_image
from imgcls.data.sources.open import create_source

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


@dataclasses.dataclass(frozen=True)
class Given:
    """A source of images in memory: encoded files, or pixels."""

    images: list
    targets: np.ndarray
    class_names: tuple[str, ...]
    multi_label: bool = False
    splits: tuple[str, ...] = ("train",)
    names: tuple[str, ...] = ()
    metadatas: tuple[dict, ...] = ()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.targets[index]}

    def labels(self):
        return self.targets

    def name(self, index):
        return self.names[index] if self.names else f"{index}.jpg"

    def group(self, index):
        return None

    def metadata(self, index):
        return self.metadatas[index] if self.metadatas else {}


@functools.cache
def cifar10(folder: pathlib.Path, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Reads pixels uint8 `[N, 32, 32, 3]` and labels of CIFAR-10, in the order of the files."""
    source = create_source(f"folder:{folder / 'cifar10_jpg.zip'}", split)
    images = [decode_image(source[i]["image"], "") for i in range(len(source))]
    return np.stack(images), source.labels()


def jpeg(pixels: np.ndarray, quality: int = 75) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "jpeg", quality=quality)
    return data.getvalue()


def tanks(
    folder: pathlib.Path,
    pair: tuple[str, str],
    count: int,
    correlation: float,
    seed: int,
    share: float = 0.5,
    shift: float = 40.0,
) -> Given:
    """Two classes of CIFAR-10, made brighter or darker.

    Args:
      folder: of the real data.
      pair: of classes.
      count: number of images.
      correlation: 1: one class is bright and the other dark; 0.9: nine in ten images go with
        their class; 0: each is either, whatever its class.
      seed: of all that is drawn.
      share: of the first class.
      shift: of the pixels, up or down; 0 leaves them as they are.
    """
    rng = np.random.default_rng(seed)
    pixels, labels = cifar10(folder)
    first = round(count * share)
    rows = [
        rng.choice(np.flatnonzero(labels == CLASSES.index(name)), number, replace=False)
        for name, number in zip(pair, (first, count - first), strict=True)
    ]
    target = np.repeat([0, 1], [len(r) for r in rows])
    # A fair coin if `correlation` is 0, the class if it is 1.
    follows = rng.random(count) < (correlation if correlation else 0.5)
    bright = np.where(follows, target, 1 - target)
    moved = pixels[np.concatenate(rows)] + (shift * (2 * bright - 1))[:, None, None, None]
    images = [jpeg(x) for x in np.clip(moved, 0, 255).astype(np.uint8)]
    return Given(images, target, pair)

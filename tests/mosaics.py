"""A multi-label dataset of real images: mosaics of four CIFAR-10 images."""

import csv
import io
import pathlib
import zipfile

import numpy as np
from PIL import Image

# Mosaics of each split, and the images used for them; no image is used twice.
SPLITS = {"train": "train", "val": "train", "test": "test"}
COUNTS = {"train": 4000, "val": 500, "test": 1000}


def write_mosaics(
    archive: pathlib.Path, folder: pathlib.Path, counts: dict[str, int] = COUNTS, seed: int = 0
) -> pathlib.Path:
    """Writes 64x64 JPEG files of 2x2 images, and their labels.

    Args:
      archive: `cifar10_jpg.zip`, of `cifar10/{train,test}/CLASS/*.jpg`.
      folder: gets `SPLIT/NUMBER.jpg` and `labels.csv` with the columns path, labels and split.
      counts: mosaics of each of `SPLITS`.
      seed: of the choice.

    Returns:
      The path of `labels.csv`.
    """
    rng = np.random.default_rng(seed)
    rows = []
    with zipfile.ZipFile(archive) as files:
        members = {origin: [] for origin in SPLITS.values()}
        for name in sorted(files.namelist()):
            if name.endswith(".jpg"):
                members[name.split("/")[1]].append(name)
        orders = {origin: iter(rng.permutation(names)) for origin, names in members.items()}
        for split, count in counts.items():
            (folder / split).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                tiles = [next(orders[SPLITS[split]]) for _ in range(4)]
                path = f"{split}/{number:04d}.jpg"
                _mosaic(files, tiles).save(folder / path, quality=95)
                labels = sorted({tile.split("/")[2] for tile in tiles})
                rows.append((path, "|".join(labels), split))
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "labels", "split"), *rows])
    return folder / "labels.csv"


def _mosaic(files: zipfile.ZipFile, tiles: list[str]) -> Image.Image:
    mosaic = Image.new("RGB", (64, 64))
    for place, tile in enumerate(tiles):
        image = Image.open(io.BytesIO(files.read(tile)))
        mosaic.paste(image, (place % 2 * 32, place // 2 * 32))
    return mosaic

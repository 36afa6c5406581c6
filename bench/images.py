"""Images for the measurements: synthetic ones, or many links to a few real ones."""

import os
import pathlib

import cv2
import numpy as np


def draw_folder(folder: str, classes: int, size: tuple[int, int] = (64, 64), each: int = 1) -> str:
    """Writes synthetic JPEGs to class folders; returns `folder`.

    Args:
      folder: directory in which `train/CLASS/*.jpg` are written.
      classes: number of classes.
      size: height and width; at 375 x 500 the files are about as large as those of ImageNet.
      each: images per class.
    """
    rng = np.random.default_rng(0)
    for label in range(classes):
        place = pathlib.Path(folder, "train", f"{label:04d}")
        place.mkdir(parents=True)
        for number in range(each):
            coarse = rng.integers(0, 256, (size[0] // 6 + 1, size[1] // 6 + 1, 3), np.uint8)
            pixels = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(place / f"{number}.jpg"), pixels)
    return folder


def link_folder(images: str, folder: str, count: int) -> str:
    """Links each JPEG of class folders many times, so that an epoch is long; returns `folder`.

    Args:
      images: directory with `CLASS/*` or `train/CLASS/*`.
      folder: directory in which the links `train/CLASS/*` are made.
      count: smallest number of links.
    """
    root = pathlib.Path(images).resolve()
    root = root / "train" if (root / "train").is_dir() else root
    files = sorted(p for p in root.glob("*/*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise SystemExit(f"error: --images={images}: no JPEGs; expected FOLDER/CLASS/*.jpg")
    for file in files:
        place = pathlib.Path(folder, "train", file.parent.name)
        place.mkdir(parents=True, exist_ok=True)
        for copy in range(-(-count // len(files))):
            os.symlink(file, place / f"{file.stem}_{copy:03d}.jpg")
    return folder

"""One pass over all pictures of a data set: everything the checks need, and no pictures kept."""

import concurrent.futures
import dataclasses
import hashlib
import io
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from imgcls.audit import quality
from imgcls.audit.properties import jpeg_quality, sharpness
from imgcls.core import log
from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.decode.image import decode_image
from imgcls.data.sources.source import Source

# Of the thumbnails that duplicates are verified on and hand-made features are made from.
THUMB = 32


class Unreadable(NamedTuple):
    """A picture that can't be used, and why."""

    split: str
    name: str
    error: str


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What was measured on the N readable pictures of all splits, in their order.

    Attributes:
      class_names: of the K classes.
      multi_label: whether labels are multi-hot.
      splits: names of the splits, in order.
      sources: the source of each split.
      split: int `[N]`, number of the split.
      index: int `[N]`, number in the split's source.
      names: what a person finds each picture by.
      labels: int `[N]` or multi-hot uint8 `[N, K]`.
      groups, metadata: what the source says of each, see `Source`.
      file_hash, pixel_hash: bytes `[N]`, equal where files or pixels are ('' where there is none).
      thumbs: uint8 `[N, 32, 32, 3]`, stretched to a square.
      greys: uint8 `[N, 32, 32]`, as ImageHash's phash makes them.
      values: `{property: float64 [N]}`; NaN where a picture has no such value.
      raw_quality: `{name: float64 [N]}`, cleanvision's numbers.
      format, mode: of the files, as Pillow names them.
      unreadable: pictures left out.
    """

    class_names: tuple[str, ...]
    multi_label: bool
    splits: tuple[str, ...]
    sources: tuple[Source, ...]
    split: np.ndarray
    index: np.ndarray
    names: list[str]
    labels: np.ndarray
    groups: list[str | None]
    metadata: list[dict]
    file_hash: np.ndarray
    pixel_hash: np.ndarray
    thumbs: np.ndarray
    greys: np.ndarray
    values: dict[str, np.ndarray]
    raw_quality: dict[str, np.ndarray]
    format: np.ndarray
    mode: np.ndarray
    unreadable: list[Unreadable]

    def __len__(self) -> int:
        return len(self.index)

    def pixels(self, i: int) -> np.ndarray:
        """Reads a picture again, to be shown: uint8 `[H, W, 3]`."""
        source = self.sources[self.split[i]]
        return _pixels(source[int(self.index[i])]["image"], self.names[i])

    def targets_of(self, i: int) -> np.ndarray:
        """A picture's labels as bool `[K]`."""
        if self.multi_label:
            return self.labels[i] > 0
        return np.arange(len(self.class_names)) == self.labels[i]

    def targets(self) -> np.ndarray:
        """Labels as bool `[N, K]`."""
        if self.multi_label:
            return self.labels > 0
        return self.labels[:, None] == np.arange(len(self.class_names))


def read_pictures(sources: dict[str, Source], max_images: int | None, seed: int) -> Pictures:
    """Reads and measures every picture once, on all cores.

    Args:
      sources: of each split, by its name.
      max_images: read no more than this many, drawn from all splits alike.
      seed: of the draw.

    Raises:
      ConfigError: not one picture can be read.
    """
    places = [(s, i) for s, source in enumerate(sources.values()) for i in range(len(source))]
    if max_images is not None and max_images < len(places):
        chosen = np.random.default_rng(seed).choice(len(places), max_images, replace=False)
        places = [places[i] for i in np.sort(chosen)]
    opened, split_names = tuple(sources.values()), tuple(sources)

    def measure_one(place: tuple[int, int]) -> dict | Unreadable:
        s, i = place
        name = opened[s].name(i)
        try:
            return measure(opened[s][i]["image"], name)
        except DataError as e:
            return Unreadable(split_names[s], name, one_line(e))

    found = list(_on_all_cores(measure_one, places))
    kept = [j for j, one in enumerate(found) if not isinstance(one, Unreadable)]
    unreadable = [one for one in found if isinstance(one, Unreadable)]
    if not kept:
        first = f": {unreadable[0].error}" if unreadable else ""
        raise ConfigError(f"--data: not one of {len(places)} pictures can be read{first}")
    split, index = np.array([places[j] for j in kept]).T
    first = opened[0]
    all_labels = [source.labels() for source in opened]
    return Pictures(
        class_names=tuple(first.class_names),
        multi_label=first.multi_label,
        splits=split_names,
        sources=opened,
        split=split,
        index=index,
        names=[opened[s].name(int(i)) for s, i in zip(split, index, strict=True)],
        labels=np.stack([all_labels[s][i] for s, i in zip(split, index, strict=True)]),
        groups=[opened[s].group(int(i)) for s, i in zip(split, index, strict=True)],
        metadata=[opened[s].metadata(int(i)) for s, i in zip(split, index, strict=True)],
        unreadable=unreadable,
        **_columns([found[j] for j in kept]),
    )


def measure(image: bytes | np.ndarray, name: str) -> dict:
    """What one picture's file and pixels say: an entry for each array of `Pictures`.

    Args:
      image: a file's bytes, or uint8 `[H, W, C]`.
      name: for messages.

    Raises:
      DataError: it can't be decoded.
    """
    pixels = _pixels(image, name)
    encoded = isinstance(image, bytes)
    shape = np.array(pixels.shape, np.int32).tobytes()
    picture = Image.fromarray(pixels)
    grey = picture.convert("L")
    height, width = pixels.shape[:2]
    header = _header(image) if encoded else {"format": "", "mode": "", "jpeg_quality": np.nan}
    return {
        "file_hash": hashlib.blake2b(image, digest_size=16).digest() if encoded else b"",
        "pixel_hash": hashlib.blake2b(shape + pixels.tobytes(), digest_size=16).digest(),
        "thumbs": cv2.resize(pixels, (THUMB, THUMB), interpolation=cv2.INTER_AREA),
        "greys": np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.LANCZOS)),
        "format": header["format"],
        "mode": header["mode"],
        "values": {
            "width": width,
            "height": height,
            "aspect ratio": width / height,
            "file size": len(image) if encoded else np.nan,
            "JPEG quality": header["jpeg_quality"],
            "sharpness": sharpness(np.asarray(grey)),
        },
        "raw_quality": quality.measure(picture),
    }


def _header(data: bytes) -> dict:
    with Image.open(io.BytesIO(data)) as image:
        tables = getattr(image, "quantization", None)
        value = jpeg_quality(tables[0]) if tables and 0 in tables else np.nan
        return {"format": image.format, "mode": image.mode, "jpeg_quality": value}


def _pixels(image: bytes | np.ndarray, name: str) -> np.ndarray:
    if isinstance(image, bytes):
        return decode_image(image, name)
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise DataError(f"{name}: of shape {image.shape}; only pictures [H, W, 1 or 3] are checked")
    return np.repeat(image, 3, -1) if image.shape[-1] == 1 else image


def _columns(rows: list[dict]) -> dict:
    """Rows -> arrays by column."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    for key in ("values", "raw_quality"):
        numbers = columns[key]
        columns[key] = {name: np.array([n[name] for n in numbers], float) for name in numbers[0]}
    # Objects: as bytes, numpy would cut the zeros off a hash's end.
    for key in ("file_hash", "pixel_hash"):
        columns[key] = np.array(columns[key], object)
    return {key: np.array(c) if isinstance(c, list) else c for key, c in columns.items()}


def _on_all_cores(function: Callable, items: list, chunk: int = 64) -> Iterable:
    """Results in order. Threads: decoding and resizing release the GIL."""
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        log.progress(len(items), "img", description="reading", leave=False) as bar,
    ):
        for done in pool.map(lambda part: [function(item) for item in part], chunks):
            bar.update(len(done))
            yield from done

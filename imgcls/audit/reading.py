"""One pass over all images of a dataset: measures what the checks need and keeps no full image."""

import concurrent.futures
import dataclasses
import hashlib
import io
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from imgcls.audit import headers, quality, videos, volumes
from imgcls.audit.properties import jpeg_quality, sharpness
from imgcls.core import log
from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.decode.gray import count_used_bits, is_deep
from imgcls.data.decode.image import decode_image
from imgcls.data.sources.source import Source

# Side of the thumbnails, which are used for duplicates and hand-made features.
THUMB = 32


class Decoding(NamedTuple):
    """Options of `imgcls.data.decode.image.decode_image`, and whether the data are videos."""

    bits: int | None = None
    channels: int = 3
    videos: bool = False


RGB = Decoding()


class Unreadable(NamedTuple):
    """An image that can't be read, and the reason."""

    split: str
    name: str
    error: str


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """Measurements of the N readable images, volumes or videos, in the order of the splits.

    Attributes:
      class_names: names of the K classes.
      multi_label: whether labels are multi-hot.
      splits: names of the splits, in order.
      sources: the source of each split.
      split: int `[N]`, number of each image's split.
      index: int `[N]`, index of each image in the source of its split.
      names: name of each image for display: a path or record name.
      labels: int `[N]` or multi-hot uint8 `[N, K]`.
      groups, metadata: group and metadata of each image, see `Source`.
      file_hash, pixel_hash: bytes `[N]`, hashes of the encoded file and of the decoded pixels (b''
        if there is no file).
      thumbs: uint8 `[N, 32, 32, 3]`, stretched to a square; of volumes the means along D, H and W,
        of videos the frame in the middle.
      grays: uint8 `[N, 32, 32]`, resized as in ImageHash's phash.
      values: `{property: float64 [N]}`, NaN if an image lacks the property.
      raw_quality: `{name: float64 [N]}`, raw measurements of cleanvision, or of `volumes`.
      used_bits: int `[N]`, bits of the largest sample of a gray image of 16 bits; 0 for others.
      decoding: how images are decoded.
      format, mode: text `[N]`, Pillow's names of the file format and color mode; of volumes the
        format and dtype, of videos FFmpeg's names of the container and pixel format.
      unreadable: the images that can't be decoded.
      cubes: float16 `[N, 20, 20, 20]`, details of volumes, see `volumes.high_pass`; None of images.
      prints: what copies of videos are found by, see `videos.Prints`; None of images and volumes.
      texts: `{property: text [N]}` of the headers of volumes and videos.
      patients: text `[N]`, digest of the patient's ID of DICOM files; '' if unknown.
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
    grays: np.ndarray
    values: dict[str, np.ndarray]
    raw_quality: dict[str, np.ndarray]
    format: np.ndarray
    mode: np.ndarray
    used_bits: np.ndarray
    unreadable: list[Unreadable]
    decoding: Decoding = RGB
    cubes: np.ndarray | None = None
    prints: list[videos.Prints] | None = None
    texts: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    patients: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def noun(self) -> str:
        """What an example is called."""
        return "image" if self.prints is None else "video"

    def pixels(self, i: int) -> np.ndarray:
        """Reads image `i` again, for display: uint8 `[H, W, 3]`.

        Of a volume it returns slices, and of a video the frame in the middle.
        """
        record = self.sources[self.split[i]][int(self.index[i])]
        image = record["image"]
        if self.prints is not None:
            return videos.draw(record, self.names[i])
        if self.cubes is not None:
            return volumes.draw(image, self.names[i])
        return visible(_pixels(image, self.names[i], self.decoding))

    def targets_of(self, i: int) -> np.ndarray:
        """Returns the labels of image `i` as bool `[K]`."""
        if self.multi_label:
            return self.labels[i] > 0
        return np.arange(len(self.class_names)) == self.labels[i]

    def label_names(self, i: int) -> list[str]:
        """Returns the names of the classes of image `i`."""
        return [self.class_names[c] for c in np.flatnonzero(self.targets_of(i))]

    def targets(self) -> np.ndarray:
        """Returns all labels as bool `[N, K]`."""
        if self.multi_label:
            return self.labels > 0
        return self.labels[:, None] == np.arange(len(self.class_names))


def read_images(
    sources: dict[str, Source], max_images: int | None, seed: int, decoding: Decoding = RGB
) -> ImageTable:
    """Reads and measures every image once, on all cores.

    Args:
      sources: the source of each split, by the name of the split.
      max_images: measure only a random sample of this many images, drawn from all splits.
      seed: seed of the sample.
      decoding: how images are decoded.

    Raises:
      ConfigError: no image can be read, or there are images, volumes or videos together.
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
            record = opened[s][i]
            image = record["image"]
            if videos.is_video(image, decoding.videos):
                return videos.measure(record, name)
            if volumes.is_volume(image, name, decoding.channels):
                return volumes.measure(image, name)
            return measure(image, name, decoding)
        except DataError as e:
            return Unreadable(split_names[s], name, one_line(e))

    results = list(_on_all_cores(measure_one, places))
    measured = [result for result in results if not isinstance(result, Unreadable)]
    unreadable = [result for result in results if isinstance(result, Unreadable)]
    if not measured:
        first = f": {unreadable[0].error}" if unreadable else ""
        raise ConfigError(f"--data: none of the {len(places)} images can be read{first}")
    kinds = {_kind(row) for row in measured}
    if len(kinds) > 1:
        raise ConfigError(f"--data: has {' and '.join(sorted(kinds))}; keep one kind")
    readable = [not isinstance(result, Unreadable) for result in results]
    split, index = np.array(places)[readable].T
    first = opened[0]
    all_labels = [source.labels() for source in opened]
    return ImageTable(
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
        decoding=decoding,
        **_columns(measured),
    )


def measure(image: bytes | np.ndarray, name: str, decoding: Decoding = RGB) -> dict:
    """Measures one image; returns its entry in each array of `ImageTable`.

    Args:
      image: an encoded file, or uint8 `[H, W, C]`; copies are found by all channels, and the rest
        is measured on those that are `visible`.
      name: name of the image in messages.
      decoding: how images are decoded.

    Raises:
      DataError: the image can't be decoded.
    """
    bands = _pixels(image, name, decoding)
    pixels = visible(bands)
    file = image if isinstance(image, bytes) else None
    shape = np.array(bands.shape, np.int32).tobytes()
    color = Image.fromarray(pixels)
    gray = color.convert("L")
    height, width = pixels.shape[:2]
    header = _header(file) if file else _NO_HEADER
    return {
        "file_hash": hashlib.blake2b(file, digest_size=16).digest() if file else b"",
        "pixel_hash": hashlib.blake2b(shape + bands.tobytes(), digest_size=16).digest(),
        "thumbs": cv2.resize(pixels, (THUMB, THUMB), interpolation=cv2.INTER_AREA),
        "grays": np.asarray(gray.resize((THUMB, THUMB), Image.Resampling.LANCZOS)),
        "format": header["format"],
        "mode": header["mode"],
        "used_bits": header["used_bits"],
        "values": {
            "width": width,
            "height": height,
            "aspect ratio": width / height,
            "file size": len(file) if file else np.nan,
            "JPEG quality": header["jpeg_quality"],
            "sharpness": sharpness(np.asarray(gray)),
        },
        "raw_quality": quality.measure(color),
    }


_NO_HEADER = {"format": "", "mode": "", "jpeg_quality": np.nan, "used_bits": 0}


def _header(data: bytes) -> dict:
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:  # .npy files, and TIFF of many bands
        return _NO_HEADER
    with image:
        tables = image.quantization if isinstance(image, JpegImageFile) else {}
        value = jpeg_quality(tables[0]) if 0 in tables else np.nan
        used_bits = count_used_bits(image) if is_deep(image) else 0
        return {
            "format": image.format,
            "mode": image.mode,
            "jpeg_quality": value,
            "used_bits": used_bits,
        }


def _pixels(image: bytes | np.ndarray, name: str, decoding: Decoding) -> np.ndarray:
    """uint8 `[H, W, C]`, with all channels."""
    if isinstance(image, bytes):
        return decode_image(image, name, bits=decoding.bits, channels=decoding.channels)
    if image.ndim != 3 or image.shape[-1] not in (1, 3, decoding.channels):
        raise DataError(f"{name}: shape {image.shape}; the audit takes images [H, W, 1 or 3]")
    return image


def visible(image: np.ndarray) -> np.ndarray:
    """An image `[H, W, 3]` of the first three channels, or of the first if there are fewer."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, -1)


def _kind(row: dict) -> str:
    return "volumes" if "cubes" in row else "videos" if "prints" in row else "images"


def _columns(rows: list[dict]) -> dict[str, Any]:
    """Converts rows to arrays by column."""
    columns: dict[str, Any] = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        if key in ("values", "raw_quality"):
            columns[key] = {name: np.array([v[name] for v in values], float) for name in values[0]}
        elif key == "prints":
            columns[key] = values
        elif key == "texts":
            columns |= _text_columns(values)
        elif key in ("file_hash", "pixel_hash"):
            # Not as a bytes array, since NumPy would strip the trailing zeros of a hash.
            columns[key] = np.array(values, object)
        else:
            columns[key] = np.array(values)
    return columns


def _text_columns(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Properties of headers as `texts`, with numbers for names of places, and `patients`."""
    keys = sorted({key for row in rows for key in row})
    texts = {key: np.array([row.get(key, "") for row in rows]) for key in keys}
    patients = texts.pop("patient", np.array([""] * len(rows)))
    for key in set(headers.PSEUDONYMS) & set(texts):
        texts[key] = headers.number_pseudonyms(key, texts[key])
    return {"texts": texts, "patients": patients}


def _on_all_cores(function: Callable, items: list, chunk: int = 64) -> Iterable:
    """Yields results in order, computed in threads: decoding and resizing release the GIL."""
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        log.progress(len(items), "img", description="reading", leave=False) as bar,
    ):
        for done in pool.map(lambda part: [function(item) for item in part], chunks):
            bar.update(len(done))
            yield from done

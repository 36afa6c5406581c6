"""Measurements of videos, in the place of those of images: from some of their frames."""

import hashlib
import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from imgcls.audit import quality
from imgcls.audit.hashes import MIN_CONTRAST, phash
from imgcls.audit.properties import sharpness
from imgcls.core.errors import DataError
from imgcls.data.decode.clips import ArrayVideo
from imgcls.data.decode.containers import is_video as is_video_file
from imgcls.data.decode.frame_files import EncodedFrames, is_packed
from imgcls.data.decode.packets import open_video
from imgcls.data.decode.video import EncodedVideo

# Seconds between the frames that copies are found by, and their largest number.
STEP, MAX_PRINTS = 0.2, 40
# Shorter side of the frames that are measured, side of the thumbnails, and of those for copies.
SIDE, THUMB, PRINT = 128, 32, 8
# Frame rate of folders of frames and of arrays, which state none, for comparisons alone.
_UNKNOWN_RATE = 25.0
# Issues of cleanvision that are measured on the frame in the middle. Compression and motion blur
# all videos.
_ISSUES = ("dark", "light", "low_information", "odd_aspect_ratio")
# Smallest ratio to the median number of pixels, or seconds, that is odd.
_ODD = 10
# Nothing moves if no cell of the thumbnails changes by more, on a scale of 255.
_STILL = 2
_LONGEST = 40


class Prints(NamedTuple):
    """F frames of a video, by which its copies are found.

    Attributes:
      hashes: uint64 `[F]`, perceptual hashes.
      flat: bool `[F]`, whether a frame is empty, so that it looks like others.
      thumbs: uint8 `[F, 8, 8, 3]`.
      times: float32 `[F]`, seconds since its start.
    """

    hashes: np.ndarray
    flat: np.ndarray
    thumbs: np.ndarray
    times: np.ndarray


def is_video(image: bytes | np.ndarray, expected: bool) -> bool:
    """Whether an example is a video.

    Args:
      image: bytes of a file, or an array.
      expected: whether the data are videos, so that GIFs, packed frames and arrays
        `[T, H, W, C]` are.
    """
    if expected:
        return isinstance(image, bytes) or image.ndim == 4
    return isinstance(image, bytes) and is_video_file(image)


def measure(record: dict[str, Any], name: str) -> dict:
    """Measures one video, or the part of one; returns its entry in each array of `ImageTable`.

    Args:
      record: an example, see `Source`.
      name: name for messages.

    Raises:
      DataError: the video can't be decoded.
    """
    image = record["image"]
    file = image if isinstance(image, bytes) else None
    video, part = _open(record, name), (record.get("start"), record.get("end"))
    count, times = len(video), video.times
    shown = np.arange(count) / _UNKNOWN_RATE if times is None else times
    # The last frame is shown as long as the others are on average.
    duration = float(shown[-1]) * count / max(count - 1, 1)
    numbers = _choose(shown, duration)
    frames = np.unique(np.append(numbers, count // 2))
    pixels = video.frames(frames, SIDE)
    poster = _rgb(pixels[np.searchsorted(frames, count // 2)])
    header = _NO_HEADER if file is None or is_packed(file) else _header(file, name)
    height, width = _upright(header, poster) or video.frames([0]).shape[1:3]
    kept = pixels[np.searchsorted(frames, numbers)]
    prints, moves = _print(kept, shown[numbers])
    seconds = np.nan if times is None or count < 2 else duration
    color = Image.fromarray(poster)
    size = len(file) if file else np.nan
    return {
        "file_hash": _hash(file, repr(part).encode()) if file else b"",
        "pixel_hash": _hash(np.array([count, *kept.shape], np.int32).tobytes(), kept.tobytes()),
        "thumbs": _shrink(poster),
        "grays": gray_of(poster),
        "prints": prints,
        "format": header["format"],
        "mode": header["mode"],
        "used_bits": 0,
        "values": {
            "width": width,
            "height": height,
            "aspect ratio": width / height,
            "duration": seconds,
            "frame rate": round(count / seconds, 3),
            "frames": count,
            # The part of a file has no size of its own.
            "file size": size if part == (None, None) else np.nan,
            "bit rate": 8 * size / seconds if part == (None, None) else np.nan,
            "sharpness": sharpness(np.asarray(color.convert("L"))),
        },
        "raw_quality": {
            **quality.measure(color),
            "moves": moves,
            "frames": float(count),
            "pixels": float(width * height),
            "seconds": seconds,
        },
        "texts": header["texts"],
    }


def draw(record: dict[str, Any], name: str) -> np.ndarray:
    """The frame in the middle of a video, for display: uint8 `[H, W, 3]`."""
    video = _open(record, name)
    return _rgb(video.frames([len(video) // 2], SIDE)[0])


def find_issues(
    raw: dict[str, np.ndarray], mode: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Finds dark, bright, empty, still and odd videos.

    Args:
      raw: `raw_quality` of `measure`, float `[N]` each.
      mode: text `[N]`, ignored by these issues.

    Returns:
      `{issue: (indices, scores)}`, worst first; 0 is the worst score and 1 the best.
    """
    found = quality.find_issues(raw, mode)
    found = {issue: found[issue] for issue in _ISSUES}
    moves = np.where(raw["frames"] > 1, np.minimum(raw["moves"] / (2 * _STILL), 1), 1)
    scores = {"still": (moves, 0.5)}
    for issue, key in (("odd_size", "pixels"), ("odd_duration", "seconds")):
        median = np.nanmedian(raw[key]) if np.isfinite(raw[key]).any() else np.nan
        ratio = np.nan_to_num(raw[key] / median, nan=1.0)
        scores[issue] = (np.minimum(ratio, 1 / np.maximum(ratio, 1e-9)), 1 / _ODD)
    for issue, (score, bound) in scores.items():
        indices = np.flatnonzero(score <= bound)
        indices = indices[np.argsort(score[indices], kind="stable")]
        found[issue] = (indices, score[indices])
    return found


def gray_of(pixels: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]` -> uint8 `[32, 32]`, resized as in ImageHash's phash."""
    gray = Image.fromarray(pixels).convert("L")
    return np.asarray(gray.resize((THUMB, THUMB), Image.Resampling.LANCZOS))


def _print(frames: np.ndarray, times: np.ndarray) -> tuple[Prints, float]:
    """The prints of frames `[F, H, W, C]`, and the largest change of a cell since the first."""
    colors = [_rgb(frame) for frame in frames]
    thumbs = np.stack([_shrink(frame) for frame in colors])
    grays = np.stack([gray_of(frame) for frame in colors])
    cells = thumbs.reshape(len(thumbs), PRINT, THUMB // PRINT, PRINT, THUMB // PRINT, 3)
    flat = grays.reshape(len(grays), -1).std(1) < MIN_CONTRAST
    small = cells.mean((2, 4)).round().astype(np.uint8)
    moves = float(np.abs(small - small[0].astype(np.int16)).max())
    return Prints(phash(grays), flat, small, times.astype(np.float32)), moves


def _shrink(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (THUMB, THUMB), interpolation=cv2.INTER_AREA)


def _open(record: dict[str, Any], name: str) -> EncodedVideo | EncodedFrames | ArrayVideo:
    image = record["image"]
    if not isinstance(image, bytes):
        if image.ndim != 4 or not image.size:
            raise DataError(f"{name}: has the shape {list(image.shape)}, not [T, H, W, C]")
        return ArrayVideo(image, name)
    if is_packed(image):
        return EncodedFrames(image, name)
    return EncodedVideo(image, name, start=record.get("start"), end=record.get("end"))


def _choose(times: np.ndarray, duration: float) -> np.ndarray:
    """The frames that copies are found by, ascending int `[F]`.

    Args:
      times: float `[N]`, when each frame is shown, from 0.
      duration: seconds.
    """
    step = max(STEP, duration / MAX_PRINTS)
    count = min(max(1, math.ceil(duration / step - 1e-6)), MAX_PRINTS)
    return np.unique(np.searchsorted(times, step * np.arange(count) + 1e-6, side="right") - 1)


_NO_HEADER = {"format": "", "mode": "", "size": None, "texts": {}}


def _header(data: bytes, name: str) -> dict:
    """What the header of a file says, without titles and other texts that may name persons."""
    with open_video(data, name) as stream:
        codec, container = stream.codec_context, stream.container
        sound = container.streams.best("audio")
        encoder = stream.metadata.get("encoder") or container.metadata.get("encoder") or ""
        texts = {"codec": codec.name, "encoder": encoder.strip()[:_LONGEST]}
        texts["sound"] = sound.codec_context.name if sound and sound.codec_context else ""
        return {
            "format": container.format.name.split(",")[0],
            "mode": codec.pix_fmt or "",
            "size": (codec.width, codec.height),
            "texts": {key: text for key, text in texts.items() if text},
        }


def _upright(header: dict, poster: np.ndarray) -> tuple[int, int] | None:
    """Height and width of the upright frames; None if the header does not state them."""
    if header["size"] is None:
        return None
    width, height = header["size"]
    turned = (poster.shape[1] - poster.shape[0]) * (width - height) < 0
    return (width, height) if turned else (height, width)


def _rgb(frame: np.ndarray) -> np.ndarray:
    """A frame `[H, W, C]` -> `[H, W, 3]`."""
    return frame[..., :3] if frame.shape[-1] >= 3 else np.repeat(frame[..., :1], 3, -1)


def _hash(*parts: bytes) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.digest()

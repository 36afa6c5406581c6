"""Pictures for the page: always re-encoded, so that nothing of the file itself reaches it."""

import os
import pathlib
import threading
import uuid
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg

from imgcls.data.decode.image import EncodedImage
from imgcls.studio.errors import NotFound, Refused
from imgcls.studio.home import Home
from imgcls.studio.pictures.media import Opened
from imgcls.studio.pictures.registered import open_below

SIZES = (64, 128, 256, 512)
MAX_SIDE = 4096
# Images that are decoded at a time.
_gate = threading.Semaphore(4)


def open_image(home: Home, row: Any, roots: Sequence[str]) -> Opened:
    """Opens the file of an image.

    Raises:
      NotFound: it is gone.
      Forbidden: it was registered in place, and is not below the roots any more.
    """
    if row.path is not None:
        return Opened(open_below(row.path, roots), pathlib.Path(row.path), row.name)
    path = home.picture(row.sha256, row.extension)
    try:
        return Opened(open(path, "rb"), path, row.name)
    except FileNotFoundError as e:
        raise NotFound(f"the file of image {row.id} is not in the home; restore a backup") from e


def thumbnail(home: Home, row: Any, size: int, roots: Sequence[str]) -> bytes:
    """A JPEG that fits into `size` x `size` pixels; made once, then read from the home."""
    if size not in SIZES:
        raise Refused(f"size: {size}; write one of {', '.join(map(str, SIZES))}")
    path = home.thumbnails / row.sha256[:2] / f"{row.sha256}.{size}.jpg"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    data = picture(home, row, size, roots, quality=85)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    part = path.with_name(f"{uuid.uuid4()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError:  # The disk is full: it is made again the next time.
        part.unlink(missing_ok=True)
    return data


def picture(home: Home, row: Any, size: int, roots: Sequence[str], quality: int = 92) -> bytes:
    """A JPEG of an image, poster frame or middle slice that fits into `size` x `size` pixels."""
    with _gate, open_image(home, row, roots) as opened:
        if row.media == "image":
            return to_jpeg(_decode(opened, size), size, quality)
        return to_jpeg(opened.poster().pixels, size, quality)


def to_jpeg(pixels: np.ndarray, size: int = MAX_SIDE, quality: int = 92) -> bytes:
    """Encodes uint8 `[H, W, 3]`, reduced to fit into `size` x `size`."""
    height, width = pixels.shape[:2]
    scale = min(1.0, size / max(height, width))
    if scale < 1:
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality)


def _decode(opened: Opened, size: int) -> np.ndarray:
    """Decodes an image, not much larger than needed."""
    encoded = EncodedImage(opened.data, opened.name)
    height, width, _ = encoded.shape
    halvings = 0
    while halvings < 3 and min(height, width) >> halvings >= 2 * size:
        halvings += 1
    box = (0, 0, height >> halvings << halvings, width >> halvings << halvings)
    return encoded.crop(box, halvings).copy()

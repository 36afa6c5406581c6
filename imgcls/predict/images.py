"""Images to predict, given as files, folders, globs, bytes, PIL images or arrays."""

import glob
import io
import os
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from imgcls.core import log
from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.decode.npz import as_volume
from imgcls.data.files import list_folder, read_example
from imgcls.data.listing import count_extensions, describe_extensions
from imgcls.data.sources.plain import PlainSource

ImageInput = str | os.PathLike | bytes | Image.Image | np.ndarray
Images = ImageInput | Iterable[ImageInput]

# Modes of image files that PNG can't store.
_CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV", "PA")


class ImageInputs(PlainSource):
    """Unlabeled images, volumes or videos as a `Source`.

    The decoder gets images as the bytes of a file; the arrays of volumes and videos need none.

    Args:
      images: one image or several; folders and globs are expanded to files.
      class_names: class names of the model.
      channels: number of channels of the model's images.
      axes: number of axes of an example before its channels: 2 for images, 3 for volumes and
        videos.
      videos: whether the examples are videos.

    Raises:
      ConfigError: a folder or glob without images, or an object that is not an image.
    """

    multi_label = False
    splits = ()

    def __init__(
        self,
        images: Images,
        class_names: tuple[str, ...],
        channels: int = 3,
        axes: int = 2,
        videos: bool = False,
    ):
        if isinstance(images, np.ndarray) and images.ndim == axes + 2:
            images = list(images)
        inputs = [images] if isinstance(images, ImageInput) else list(images)
        self._images = [
            image
            for number, item in enumerate(inputs)
            for image in _expand(item, number, channels, axes, videos)
        ]
        self.class_names = class_names
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        image, name = self._images[index], self.name(index)
        try:
            if isinstance(image, str):
                image = read_example(image)
            elif isinstance(image, Image.Image):
                with self._lock:  # Pillow reads lazily, and the list may repeat an image.
                    image.load()
                image = _encode(image)
        except (OSError, ValueError, SyntaxError) as e:
            raise DataError(f"{name}: can't be read: {one_line(e)}") from e
        return {"image": image, "label": 0}

    def path(self, index: int) -> str | None:
        """Returns the path of an image file; None for bytes, a PIL image or an array."""
        image = self._images[index]
        return image if isinstance(image, str) else None

    def labels(self) -> np.ndarray:
        """Returns the placeholder label 0 of every image, int `[N]`."""
        return np.zeros(len(self), np.int64)

    def name(self, index: int) -> str:
        return self.path(index) or f"image {index}"


def find_files(paths: Iterable[str], videos: bool = False) -> list[str]:
    """Returns the image files that paths, folders and globs name, each once, in order.

    Other files of a folder are passed over, and counted in a warning.

    Args:
      paths: paths of files and folders, and globs.
      videos: whether videos are searched for, see `list_files`.

    Raises:
      ConfigError: a path matches no image file.
    """
    unique: dict[str, None] = {}
    for path in paths:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        files, others = [], []
        for match in matches:
            images, rest = _files_in(match, videos)
            files += images
            others += rest
        passed_over = describe_extensions(count_extensions(others))
        if not files:
            found = f" (passed over: {passed_over})" if others else ""
            what = "videos" if videos else "images"
            raise ConfigError(f"{path}: no {what} found{found}; name files, folders or globs")
        if others:
            log.warning(f"{path}: passed over: {passed_over}")
        unique |= dict.fromkeys(files)
    return list(unique)


def common_folder(paths: Iterable[str]) -> str:
    """Returns the deepest folder that contains all files, folders and globs, as absolute path."""

    def folder(path: str) -> str:
        path = os.path.abspath(path)
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        return path

    return os.path.commonpath([folder(path) for path in paths])


def _expand(
    image: ImageInput, number: int, channels: int, axes: int, videos: bool
) -> list[ImageInput]:
    """Converts one input: a path to files, the array of an image to a PIL image."""
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        # A path that is neither a folder nor a glob is a file, even if it does not exist.
        is_file = os.path.lexists(path) or not glob.has_magic(path)
        if is_file and not os.path.isdir(path):
            return [path]
        return list(find_files([path], videos))
    if isinstance(image, np.ndarray):
        if videos:
            return [_check_clip(image, number, channels)]
        if axes == 3:
            return [_check_volume(image, number)]
        return [_to_image(image, number, channels)]
    if not isinstance(image, bytes | Image.Image):
        raise ConfigError(
            f"image {number} has the type {type(image).__name__}; pass a path, the bytes of a "
            "file, a PIL image or a uint8 array [H, W, C]"
        )
    return [image]


def _to_image(array: np.ndarray, number: int, channels: int) -> Image.Image | np.ndarray:
    shape = array.shape
    fits = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3, 4, channels))
    if array.dtype != np.uint8 or not fits or not array.size:
        raise ConfigError(
            f"image {number} is a {array.dtype} array {list(shape)}; "
            f"pass uint8 [H, W] or [H, W, {channels}]"
        )
    if len(shape) == 3 and shape[-1] not in (1, 3, 4):
        return array  # Pillow has no modes of other numbers of channels.
    return Image.fromarray(array[..., 0] if shape[2:] == (1,) else array)


def _check_clip(array: np.ndarray, number: int, channels: int) -> np.ndarray:
    if array.dtype != np.uint8 or array.shape[3:] != (channels,) or not array.size:
        raise ConfigError(
            f"video {number} is a {array.dtype} array {list(array.shape)}; pass uint8 "
            f"[T, H, W, {channels}]"
        )
    return array


def _check_volume(array: np.ndarray, number: int) -> np.ndarray:
    try:
        return as_volume(array, f"volume {number}").voxels
    except DataError as e:
        raise ConfigError(str(e)) from e


def _encode(image: Image.Image) -> bytes:
    """Encodes an image as upright PNG, so that it is decoded in the same way as a file."""
    image = ImageOps.exif_transpose(image)
    if image.mode in _CONVERTED:
        image = image.convert("RGB")
    encoded = io.BytesIO()
    image.save(encoded, "png", compress_level=0)
    return encoded.getvalue()


def _files_in(path: str, videos: bool) -> tuple[list[str], list[str]]:
    """The image files and the other files of a folder; a file counts as an image."""
    if not os.path.isdir(path):
        return [path], []
    listing = list_folder(path, videos)
    # A folder of frames that is `path` itself is listed as ".".
    images = [path if image == "." else os.path.join(path, image) for image in listing.images]
    return images, listing.others

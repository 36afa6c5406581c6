"""Pictures as people have them: files, folders, globs, bytes, PIL images, arrays."""

import glob
import io
import os
import pathlib
import threading
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps

from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.files import is_picture, read_file

Picture = str | os.PathLike | bytes | Image.Image | np.ndarray
Images = Picture | Iterable[Picture]

# What PNG can't hold and files have.
_CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV", "PA")


class Pictures:
    """Pictures as a source of `imgcls.data`; all reach the decoder as the bytes of a file.

    Args:
      images: one picture or several; folders and globs become the files that they name.
      class_names: of the model that is to classify them.

    Raises:
      ConfigError: a folder or glob without pictures, or something that is no picture.
    """

    multi_label = False

    def __init__(self, images: Images, class_names: tuple[str, ...]):
        if isinstance(images, np.ndarray) and images.ndim == 4:
            images = list(images)
        given = [images] if isinstance(images, Picture) else list(images)
        self._pictures = [
            picture for number, each in enumerate(given) for picture in _expand(each, number)
        ]
        self.class_names = class_names
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict:
        picture, name = self._pictures[index], self.name(index)
        try:
            if isinstance(picture, str):
                picture = read_file(picture)
            elif isinstance(picture, Image.Image):
                with self._lock:  # An image that Pillow has yet to read may be listed twice.
                    picture.load()
                picture = _encode(picture)
        except (OSError, ValueError, SyntaxError) as e:
            raise DataError(f"{name}: can't be read: {one_line(e)}") from e
        return {"image": picture, "label": 0}

    def path(self, index: int) -> str | None:
        """Of a file; None for a picture that was given itself."""
        picture = self._pictures[index]
        return picture if isinstance(picture, str) else None

    def name(self, index: int) -> str:
        return self.path(index) or f"picture {index}"


def find_files(paths: Iterable[str]) -> list[str]:
    """The image files that paths, folders and globs name, each once, in order.

    Raises:
      ConfigError: a path that names nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        files = [f for match in matches for f in _files_in(match)]
        if not files:
            raise ConfigError(f"{path}: no image there; give files, folders or globs")
        found |= dict.fromkeys(files)
    return list(found)


def common_folder(paths: Iterable[str]) -> str:
    """The deepest folder that holds all that paths, folders and globs name, absolute."""

    def folder(path: str) -> str:
        path = os.path.abspath(path)
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        return path

    return os.path.commonpath([folder(path) for path in paths])


def _expand(picture: Picture, number: int) -> list:
    """The files of a path; another picture as it is, an array as a PIL image."""
    if isinstance(picture, str | os.PathLike):
        path = os.fspath(picture)
        # What is neither a folder nor a glob is a file, and may turn out to be missing.
        is_file = os.path.lexists(path) or not glob.has_magic(path)
        return [path] if is_file and not os.path.isdir(path) else find_files([path])
    if isinstance(picture, np.ndarray):
        return [_to_image(picture, number)]
    if not isinstance(picture, bytes | Image.Image):
        raise ConfigError(
            f"picture {number} is a {type(picture).__name__}; give a path, the bytes of a file, a "
            "PIL image or a uint8 array [H, W, C]"
        )
    return [picture]


def _to_image(array: np.ndarray, number: int) -> Image.Image:
    shape = array.shape
    fits = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3, 4))
    if array.dtype != np.uint8 or not fits or not array.size:
        raise ConfigError(
            f"picture {number} is a {array.dtype} array {list(shape)}; give uint8 [H, W] or "
            "[H, W, C] with 1, 3 or 4 channels"
        )
    return Image.fromarray(array[..., 0] if shape[2:] == (1,) else array)


def _encode(image: Image.Image) -> bytes:
    """A PNG of an image, upright: the one decoder then treats it as it treats files."""
    image = ImageOps.exif_transpose(image)
    if image.mode in _CONVERTED:
        image = image.convert("RGB")
    encoded = io.BytesIO()
    image.save(encoded, "png", compress_level=0)
    return encoded.getvalue()


def _files_in(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    files = (p for p in pathlib.Path(path).rglob("*") if is_picture(p.relative_to(path).as_posix()))
    return sorted(str(p) for p in files if not p.is_dir())

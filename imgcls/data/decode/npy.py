"""NumPy arrays from `.npy` streams: no pickles, and no more memory than the header declares."""

import math
import threading
from typing import IO

import numpy as np

from imgcls.core.errors import DataError, one_line

# Largest array; MedMNIST's largest, RGB images of 224 pixels, takes 16 GB.
MAX_BYTES = 2**35
_MAX_AXES = 6
_PART = 2**24
# NumPy parses the header with `ast`, which on Python 3.11 fails now and then in several threads at
# once: "AST constructor recursion depth mismatch" (python/cpython#106905).
_header_lock = threading.Lock()


def read_npy(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """Reads an array of numbers.

    Args:
      file: stream at the start of a `.npy` file.
      size: number of bytes of the file.
      name: name for messages.

    Raises:
      DataError: not such a file, truncated, an array of Python objects or records, or one that is
        larger than `MAX_BYTES`.
    """
    try:
        with _header_lock:
            shape, fortran, dtype = _read_header(file)
    except (ValueError, EOFError, OSError) as e:
        raise DataError(f"{name}: not a .npy file ({one_line(e)})") from e
    if dtype.kind not in "buif":
        raise DataError(f"{name}: holds values of type {dtype}, not numbers; save an array of them")
    count = math.prod(shape) * dtype.itemsize
    if count > MAX_BYTES or len(shape) > _MAX_AXES:
        raise DataError(f"{name}: its shape {shape} is larger than the {MAX_BYTES:,} bytes allowed")
    if count != size - file.tell():
        raise DataError(
            f"{name}: truncated or broken: its shape {shape} takes {count:,} bytes, and "
            f"{size - file.tell():,} are there"
        )
    array = np.empty(math.prod(shape), dtype)
    _fill(array.view(np.uint8), file, name)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version[0]}.{version[1]} of the format")


def _fill(array: np.ndarray, file: IO[bytes], name: str) -> None:
    """Fills an array of bytes from a stream, a part at a time."""
    filled = 0
    while filled < len(array):
        part = file.read(min(_PART, len(array) - filled))
        if not part:
            raise DataError(f"{name}: ends after {filled:,} of {len(array):,} bytes")
        array[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
        filled += len(part)

"""Decodes crops of JPEGs with TurboJPEG 3 through ctypes; no Python package offers its cropping.

Only the rows down to the crop's last one are entropy decoded, and only the crop's blocks are
transformed. The pixels equal those of a full decode, bit for bit, and the GIL is released. The
library comes from the package `turbojpeg` or from the system.
"""

import ctypes
import ctypes.util
import functools
import importlib.metadata
import threading
from typing import NamedTuple

import numpy as np

# From turbojpeg.h of version 3.
_DECOMPRESS = 1
_STOP_ON_WARNING, _SUBSAMPLING, _WIDTH, _HEIGHT, _COLORSPACE = 0, 4, 5, 6, 8
_PIXEL_FORMAT = {1: 6, 3: 0}  # gray and RGB, by the number of channels
_CMYK = (3, 4)
_BLOCK = 8
# Width of an MCU in pixels, by subsampling: 4:4:4, 4:2:2, 4:2:0, gray, 4:4:0, 4:1:1, 4:4:1.
_MCU_WIDTH = (8, 16, 16, 8, 8, 32, 8)
# Subsampled chroma is interpolated from neighboring columns, which needs a margin on both sides.
_MARGIN = 2
# Bytes of the largest buffer that a thread keeps.
_MAX_SCRATCH = 2**26


class Header(NamedTuple):
    """Size of an image, and the width of its MCUs (groups of blocks), in pixels."""

    height: int
    width: int
    mcu_width: int


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


class _Scale(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("num", "denom")]


class Decoder:
    """Decodes crops of JPEGs. Not thread-safe: see `get_decoder`.

    Args:
      path: path of the library.
    """

    def __init__(self, path: str):
        # Fast functions are called through PyDLL, which keeps the GIL; CDLL releases it.
        self._lib, self._no_gil_lib = _declare(ctypes.PyDLL(path)), _declare(ctypes.CDLL(path))
        self._handle = ctypes.c_void_p(self._lib.tj3Init(_DECOMPRESS))
        self._scratch = np.empty(0, np.uint8)
        self._lib.tj3Set(self._handle, _STOP_ON_WARNING, 1)
        self._current = None  # the data whose header the library has read last

    def read_header(self, data: bytes) -> Header | None:
        """Reads the header of a JPEG; returns None if this decoder does not support it."""
        self._current = None
        if self._lib.tj3DecompressHeader(self._handle, data, len(data)):
            return None
        self._current = data
        get = functools.partial(self._lib.tj3Get, self._handle)
        subsampling = get(_SUBSAMPLING)
        if get(_COLORSPACE) in _CMYK or not 0 <= subsampling < len(_MCU_WIDTH):
            return None
        return Header(get(_HEIGHT), get(_WIDTH), _MCU_WIDTH[subsampling])

    def crop(
        self, data: bytes, header: Header, box: tuple[int, int, int, int], halvings: int, channels
    ) -> np.ndarray | None:
        """Decodes the pixels of a box.

        Args:
          data: bytes of the JPEG.
          header: its header, from `read_header`.
          box: (top, left, height, width), multiples of 2^halvings.
          halvings: how often both sides are halved in the DCT domain, 0 to 3.
          channels: 1 or 3.

        Returns:
          uint8 `[height / 2^halvings, width / 2^halvings, channels]`, valid until the next call;
          None if the data is corrupted.
        """
        top, left, height, width = (side >> halvings for side in box)
        mcu_width = header.mcu_width >> halvings
        margin = _MARGIN if header.mcu_width > _BLOCK else 0
        first = max(0, (left - margin) // mcu_width * mcu_width)
        last = min(-(-header.width >> halvings), left + width + margin)
        out = self._buffer(height, last - first, channels)
        lib, handle = self._lib, self._handle
        failed = (
            (data is not self._current and lib.tj3DecompressHeader(handle, data, len(data)))
            or lib.tj3SetScalingFactor(handle, _Scale(1, 1 << halvings))
            or lib.tj3SetCroppingRegion(handle, _Region(first, top, last - first, height))
            or self._no_gil_lib.tj3Decompress8(
                handle, data, len(data), out.ctypes.data, 0, _PIXEL_FORMAT[channels]
            )
        )
        self._current = None if failed else data
        # Reset the region, which may not fit the next image.
        lib.tj3SetCroppingRegion(handle, _Region(0, 0, 0, 0))
        return None if failed else out[:, left - first : left - first + width]

    def _buffer(self, height: int, width: int, channels: int) -> np.ndarray:
        """A buffer that is reused between calls: new memory costs a page fault per 4 kB."""
        size = height * width * channels
        if size > _MAX_SCRATCH:
            return np.empty((height, width, channels), np.uint8)
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size].reshape(height, width, channels)

    def __del__(self):
        self._lib.tj3Destroy(self._handle)


class _ThreadLocal(threading.local):
    """A thread's decoder, created by its first call of `get_decoder`."""

    decoder: Decoder | None = None


_local = _ThreadLocal()


def get_decoder() -> Decoder | None:
    """Returns this thread's decoder; None if TurboJPEG 3 is not installed."""
    path = _find_library()
    if _local.decoder is None and path is not None:
        _local.decoder = Decoder(path)
    return _local.decoder


@functools.cache
def _find_library() -> str | None:
    for path in filter(None, (_packaged_library(), ctypes.util.find_library("turbojpeg"))):
        try:
            _declare(ctypes.CDLL(path))
        except (OSError, AttributeError):  # Older versions lack functions of version 3.
            continue
        return path
    return None


def _packaged_library() -> str | None:
    """Path of the library in the wheel of `turbojpeg`."""
    try:
        files = importlib.metadata.files("turbojpeg") or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    libraries = (f for f in files if f.name.startswith("libturbojpeg"))
    return next((str(f.locate()) for f in libraries), None)


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    handle, number, address = ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
    data = (ctypes.c_char_p, ctypes.c_size_t)
    signatures = {
        "tj3Init": (number,),
        "tj3Destroy": (handle,),
        "tj3Set": (handle, number, number),
        "tj3Get": (handle, number),
        "tj3DecompressHeader": (handle, *data),
        "tj3SetScalingFactor": (handle, _Scale),
        "tj3SetCroppingRegion": (handle, _Region),
        "tj3Decompress8": (handle, *data, address, number, number),
    }
    for name, arguments in signatures.items():
        getattr(library, name).argtypes = arguments
    library.tj3Init.restype = handle
    library.tj3Destroy.restype = None
    return library

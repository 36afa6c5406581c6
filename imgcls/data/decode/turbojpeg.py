"""A part of a JPEG's pixels: TurboJPEG 3 by ctypes, since no Python package offers its cropping.

Only the rows down to the part's last one are entropy decoded, and only the part's blocks are
transformed. The pixels equal those of a whole decoding, bit for bit, and the interpreter lock is
free meanwhile. The library comes with the package `turbojpeg`, or from the system.
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
_PIXEL_FORMAT = {1: 6, 3: 0}  # grey and RGB, by the number of channels
_CMYK = (3, 4)
_BLOCK = 8
# Width of the units of blocks, by subsampling: 4:4:4, 4:2:2, 4:2:0, grey, 4:4:0, 4:1:1, 4:4:1.
_UNIT_WIDTH = (8, 16, 16, 8, 8, 32, 8)
# Chroma of fewer columns is interpolated from neighbours: a part has a margin to both sides then.
_MARGIN = 2
# Bytes of the largest buffer that a thread keeps.
_KEPT = 2**26


class Header(NamedTuple):
    """Size of a picture, and the width in pixels of its units of blocks."""

    height: int
    width: int
    unit: int


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


class _Scale(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("num", "denom")]


class Decoder:
    """Decodes parts of JPEGs. Not for two threads at once: see `get_decoder`.

    Args:
      path: of the library.
    """

    def __init__(self, path: str):
        # What takes microseconds keeps the interpreter lock, which costs more to give and take.
        self._lib, self._free_lib = _declare(ctypes.PyDLL(path)), _declare(ctypes.CDLL(path))
        self._handle = ctypes.c_void_p(self._lib.tj3Init(_DECOMPRESS))
        self._scratch = np.empty(0, np.uint8)
        self._lib.tj3Set(self._handle, _STOP_ON_WARNING, 1)
        self._read = None  # the data whose header the library holds

    def read_header(self, data: bytes) -> Header | None:
        """The picture's header; None for one that this decoder leaves to others."""
        self._read = None
        if self._lib.tj3DecompressHeader(self._handle, data, len(data)):
            return None
        self._read = data
        get = functools.partial(self._lib.tj3Get, self._handle)
        subsampling = get(_SUBSAMPLING)
        if get(_COLORSPACE) in _CMYK or not 0 <= subsampling < len(_UNIT_WIDTH):
            return None
        return Header(get(_HEIGHT), get(_WIDTH), _UNIT_WIDTH[subsampling])

    def crop(
        self, data: bytes, header: Header, box: tuple[int, int, int, int], halvings: int, channels
    ) -> np.ndarray | None:
        """Pixels of a box.

        Args:
          data: of the JPEG.
          header: of it, by `read_header`.
          box: (top, left, height, width), multiples of 2^halvings.
          halvings: how often both sides are halved in the DCT domain, 0 to 3.
          channels: 1 or 3.

        Returns:
          uint8 `[height / 2^halvings, width / 2^halvings, channels]`, valid until the next call;
          None if anything in the data is wrong.
        """
        top, left, height, width = (side >> halvings for side in box)
        unit = header.unit >> halvings
        margin = _MARGIN if header.unit > _BLOCK else 0
        first = max(0, (left - margin) // unit * unit)
        last = min(-(-header.width >> halvings), left + width + margin)
        out = self._buffer(height, last - first, channels)
        lib, handle = self._lib, self._handle
        failed = (
            (data is not self._read and lib.tj3DecompressHeader(handle, data, len(data)))
            or lib.tj3SetScalingFactor(handle, _Scale(1, 1 << halvings))
            or lib.tj3SetCroppingRegion(handle, _Region(first, top, last - first, height))
            or self._free_lib.tj3Decompress8(
                handle, data, len(data), out.ctypes.data, 0, _PIXEL_FORMAT[channels]
            )
        )
        self._read = None if failed else data
        # The region stays set otherwise, and would not fit the next picture.
        lib.tj3SetCroppingRegion(handle, _Region(0, 0, 0, 0))
        return None if failed else out[:, left - first : left - first + width]

    def _buffer(self, height: int, width: int, channels: int) -> np.ndarray:
        """Kept from call to call: fresh memory costs a page fault for every 4 kB."""
        size = height * width * channels
        if size > _KEPT:
            return np.empty((height, width, channels), np.uint8)
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size].reshape(height, width, channels)

    def __del__(self):
        self._lib.tj3Destroy(self._handle)


class _Local(threading.local):
    """A thread's decoder, once it has asked for one."""

    decoder: Decoder | None = None


_local = _Local()


def get_decoder() -> Decoder | None:
    """This thread's decoder; None where no TurboJPEG 3 is installed."""
    path = _find_library()
    if _local.decoder is None and path is not None:
        _local.decoder = Decoder(path)
    return _local.decoder


@functools.cache
def _find_library() -> str | None:
    for path in filter(None, (_packaged_library(), ctypes.util.find_library("turbojpeg"))):
        try:
            _declare(ctypes.CDLL(path))
        except (OSError, AttributeError):  # Earlier versions lack functions of version 3.
            continue
        return path
    return None


def _packaged_library() -> str | None:
    """The library inside the wheel of `turbojpeg`."""
    try:
        files = importlib.metadata.files("turbojpeg") or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (f for f in files if f.name.startswith("libturbojpeg"))
    return next((str(f.locate()) for f in found), None)


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

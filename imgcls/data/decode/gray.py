"""Gray images of more than 8 bits per sample: scaled to 8 bits by the range of their samples."""

import numpy as np
from PIL import Image

from imgcls.core import log
from imgcls.core.errors import DataError

BITS_PER_SAMPLE = 258  # TIFF tag
# Valid values of `data.bits`. Pillow's samples of 32 bits are signed.
MIN_BITS, MAX_BITS = 8, 31
# Samples of 16 bits that use no more than these look almost black.
DARK_BITS = 12


def is_deep(image: Image.Image) -> bool:
    """Whether a file is gray with more than 8 bits per sample."""
    return image.mode.startswith("I")


def count_used_bits(image: Image.Image) -> int:
    """Returns the number of bits of the largest sample."""
    return int(np.asarray(image).max(initial=0)).bit_length()


def to_8_bits(image: Image.Image, name: str, bits: int | None) -> np.ndarray:
    """Returns the upper 8 bits of a deep gray image, uint8 `[H, W]`.

    Args:
      image: an image for which `is_deep` holds.
      name: name of the record, for messages.
      bits: number of bits that the samples use; None is as many as the file declares.

    Raises:
      DataError: a sample does not fit into `bits`, or has 32 bits and `bits` is None: such a file
        does not state its range.
    """
    values = np.asarray(image)
    if bits is not None:
        _check_range(values, name, bits)
        return (values >> (bits - 8)).astype(np.uint8)
    bits = _declared_bits(image)
    if bits > 16:
        raise DataError(
            f"{name}: has samples of {bits} bits (the largest is {values.max(initial=0):,}) and "
            "does not state their range: set config.data.bits to the number of bits that they "
            "use, such as 8 or 16, or save it with 8 or 16 bits"
        )
    if bits == 16 and 0 < count_used_bits(image) <= DARK_BITS:
        log.warn_once(
            f"there are gray images of 16 bits that use at most {DARK_BITS} of these and look "
            "almost black; if that is the range of all of them, set "
            f"config.data.bits={DARK_BITS} (or fewer)"
        )
    # In place where possible, to save memory.
    shifted = values >> (bits - 8)
    return np.clip(shifted, 0, 255, out=shifted).astype(np.uint8)


def _declared_bits(image: Image.Image) -> int:
    """The bits per sample that a TIFF declares; other deep formats have 16."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(BITS_PER_SAMPLE, (16,))[0])


def _check_range(values: np.ndarray, name: str, bits: int) -> None:
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high >= 1 << bits:
        raise DataError(
            f"{name}: has samples from {low:,} to {high:,}, but config.data.bits={bits} allows 0 "
            f"to {(1 << bits) - 1:,}"
        )

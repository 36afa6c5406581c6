"""Whether other frames of a video refer to a packet, without decoding it."""

from typing import Any

# Types of the units that hold parts of a picture (ITU-T H.264, table 7-1).
_PICTURE = (1, 2, 5)
_START_CODE = b"\0\0\1"


def is_unused(packet: Any, codec: Any) -> bool:
    """Whether a packet is left out without changing any other frame: so far, of H.264 alone.

    A picture with `nal_ref_idc` 0 is no reference (ITU-T H.264, section 7.4.1).

    Args:
      packet: `av.Packet`.
      codec: `av.CodecContext` of its stream.
    """
    if codec.name != "h264" or packet.is_keyframe:
        return False
    data, header = memoryview(packet), codec.extradata
    if header and header[0] == 1 and len(header) > 4:
        starts = _after_lengths(data, (header[4] & 3) + 1)
    else:
        starts = _after_codes(bytes(data))
    units = [data[start] for start in starts]
    pictures = [unit for unit in units if unit & 31 in _PICTURE]
    return bool(pictures) and not any(unit & 0x60 for unit in pictures)


def _after_lengths(data: memoryview, width: int) -> list[int]:
    """Positions of units that begin with their lengths, as in MP4 (ISO/IEC 14496-15)."""
    starts, at = [], 0
    while at + width < len(data):
        starts.append(at + width)
        at += width + int.from_bytes(data[at : at + width], "big")
    return starts


def _after_codes(data: bytes) -> list[int]:
    """Positions of units that follow start codes (ITU-T H.264, annex B)."""
    starts, at = [], data.find(_START_CODE)
    while 0 <= at < len(data) - len(_START_CODE):
        starts.append(at + len(_START_CODE))
        at = data.find(_START_CODE, at + len(_START_CODE))
    return starts

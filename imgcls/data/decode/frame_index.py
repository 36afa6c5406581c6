"""Which packet of a video holds each frame, and when it is shown.

The packets are read without decoding them, and sorted by their presentation times. Some files state
no reliable times, such as AVI; there the order is the one in which the decoder returns all frames.
"""

import contextlib
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imgcls.core.errors import DataError
from imgcls.data.decode.packets import open_video, read_packets, require_av
from imgcls.data.decode.references import is_unused

# Codecs of AVI whose frames are shown in the order in which they are stored.
_IN_ORDER = ("mjpeg", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "h263", "flv1")
# Bit of the first byte of a frame of VP8.
_VP8_SHOWN = 0x10


# Indices by digest of the file, for the next epoch; of so many frames in total.
_known: dict[bytes, "FrameIndex"] = {}
_MAX_KNOWN = 2**21


class FrameIndex(NamedTuple):
    """What the P packets of a video say about its N frames.

    Attributes:
      packets: int `[N]`, number of the packet of each frame, in the order of presentation.
      place: int `[P]`, number of the frame of each packet; -1 for those that are not shown.
      rank: int `[P]`, place of each packet in the order of presentation of all packets.
      keys: int `[K]`, numbers of the packets that decoding can start from.
      times: float64 `[N]`, seconds since the first frame; None if unknown.
      unused: bool `[P]`, packets that no other frame refers to, as far as it is known.
      counted: whether packets do not identify frames: frame n is the n-th that is decoded.
    """

    packets: np.ndarray
    place: np.ndarray
    rank: np.ndarray
    keys: np.ndarray
    times: np.ndarray | None
    unused: np.ndarray
    counted: bool = False

    def start(self, frame: int) -> int:
        """The packet from which a frame is decoded.

        It is the last keyframe that precedes the frame in the file and in time: what follows a
        keyframe in the file and precedes it in time may refer to frames before it.
        """
        packet = self.packets[frame]
        before = self.keys[: np.searchsorted(self.keys, packet, side="right")]
        usable = before[self.rank[before] <= self.rank[packet]]
        return int(usable[-1]) if len(usable) else 0


def read_index(data: bytes | pathlib.Path, name: str) -> FrameIndex:
    """Indexes a video by the presentation times of its packets, or by decoding it.

    Raises:
      DataError: see `packets.open_video`, or there are no frames.
    """
    return _remember(data, lambda: _read_index(data, name), b"read")


def decode_index(data: bytes | pathlib.Path, name: str) -> FrameIndex:
    """Indexes a video by decoding all frames, with broken ones as far as possible.

    Decoding starts from the first packet, and leaves out none.

    Args:
      data: bytes or path of the file.
      name: name for messages.

    Raises:
      DataError: see `packets.open_video`, or no frame can be decoded.
    """
    return _remember(data, lambda: _decode_index(data, name, []), b"decoded")


def _remember(
    data: bytes | pathlib.Path, make: Callable[[], FrameIndex], kind: bytes
) -> FrameIndex:
    """The index of a file, which is only made once if the file is in memory."""
    if isinstance(data, pathlib.Path):
        return make()
    key = hashlib.blake2b(data, digest_size=16).digest() + kind
    if key not in _known:
        index = make()
        if sum(len(other.packets) for other in list(_known.values())) > _MAX_KNOWN:
            return index
        _known[key] = index
    return _known[key]


def _read_index(data: bytes | pathlib.Path, name: str) -> FrameIndex:
    pts, keys, shown, unused = [], [], [], []
    with open_video(data, name) as stream:
        for number, packet in enumerate(read_packets(stream, name)):
            pts.append(packet.pts)
            shown.append(not packet.is_discard and not _is_hidden(packet, stream))
            unused.append(is_unused(packet, stream.codec_context))
            if packet.is_keyframe:
                keys.append(number)
        time_base, has_times = float(stream.time_base), _has_times(stream)
        is_gif = stream.container.format.name == "gif"
    if not any(shown):
        raise DataError(f"{name}: has no frames")
    # Frames of a GIF are drawn over those before.
    keys = [0] if is_gif else keys
    is_unique = None not in pts and len(set(pts)) == len(pts)
    # Frames before the first keyframe may refer to ones that are cut off.
    if not has_times or not is_unique or keys[:1] != [0] or np.argmin(pts) > 0:
        return _decode_index(data, name, keys)
    order = np.argsort(pts)
    packets = order[np.array(shown)[order]]
    times = (np.array(pts)[packets] - pts[packets[0]]) * time_base
    return _make_index(packets, order, keys, times, unused)


def _decode_index(data: bytes | pathlib.Path, name: str, keys: list[int]) -> FrameIndex:
    """See `decode_index`; with `keys`, decoding can start from these packets."""
    pts, dts, tags, unused = [], [], [], []
    error = require_av(name).error.FFmpegError
    with open_video(data, name) as stream:
        for number, packet in enumerate(read_packets(stream, name)):
            pts.append(packet.pts)
            dts.append(packet.dts)
            unused.append(bool(keys) and is_unused(packet, stream.codec_context))
            packet.pts, packet.dts = number, None
            with contextlib.suppress(error):
                tags += [frame.pts for frame in stream.decode(packet)]
        with contextlib.suppress(error):
            tags += [frame.pts for frame in stream.decode(None)]
        time_base, rate = float(stream.time_base), stream.average_rate
    if not tags:
        raise DataError(f"{name}: has no frames that can be decoded")
    counted = None in tags or len(set(tags)) < len(tags)
    times = _find_times([] if counted else [pts[tag] for tag in tags], dts, len(tags))
    if times is not None:
        times = (times - times[0]) * time_base
    elif rate:
        times = np.arange(len(tags)) / float(rate)
    if counted:
        packets = np.arange(len(tags))
        order = np.arange(max(len(pts), len(tags)))
        nothing = [False] * len(order)
        return _make_index(packets, order, [0], times, nothing)._replace(counted=True)
    packets = np.array(tags)
    order = np.concatenate([packets, np.setdiff1d(np.arange(len(pts)), packets)])
    return _make_index(packets, order, sorted({0, *keys} & {0, *tags}), times, unused)


def _make_index(
    packets: np.ndarray,
    order: np.ndarray,
    keys: list[int],
    times: np.ndarray | None,
    unused: list[bool],
) -> FrameIndex:
    """The index of frames by their packets `[N]`, and the order of all packets `[P]`."""
    place, rank = np.full(len(order), -1, np.int32), np.empty(len(order), np.int32)
    place[packets], rank[order] = np.arange(len(packets)), np.arange(len(order))
    return FrameIndex(
        packets.astype(np.int32), place, rank, np.array(keys), times, np.array(unused)
    )


def _has_times(stream: Any) -> bool:
    """Whether the presentation times of packets are those of the file.

    AVI and MPEG state none, or not all. They are right if frames are shown in the order in which
    they are stored.
    """
    codec, kind = stream.codec_context, stream.container.format.name
    in_order = codec.name in _IN_ORDER or (codec.name == "mpeg4" and not codec.has_b_frames)
    return kind not in ("avi", "mpeg") or (kind == "avi" and in_order)


def _find_times(pts: list, dts: list, count: int) -> np.ndarray | None:
    """Times of frames in the order of presentation, int64 `[N]`; None if they are not stated.

    Args:
      pts: presentation times of the packets of the frames, in the order of the frames.
      dts: decoding times of all packets.
      count: N.
    """
    for times in (pts, [] if None in dts else sorted(dts)):
        if len(times) == count and None not in times and (np.diff(times) > 0).all():
            return np.array(times)
    return None


def _is_hidden(packet: Any, stream: Any) -> bool:
    """Whether a packet is a frame of VP8 to which others refer, and which is not shown."""
    return stream.codec_context.name == "vp8" and not memoryview(packet)[0] & _VP8_SHOWN

"""Transforms that choose the frames of a clip, which come first in a recipe, and views of it.

`fn(video, rng) -> clip`: a clip is uint8 `[T, H, W, C]`, or `[V, T, H, W, C]` of several views; in
evaluation there is no `rng`. The transforms that follow are those of images, which are applied to
all frames with the same random numbers.
"""

import math

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.decode.clips import Video, duration, stated_times
from imgcls.data.decode.frame_pixels import FrameSize
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import (
    ClipTransform,
    ViewTransform,
    register_clip_transform,
    register_transform,
)

_SHORT = ("loop", "hold", "pad")
# Times that differ by less, in seconds, are the same.
_SAME = 1e-6


@register_clip_transform("sample_frames")
def sample_frames(
    length: int,
    stride: int = 1,
    fps: float | None = None,
    clips: int = 1,
    short: str = "loop",
    size: FrameSize = None,
) -> ClipTransform:
    """Samples one stretch of frames at equal distances: at random in training.

    In evaluation the stretch is in the middle, or there are several, evenly spaced from the start
    to the end (Wang et al. 2017, https://arxiv.org/abs/1711.07971, section 4.1), whose logits are
    averaged.

    Args:
      length: number of frames T.
      stride: distance of two frames, in frames of the video.
      fps: frames per second instead of a stride: the frames that are shown at these times, whatever
        the frame rate of the video, which may also vary.
      clips: number of stretches V in evaluation.
      short: what follows the end of a video that is too short: 'loop', its start, or 'hold', its
        last frame; 'pad' as 'hold', but batches state as `length` how many frames are no padding,
        and models with `takes_length` see only these.
      size: size to which frames are scaled while they are decoded, the shorter side or (H, W); this
        is faster than a transform, and takes less memory. None: as in the file.
    """
    for name, value in (("length", length), ("stride", stride), ("clips", clips)):
        spec.check_integer(name, value, 1)
    if fps is not None:
        spec.check_number("fps", fps, 1e-3)
        if stride != 1:
            raise ValueError(f"stride={stride!r} and fps={fps!r} exclude each other; leave one out")
    spec.check_choice("short", short, _SHORT)
    _check_size(size)

    def sample(video, rng):
        if fps is None:
            end, step = len(video), stride
            room = max(0, end - 1 - (length - 1) * step)
            starts = _choose(room, clips, None if rng is None else int(rng.integers(room + 1)))
            numbers = (starts.astype(int) + step * np.arange(length)[:, None]).T
            indices = numbers % end if short == "loop" else np.minimum(numbers, end - 1)
        else:
            times = stated_times(video)
            room = max(0.0, times[-1] - (length - 1) / fps)
            starts = _choose(room, clips, None if rng is None else rng.uniform(0, room))
            seconds = (starts + np.arange(length)[:, None] / fps).T
            indices = _shown_at(seconds, times, short)
        clip = video.frames(indices.ravel(), size)
        return clip.reshape(*indices.shape, *clip.shape[1:]) if len(starts) > 1 else clip

    def count(video: Video) -> int:
        if fps is None:
            return min(length, -(-len(video) // stride))
        stated_times(video)
        return min(length, max(1, math.ceil((duration(video) or 0) * fps - _SAME)))

    counted = count if short == "pad" else None
    if fps is not None:
        return ClipTransform(sample, seconds=length / fps, count=counted)
    return ClipTransform(sample, frames=length * stride, count=counted)


@register_transform("three_crops")
def three_crops(size: int) -> ViewTransform:
    """Makes three clips of each: square crops along the longer side, at its ends and its middle.

    With `sample_frames(clips=10)` before it, an evaluation averages the usual 30 views (Wang et al.
    2017, https://arxiv.org/abs/1711.07971, section 4.1).

    Args:
      size: side of the crops; neither side of the frames may be shorter.
    """
    spec.check_integer("size", size, 1)

    def crop(clips: np.ndarray) -> np.ndarray:
        height, width = clips.shape[2:4]
        if min(height, width) < size:
            raise ConfigError(
                f"config.data: three_crops({size}): the frames have {width} x {height} pixels: add "
                f"size={size} to the transform that samples them"
            )
        down, right = height - size, width - size
        # Along the shorter side, all are in the middle.
        tops = [0, down // 2, down] if down > right else [down // 2] * 3
        lefts = [right // 2] * 3 if down > right else [0, right // 2, right]
        corners = zip(tops, lefts, strict=True)
        crops = [clips[:, :, top : top + size, left : left + size] for top, left in corners]
        return np.concatenate(crops)

    return ViewTransform(crop)


def _choose(room: float, clips: int, drawn: float | None) -> np.ndarray:
    """The starts of the stretches `[V]` from 0 to `room`: the one that was drawn, if any."""
    if drawn is not None:
        return np.array([drawn])
    return np.linspace(0, room, clips) if clips > 1 else np.array([room / 2])


def _shown_at(seconds: np.ndarray, times: np.ndarray, short: str) -> np.ndarray:
    """The frames that are shown at some times, of the same shape.

    Args:
      seconds: times since the first frame.
      times: `[N]`, when each frame is shown first; the last one is shown as long as the others are
        on average.
      short: see `sample_frames`.
    """
    seconds = seconds + _SAME
    if short == "loop" and len(times) > 1:
        seconds %= times[-1] * len(times) / (len(times) - 1)
    return np.searchsorted(times, seconds, side="right") - 1


@register_clip_transform("sample_segments")
def sample_segments(segments: int, size: FrameSize = None) -> ClipTransform:
    """Samples one frame of each of several equal parts of the video, as TSN does.

    Wang et al. 2016, https://arxiv.org/abs/1608.00859, section 3.1: a random frame of each part in
    training, the middle one in evaluation. A video with fewer frames repeats some.

    Args:
      segments: number of parts, which is the number of frames T.
      size: see `sample_frames`.
    """
    spec.check_integer("segments", segments, 1)
    _check_size(size)

    def sample(video, rng):
        within = 0.5 if rng is None else rng.random(segments)
        indices = (np.arange(segments) + within) * len(video) / segments
        return video.frames(indices.astype(int), size)

    return ClipTransform(sample)


def _check_size(size: FrameSize) -> None:
    if size is None:
        return
    sides = (size,) if isinstance(size, int) else size
    if not isinstance(sides, tuple | list) or len(sides) > 2 or len(sides) == 0:
        raise ValueError(f"size={size!r} must be an integer or a pair (height, width)")
    for side in sides:
        spec.check_integer("size", side, 1)

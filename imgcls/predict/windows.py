"""Windows of a long video, read as a stream."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.decode.clips import stated_times
from imgcls.data.decode.frame_pixels import FrameSize
from imgcls.data.decode.video import EncodedVideo
from imgcls.data.transforms import spec
from imgcls.data.transforms.apply import transform_clip
from imgcls.data.transforms.transform import TRANSFORMS, ClipTransform

# Times that differ by less, in seconds, are the same.
_SAME = 1e-6


class Window(NamedTuple):
    """A part of a video.

    Attributes:
      start, end: seconds since the first frame.
      clip: uint8 `[T, H, W, C]`, or `[V, T, H, W, C]`, after the evaluation transforms.
    """

    start: float
    end: float
    clip: np.ndarray


def read_windows(path: str, every: float, config: ConfigDict, channels: int) -> Iterator[Window]:
    """Yields the windows of a video in turn; only a few frames are in memory at any time.

    A window is sampled as a video of its own, and with frames around it if it is shorter than what
    the transform samples.

    Args:
      path: file of a video.
      every: length of a window in seconds; the last one may be shorter.
      config: config of the model.
      channels: channels of its videos.

    Raises:
      ConfigError: the file is a folder of frames, whose times are not known.
      DataError: the file can't be read.
    """
    if pathlib.Path(path).is_dir():
        raise ConfigError(f"--every: {path} is a folder of frames, whose times are not known")
    recipe = spec.parse(config.data.eval_transform, TRANSFORMS, "config.data.eval_transform")
    sampler, others = recipe[0], recipe[1:]
    video = EncodedVideo(pathlib.Path(path), path, channels=channels)
    parts = list(_cut(stated_times(video), every, sampler))
    plans = [_Plan(video, first, last) for _, _, first, last in parts]
    shapes = [sampler(plan, None).shape[:-3] for plan in plans]
    clips = video.clips([plan.numbers for plan in plans], plans[0].size)
    for number, (clip, shape) in enumerate(zip(clips, shapes, strict=True)):
        clip = clip.reshape(*shape, *clip.shape[1:])
        rng = np.random.default_rng((config.seed, number))
        yield Window(*parts[number][:2], transform_clip(clip, others, rng))


class _Plan:
    """Frames `first` to before `last` of a video; it records which ones a sampler takes."""

    def __init__(self, video: EncodedVideo, first: int, last: int):
        times = stated_times(video)[first:last]
        self.name, self.times, self._first = video.name, times - times[0], first
        self.numbers, self.size = np.zeros(0, int), None

    def __len__(self) -> int:
        return len(self.times)

    def frames(self, indices: Sequence[int] | np.ndarray, size: FrameSize = None) -> np.ndarray:
        self.numbers, self.size = self._first + np.asarray(indices, int), size
        return np.zeros((len(self.numbers), 1, 1, 1), np.uint8)


def _cut(
    times: np.ndarray, every: float, sampler: ClipTransform
) -> Iterator[tuple[float, float, int, int]]:
    """Start and end of each window, and the numbers of its first frame and of that after its last.

    Args:
      times: `[N]`, when each frame is shown.
      every: length of a window in seconds.
      sampler: transform that says how long a clip is.
    """
    count = len(times)
    # The last frame is shown as long as the others are on average.
    total = times[-1] * count / (count - 1) if count > 1 else every
    for number in range(max(1, int(np.ceil(total / every - _SAME)))):
        start, end = number * every, min((number + 1) * every, total)
        wide = max(0.0, (sampler.seconds or 0) - (end - start)) / 2
        from_time = max(0.0, min(start - wide, total - (sampler.seconds or 0)))
        to_time = max(end + wide, from_time + (sampler.seconds or 0))
        first = int(np.searchsorted(times, from_time - _SAME))
        last = int(np.searchsorted(times, to_time - _SAME))
        if last <= first:  # No frame begins in the window: the one that is shown then.
            first, last = max(first - 1, 0), max(first, 1)
        missing = (sampler.frames or 0) - (last - first)
        if missing > 0:
            first = max(0, min(first - missing // 2, count - (sampler.frames or 0)))
            last = min(count, first + (sampler.frames or 0))
        yield start, end, first, last

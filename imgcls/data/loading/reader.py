"""Reads, decodes and transforms the example at a position of the order."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from imgcls.core import log
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.bands import is_npy_image
from imgcls.data.decode.clips import ArrayVideo, duration
from imgcls.data.decode.containers import is_video
from imgcls.data.decode.frame_files import EncodedFrames, is_packed
from imgcls.data.decode.image import EncodedImage
from imgcls.data.decode.video import EncodedVideo
from imgcls.data.decode.volume import decode_volume, is_volume
from imgcls.data.decode.voxels import Volume
from imgcls.data.loading.order import Balanced, example_at
from imgcls.data.loading.views import VIEWS, Partners
from imgcls.data.sources.source import Source
from imgcls.data.transforms.apply import (
    clip_stages,
    image_stages,
    transform_image,
    transform_video,
    transform_volume,
    volume_stages,
)
from imgcls.data.transforms.transform import ClipTransform, Transform, VolumeTransform

# What an example is before its transforms.
Example = np.ndarray | EncodedImage | Volume | EncodedVideo | EncodedFrames | ArrayVideo
_VIDEOS = (EncodedVideo, EncodedFrames, ArrayVideo)

_SAMPLE = (
    "begin both transforms with one that samples a clip, such as sample_frames(16, stride=4) or "
    "sample_segments(8)"
)
# How many other examples are tried in place of an unreadable one.
MAX_REPLACEMENTS = 100


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads, decodes and transforms the example at a position of the order.

    Attributes:
      source: source of the examples.
      transforms: transforms applied in turn to the decoded image.
      seed: seed of the order and of the transforms.
      shuffle: whether to use the training order; otherwise the source's order, where positions past
        the end are padding with mask 0.
      on_error: 'fail' raises an error at an unreadable record; 'skip' replaces it by the next
        readable record in training, and masks it out in evaluation.
      channels: number of channels of decoded images.
      bits: bits of gray samples of more than 8 bits, see `imgcls.data.decode.image.decode_image`.
      views: a key of `imgcls.data.loading.views.VIEWS`.
      other_transforms: transforms of all views but the first.
      partners: draws the other images of pairs and triplets.
      balanced: order that draws every class equally often; None for the uniform order.
    """

    source: Source
    transforms: Sequence[Transform]
    seed: int
    shuffle: bool
    on_error: str = "fail"
    channels: int = 3
    views: str = "one"
    other_transforms: Sequence[Transform] = ()
    partners: Partners | None = None
    balanced: Balanced | None = None
    bits: int | None = None

    def example(self, position: int) -> dict[str, np.ndarray]:
        """Reads the example at a global position.

        Returns:
          `image` `[..., C]`, uint8 unless a transform of values sets another dtype (and `image2`
          ... with several views), `label` int32 or uint8 `[K]` and `index` int32 of the first
          image (its index in the source, -1 for padding),
          `length` int32 of padded clips, see `sample_frames(short='pad')`,
          `mask` float32, `skipped` int32 (number of unreadable records at this position).

        Raises:
          DataError: the record is unreadable and `on_error` is 'fail'.
        """
        if not self.shuffle and position >= len(self.source):
            return self._padding()
        for skipped in range(MAX_REPLACEMENTS + 1):
            index = self.index_at(position, skipped)
            try:
                return {**self._read(index, position), "skipped": _int32(skipped)}
            except DataError as e:
                if self.on_error == "fail":
                    raise
                log.warning(f"skipped an unreadable record: {e}")
            if not self.shuffle:
                return {**self._padding(), "index": _int32(index), "skipped": _int32(1)}
        raise DataError(f"{skipped + 1} records in a row are unreadable, up to {index}")

    @functools.cached_property
    def spec(self) -> dict[str, np.ndarray]:
        """An example of zeros, with the shapes and dtypes of all examples."""
        for index in range(min(len(self.source), MAX_REPLACEMENTS)):
            try:
                image, label = self._open(index)
                views = [_decode(image)] * VIEWS[self.views]
                # Videos are read by their transforms.
                example = self._transform_views(views, label, 0, 0)
                break
            except DataError:
                if self.on_error == "fail":
                    raise
        else:
            image = np.zeros((64, 64, self.channels), np.uint8)
            if self._takes_videos:
                image = ArrayVideo(image[None], "no video")
            elif self._takes_volumes:
                image = Volume(np.zeros((64, 64, 64, self.channels), np.uint8), (1, 1, 1))
            views = [image] * VIEWS[self.views]
            example = self._transform_views(views, np.asarray(0), 0, 0)
        example |= self._is_same(True)
        return {key: np.zeros_like(value) for key, value in example.items()}

    @functools.cached_property
    def _takes_volumes(self) -> bool:
        """Whether the transforms are those of volumes, so that a TIFF is a stack of slices."""
        return any(isinstance(transform, VolumeTransform) for transform in self.transforms)

    @functools.cached_property
    def _takes_videos(self) -> bool:
        """Whether the transforms are those of videos, so that a GIF is one."""
        return bool(self.transforms) and isinstance(self.transforms[0], ClipTransform)

    def stages(self, index: int, position: int) -> Iterator[np.ndarray]:
        """Yields a record as it is decoded, and after each transform of its first view.

        Args:
          index: index in the source.
          position: position whose random numbers are used.

        Raises:
          DataError: the record is unreadable.
        """
        image, _ = self._open(index)
        rng = np.random.default_rng((self.seed, position))
        if isinstance(image, _VIDEOS):
            first, *others = list[Any](self.transforms)
            frames = np.linspace(0, len(image) - 1, 4).round().astype(int)
            yield image.frames(frames)
            clip = first(image, rng if self.shuffle else None)
            yield clip
            yield from clip_stages(clip, others, rng)
        elif isinstance(image, Volume):
            yield image.voxels
            yield from volume_stages(image, self.transforms, rng, self.source.name(index))
        else:
            decoded = _decode(image)
            assert isinstance(decoded, np.ndarray)
            yield decoded
            if self.transforms:
                yield from image_stages(image, self.transforms, rng)

    def duration(self, index: int) -> float | None:
        """The length of the video of a record in seconds; None if unknown, or for an image.

        Raises:
          DataError: the record is unreadable.
        """
        image, _ = self._open(index)
        return duration(image) if isinstance(image, _VIDEOS) else None

    def index_at(self, position: int, skipped: int) -> int:
        """Returns the record at a position, after `skipped` ones were unreadable there."""
        if not self.shuffle:
            return position
        if self.balanced is not None:
            return self.balanced.index(position, skipped)
        length = len(self.source)
        return (example_at(self.seed, position, length) + skipped) % length

    def _read(self, index: int, position: int) -> dict[str, np.ndarray]:
        image, label = self._open(index)
        others, same = self._read_other_views(index, image, position)
        example = self._transform_views([image, *others], label, index, position) | self._is_same(
            same
        )
        for key, value in example.items():
            if value.shape != self.spec[key].shape:
                raise ConfigError(
                    f"{self.source.name(index)} has the shape {value.shape} after the transforms, "
                    f"another record {self.spec[key].shape}; end the transforms with a crop or a "
                    "resize"
                )
        return example

    def _open(self, index: int) -> tuple[Example, np.ndarray]:
        """Image and label of a record."""
        record = self.source[index]
        image, name = record["image"], self.source.name(index)
        if isinstance(image, bytes) and self._takes_videos:
            image = _open_video(image, name, self.channels, record)
        elif isinstance(image, bytes):
            if is_video(image):
                raise DataError(f"{name}: is a video; {_SAMPLE}")
            takes_volumes = self._takes_volumes
            is_image = not takes_volumes and is_npy_image(image, name, self.channels)
            if is_volume(image, name, takes_volumes) and not is_image:
                image = decode_volume(image, name)
            else:
                image = EncodedImage(image, name, channels=self.channels, bits=self.bits)
        elif image.ndim == 4:
            image = ArrayVideo(image, name) if self._takes_videos else Volume(image)
        return image, np.asarray(record["label"])

    def _read_other_views(self, index: int, image, position: int) -> tuple[list, bool]:
        """Images of the other views, and whether the second matches the first."""
        if self.partners is None:
            if VIEWS[self.views] == 1:
                return [], True
            # The image is decoded once, in full, for all views.
            return [_decode(image)] * (VIEWS[self.views] - 1), True
        rng = np.random.default_rng((self.seed, position, 1))
        same = self.views == "triplets" or bool(rng.integers(2))
        chosen = [self.partners.same(index, rng) if same else self.partners.other(index, rng)]
        if self.views == "triplets":
            chosen.append(self.partners.other(index, rng))
        return [image if i == index else self._open(i)[0] for i in chosen], same

    def _is_same(self, same: bool) -> dict[str, np.ndarray]:
        return {"same": _int32(same)} if self.views == "pairs" else {}

    def _transform_views(
        self, views: list, label, index: int, position: int
    ) -> dict[str, np.ndarray]:
        images = {}
        count = self.transforms[0].count if self._takes_videos else None  # type: ignore[union-attr]
        if count is not None and len(views) == 1:
            images["length"] = _int32(count(views[0]))
        for number, image in enumerate(views, start=1):
            # The first view does not depend on the number of views.
            key = (self.seed, position) if number == 1 else (self.seed, position, number)
            transforms = self.transforms if number == 1 else self.other_transforms
            rng = np.random.default_rng(key)
            if isinstance(image, _VIDEOS):
                image = transform_video(image, transforms, rng, self.shuffle)
            elif isinstance(image, Volume):
                image = transform_volume(image, transforms, rng, self.source.name(index))
            else:
                image = transform_image(image, transforms, rng)
            images["image" if number == 1 else f"image{number}"] = image
        return {
            **images,
            "label": label.astype(np.uint8 if label.ndim else np.int32),
            "index": _int32(index),
            "mask": np.ones((), np.float32),
            "skipped": _int32(0),
        }

    def _padding(self) -> dict[str, np.ndarray]:
        # A mean over no frames is not a number.
        length = {"length": _int32(1)} if "length" in self.spec else {}
        return {**self.spec, **length, "index": _int32(-1)}


def _open_video(data: bytes, name: str, channels: int, record: dict) -> Example:
    start, end = record.get("start"), record.get("end")
    if not is_packed(data):
        return EncodedVideo(data, name, channels=channels, start=start, end=end)
    if (start, end) != (None, None):
        raise DataError(f"{name}: frames in a folder have no times for `start` and `end`")
    return EncodedFrames(data, name, channels=channels)


def _int32(value: int) -> np.ndarray:
    return np.array(value, np.int32)


def _decode(image: Example) -> Example:
    return image.pixels if isinstance(image, EncodedImage) else image

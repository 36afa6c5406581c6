"""Applies the transforms of a recipe in turn: to an image, a volume or a video."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.clips import Video
from imgcls.data.decode.image import EncodedImage
from imgcls.data.decode.voxels import Volume
from imgcls.data.transforms.transform import (
    EncodedTransform,
    SpacingTransform,
    Transform,
    ValueTransform,
    ViewTransform,
    check_rank,
)


def transform_volume(
    volume: Volume, transforms: Sequence[Transform], rng: np.random.Generator, name: str
) -> np.ndarray:
    """Applies transforms in turn to a volume of any dtype.

    Raises:
      ConfigError: no transform brings the values to 0 to 255, or one comes too late.
      DataError: the file has no spacing, and a transform needs it.
    """
    voxels = _last(volume_stages(volume, transforms, rng, name), volume.voxels)
    fits = volume.voxels.dtype == np.uint8
    if not (fits or any(isinstance(transform, ValueTransform) for transform in transforms)):
        raise ConfigError(
            f"config.data: {name} has values of type {voxels.dtype} from {voxels.min():g} to "
            f"{voxels.max():g}: add window(center, width), percentiles(1, 99), z_score or sigma(3) "
            "to both transforms, which maps them to 0 to 255"
        )
    return voxels


def volume_stages(
    volume: Volume, transforms: Sequence[Transform], rng: np.random.Generator, name: str
) -> Iterator[np.ndarray]:
    """Yields a volume after each of its transforms; raises as `transform_volume`."""
    voxels, spacing = volume.voxels, volume.spacing
    for transform in transforms:
        check_rank(transform, voxels)
        if isinstance(transform, SpacingTransform):
            if spacing is None and volume.spacing is not None:
                raise ConfigError(
                    "config.data: resample is after a transform that moves voxels; write it before"
                )
            if spacing is None:
                raise DataError(f"{name}: states no spacing of its voxels, which resample needs")
            voxels, spacing = transform.fn(voxels, spacing)
            yield voxels
            continue
        voxels = transform(voxels, rng)
        if not isinstance(transform, ValueTransform):
            spacing = None
        yield voxels


def transform_image(image, transforms: Sequence[Transform], rng: np.random.Generator) -> np.ndarray:
    """Applies transforms in turn; the first one may decode only part of the image."""
    if not transforms:
        return image.pixels if isinstance(image, EncodedImage) else image
    return _last(image_stages(image, transforms, rng), image)


def image_stages(
    image, transforms: Sequence[Transform], rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yields an image after each of its transforms."""
    if not isinstance(transforms[0], EncodedTransform):
        image = image.pixels if isinstance(image, EncodedImage) else image
    for transform in transforms:
        check_rank(transform, image)
        image = transform(image, rng)
        yield image


def transform_video(
    video: Video, transforms: Sequence[Any], rng: np.random.Generator, train: bool
) -> np.ndarray:
    """Samples a clip from a video, and applies the other transforms to each of its frames.

    Args:
      video: video.
      transforms: the first one is a `ClipTransform`, the others are those of images.
      rng: source of the random numbers.
      train: whether the clip is sampled at random.

    Returns:
      uint8 `[T, H, W, C]`, or `[V, T, H, W, C]` of several views in evaluation.

    Raises:
      ConfigError: a transform is not one of videos, or not one of training.
    """
    if train and any(isinstance(transform, ViewTransform) for transform in transforms):
        raise ConfigError(
            "config.data.train_transform: three_crops is for evaluation, which averages over them: "
            "write a random crop"
        )
    return transform_clip(transforms[0](video, rng if train else None), transforms[1:], rng)


def transform_clip(
    clip: np.ndarray, transforms: Sequence[Any], rng: np.random.Generator
) -> np.ndarray:
    """Applies the transforms after the first one to a clip `[T, H, W, C]` or `[V, T, H, W, C]`."""
    return _last(clip_stages(clip, transforms, rng), clip)


def clip_stages(
    clip: np.ndarray, transforms: Sequence[Any], rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yields a clip after each of the transforms that follow the first one."""
    for transform in transforms:
        if isinstance(transform, ViewTransform):
            clip = transform(clip if clip.ndim == 5 else clip[None])
        else:
            clip = transform_frames(clip, transform, rng)
        yield clip


def _last(stages: Iterator[np.ndarray], start: np.ndarray) -> np.ndarray:
    """The last stage; without any, what it started with."""
    return functools.reduce(lambda _, stage: stage, stages, start)


def transform_frames(
    clip: np.ndarray, transform: Transform, rng: np.random.Generator
) -> np.ndarray:
    """Applies a transform of images to all frames `[..., H, W, C]` with the same random numbers."""
    frames = clip.reshape(-1, *clip.shape[-3:])
    check_rank(transform, frames[0])
    state, out = rng.bit_generator.state, np.zeros(0, np.uint8)
    for number, frame in enumerate(frames):
        rng.bit_generator.state = state
        changed = transform(frame, rng)
        if not number:
            out = np.empty((len(frames), *changed.shape), changed.dtype)
        out[number] = changed
    return out.reshape(*clip.shape[:-3], *out.shape[1:])

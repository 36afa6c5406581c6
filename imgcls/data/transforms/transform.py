"""Transform types and their registries.

A transform is registered as a factory: it takes the arguments in the recipe and returns the
function to apply.

    @register_transform("invert")
    def invert(p: float = 0.5) -> Transform:
        return lambda image, rng: 255 - image if rng.random() < p else image
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.core.registry import Registry
from imgcls.data.decode.clips import Video
from imgcls.data.transforms import spec

# `(image, rng) -> image`, both uint8 `[H, W, C]`, or volumes `[D, H, W, C]` of the same dtype; all
# randomness comes from rng.
Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# `(batch, rng, num_classes) -> batch`, inside jit; images are normalized, `[B, ..., C]`.
BatchTransform = Callable[[dict[str, jax.Array], jax.Array, int], dict[str, jax.Array]]
# `(video, rng) -> clip`: chooses frames, with `rng` None in evaluation; the clip is uint8
# `[T, H, W, C]`, or `[V, T, H, W, C]` of several views.
Sampler = Callable[[Video, np.random.Generator | None], np.ndarray]

TRANSFORMS: Registry[Callable[..., Any]] = Registry("transform", "imgcls.data.transforms")
BATCH_TRANSFORMS: Registry[Callable[..., BatchTransform]] = Registry(
    "batch transform", "imgcls.data.transforms"
)
# Names of those that sample a clip.
CLIP_TRANSFORMS: set[str] = set()
register_transform = TRANSFORMS.register
register_batch_transform = BATCH_TRANSFORMS.register


@dataclasses.dataclass(frozen=True)
class EncodedTransform:
    """A transform that also takes an `EncodedImage`, and decodes only the part that it needs.

    Attributes:
      fn: `(image or EncodedImage, rng) -> image`.
    """

    fn: Callable[[Any, np.random.Generator], np.ndarray]

    def __call__(self, image: Any, rng: np.random.Generator) -> np.ndarray:
        return self.fn(image, rng)


@dataclasses.dataclass(frozen=True)
class VolumeTransform:
    """A transform of volumes; any other transform is one of images.

    Attributes:
      fn: `(volume, rng) -> volume`, both `[D, H, W, C]`; of the same dtype if it is uint8 or float.
    """

    fn: Transform

    def __call__(self, volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.fn(volume, rng)


@dataclasses.dataclass(frozen=True)
class ValueTransform(VolumeTransform):
    """A transform of volumes that maps values of any range to 0 to 255, also as float."""


@dataclasses.dataclass(frozen=True)
class SpacingTransform(VolumeTransform):
    """A transform of volumes that depends on their spacing, and returns them with another one.

    Attributes:
      fn: `(volume, spacing) -> (volume, spacing)`.
    """

    fn: Callable[[np.ndarray, Any], Any]


@dataclasses.dataclass(frozen=True)
class ClipTransform:
    """The first transform of videos: it samples a clip, whose frames the others transform.

    Attributes:
      fn: chooses the frames.
      frames: length of the stretch that it samples, in frames; None: as long as the video.
      seconds: the same in seconds.
      count: `video -> int`, how many frames of its clip are no padding; None: all are.
    """

    fn: Sampler
    frames: int | None = None
    seconds: float | None = None
    count: Callable[[Video], int] | None = None

    def __call__(self, video: Video, rng: np.random.Generator | None) -> np.ndarray:
        return self.fn(video, rng)


@dataclasses.dataclass(frozen=True)
class ViewTransform:
    """A transform of evaluation that makes several clips of each clip.

    Attributes:
      fn: `[V, T, H, W, C] -> [V', T, H', W', C]`.
    """

    fn: Callable[[np.ndarray], np.ndarray]

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        return self.fn(clips)


def register_clip_transform(
    name: str,
) -> Callable[[Callable[..., ClipTransform]], Callable[..., ClipTransform]]:
    """Decorator that registers the factory of a transform that samples a clip from a video."""

    def register(factory: Callable[..., ClipTransform]) -> Callable[..., ClipTransform]:
        CLIP_TRANSFORMS.add(name)
        TRANSFORMS.add(name, factory)
        return factory

    return register


def takes_videos(recipe: str, where: str) -> bool:
    """Whether a recipe is one of videos: it begins with a transform that samples a clip.

    Args:
      recipe: transforms as in `config.data.eval_transform`.
      where: its config key, for messages.
    """
    first = [name for name, _, _ in spec.calls(recipe, where)][:1]
    return bool(first) and first[0] in TRANSFORMS and first[0] in CLIP_TRANSFORMS


def register_volume_transform(
    name: str, kind: type[VolumeTransform] = VolumeTransform
) -> Callable[[Callable], Callable[..., Transform]]:
    """Decorator that registers the factory of a transform of volumes `[D, H, W, C]`."""

    def register(factory: Callable[..., Transform]) -> Callable[..., Transform]:
        @functools.wraps(factory)
        def create(*args, **kwargs) -> VolumeTransform:
            return kind(factory(*args, **kwargs))

        return register_transform(name)(create)

    return register


def check_rank(transform: Any, image: Any) -> None:
    """Raises a ConfigError if a transform of images gets a volume, or the like."""
    is_volume = len(image.shape) == 4
    if not isinstance(transform, ClipTransform | ViewTransform):
        if isinstance(transform, VolumeTransform) == is_volume:
            return
    fn = getattr(transform, "fn", transform)
    # The name of the factory, unless a private function of several factories made it.
    name = getattr(fn, "__qualname__", "_").split(".")[0]
    which = "one of the transforms" if name.startswith("_") else f"the transform {name}"
    images, volumes = "images [H, W, C]", "volumes [D, H, W, C]"
    has = volumes if is_volume else images
    if isinstance(transform, ClipTransform):
        takes, hint = "videos, before all others", "leave it out"
    elif isinstance(transform, ViewTransform):
        takes, hint = "videos", "leave it out"
    elif isinstance(transform, VolumeTransform):
        takes, hint = volumes, "use one for images"
    else:
        takes, hint = images, "use one whose name ends in 3d"
    raise ConfigError(
        f"config.data: {which} is for {takes}, and the data has {has}: {hint}; "
        f"`python -m imgcls.list transforms` lists all"
    )

"""The rules by which `imgcls.train.auto` chooses: size, model, length, augmentation, sampling."""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError, DataError
from imgcls.core.flops import count_flops
from imgcls.data.decode.image import EncodedImage
from imgcls.data.sources.source import Source
from imgcls.models.create import create_model

# Number of images whose sizes are read.
SAMPLE = 256
# Images with sides up to this are small: a crop loses what they show, ResNets get a stem that keeps
# their resolution, and the default model is airbench.
SMALL = 48
# Widths of a ResNet for small images, from cheap to expensive; those of airbench's groups are 1, 4
# and 4 times as large.
SMALL_WIDTHS = (16, 32, 64)
# Scales for a head that is trained at the rate of the other layers.
AIRBENCH = {"head_std": 0.036, "logit_scale": 1 / 9}
# Sides of the input and widths of a ResNet, from cheap to expensive.
LARGE = ((64, 32), (128, 32), (128, 64), (224, 64))
# The model, and its weights of ImageNet, from which larger images start if these can be had; the
# patterns of its pretrained layers with their rate relative to the head's; and the epochs that it
# should get before a more expensive size is considered.
PRETRAINED, WEIGHTS = "resnet18", "timm:resnet18.a1_in1k"
BACKBONE = ((r"^(?!head)", 0.1),)
FINE_TUNING = 5.0
# With fewer images a wider model than this does not help.
FEW_IMAGES, FEW_WIDTH = 500, 32
# Epochs from which augmentation may be strong, and from which images are mixed as well.
STRONG, MIXED = 40, 200
# Ratio of the largest to the smallest class from which classes are drawn equally often.
IMBALANCE = 3.0


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A size of the input and options of the model.

    Attributes:
      size: side of the input in pixels.
      model: keys of `config.model` with their values.
      flops: of a training step, per image.
      weights: value of `config.init_from`; None: the model is trained from scratch.
    """

    size: int
    model: tuple[tuple[str, object], ...]
    flops: float
    weights: str | None = None


def read_side(source: Source) -> int:
    """The median of the shorter sides of a sample of the images, in pixels.

    Raises:
      ConfigError: none of them can be read.
    """
    indices = np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int)

    def read(index: int) -> int | None:
        image = source[index]["image"]
        try:
            shape = EncodedImage(image, "").shape if isinstance(image, bytes) else image.shape
        except DataError:
            return None
        return min(shape[-3:-1])

    with ThreadPoolExecutor() as pool:
        sides = [side for side in pool.map(read, map(int, indices)) if side is not None]
    if not sides:
        raise ConfigError(f"none of {len(indices)} images of the training split can be read")
    return int(np.median(sides))


def choose_sizes(side: int) -> tuple[int, ...]:
    """Sides of the input that images with this shorter side are worth."""
    if side <= SMALL:
        return (16,) if side <= 16 else (32,)
    return tuple(sorted({size for size, _ in LARGE if size <= max(1.5 * side, 64)}))


def list_candidates(
    config: ConfigDict, source: Source, sizes: tuple[int, ...], weights: str | None = None
) -> tuple[Candidate, ...]:
    """The candidates from cheap to expensive.

    Args:
      config: config of the run; the model gets a name if that is "auto", and the options of
        `_options` that `config.model` lacks.
      source: training split.
      sizes: sides of the input.
      weights: pretrained weights, for which the width and the stem are not chosen.
    """
    found = []
    for size in sizes:
        if weights is not None:
            options = {"name": PRETRAINED} if config.model.name == "auto" else {}
            flops = _training_flops(config, len(source.class_names), size, options)
            found.append(Candidate(size, tuple(options.items()), flops, weights))
            continue
        widths = SMALL_WIDTHS if size <= SMALL else [w for s, w in LARGE if s == size] or [32]
        if len(source) < FEW_IMAGES:
            widths = [min(width, FEW_WIDTH) for width in widths]
        for width in dict.fromkeys(widths):
            options = _options(config, size, width)
            flops = _training_flops(config, len(source.class_names), size, options)
            found.append(Candidate(size, tuple(options.items()), flops))
    return tuple(sorted(dict.fromkeys(found), key=lambda c: c.flops))


def _options(config: ConfigDict, size: int, width: int) -> dict[str, object]:
    """Keys of `config.model` for a size of the input and a width."""
    name, options = config.model.name, {}
    if name == "auto":
        name = "airbench94" if size <= SMALL else "resnet18"
        options["name"] = name
    if name.startswith("airbench"):
        options |= {"widths": (width, 4 * width, 4 * width), **AIRBENCH}
    elif name.startswith("resnet"):
        options |= {"stem": "cifar" if size <= SMALL else "imagenet", "width": width}
    return {k: v for k, v in options.items() if k == "name" or k not in config.model}


def wanted_epochs(images: int, pretrained: bool = False) -> float:
    """Epochs that a model should get before a more expensive one is considered."""
    if pretrained:
        return FINE_TUNING
    return float(np.clip(100 * (1500 / images) ** 0.5, 10, 100))


def most_epochs(images: int) -> int:
    """Epochs after which more do not help."""
    return int(max(300, 60_000 / images))


def select(candidates: tuple[Candidate, ...], budget: float, seen: float) -> Candidate:
    """The most expensive candidate that the budget allows; the cheapest one if none is.

    Args:
      candidates: from cheap to expensive.
      budget: FLOPs that the time allows.
      seen: number of images that it should see in training, counted with repetitions.
    """
    allowed = [c for c in candidates if seen * c.flops <= budget]
    return allowed[-1] if allowed else candidates[0]


def choose_steps(budget: float, flops: float, batch_size: int, images: int) -> int:
    """Number of training steps: what the budget allows, from one epoch to `most_epochs`."""
    steps = int(budget / flops / batch_size)
    epoch = -(-images // batch_size)
    return int(np.clip(steps, epoch, most_epochs(images) * images // batch_size))


def augmentation(size: int, side: int, epochs: float, mirrored: bool) -> dict[str, str]:
    """The transforms, by key of the config.

    Args:
      size: side of the input in pixels.
      side: shorter side of the images themselves.
      epochs: how often each image is seen.
      mirrored: whether mirrored images have the same labels.
    """
    strong = epochs >= STRONG
    square = f"resize(({size}, {size}))"
    if side <= SMALL:
        train = [square, f"pad_crop({size}, padding={size // 8})"]
    else:
        train = [f"random_resized_crop({size}, scale=({0.35 if strong else 0.5}, 1.0))"]
    train += ["flip"] * mirrored + ["trivial_augment()"] * strong
    return {
        "data.train_transform": "|".join(train),
        "data.eval_transform": square,
        "data.batch_transform": "cutmix(1.0, p=0.5)" if epochs >= MIXED else "",
    }


def choose_sampling(counts: np.ndarray) -> str:
    """The sampling of training examples for the number of images of each class, `[K]`."""
    present = counts[counts > 0]
    return "balanced" if present.max() >= IMBALANCE * present.min() else "uniform"


@functools.lru_cache
def _forward_flops(name: str, options: tuple, classes: int, channels: int, size: int) -> int:
    model = create_model(name, classes, in_channels=channels, **dict(options))
    image = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return count_flops(jax.make_jaxpr(model.apply)(variables, image).jaxpr)


def _training_flops(config: ConfigDict, classes: int, size: int, options: dict) -> float:
    """Of an image: the backward pass takes twice the FLOPs of the forward pass."""
    model = {**config.model.to_dict(), **options}
    name = model.pop("name")
    parts = (tuple(sorted(model.items())), classes, config.data.channels, size)
    return 3.0 * _forward_flops(name, *parts)

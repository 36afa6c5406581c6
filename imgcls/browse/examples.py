"""Examples of a config in the order of training, before and after each of its transforms."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError, DataError
from imgcls.core.plugins import load_plugins
from imgcls.data.create import (
    balance,
    create_batch_transforms,
    create_reader,
    describe,
    open_data,
    open_split,
)
from imgcls.data.loading.reader import Reader
from imgcls.data.loading.views import VIEWS
from imgcls.data.missing_splits import replace_missing_splits
from imgcls.data.transforms import batch as batch_transforms
from imgcls.data.transforms import spec
from imgcls.objectives.create import create_objective

# Classes of a mixed label that are named.
NAMED = 3


@dataclasses.dataclass(frozen=True)
class Stage:
    """An image after a transform.

    Attributes:
      name: the transform, such as `flip`, or `decoded`.
      image: `[..., C]`.
    """

    name: str
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Shown:
    """One example of a batch.

    Attributes:
      position: position in the order of training.
      name: name of the record.
      label: its classes.
      original: the decoded image.
      views: the first image and, with several views, the others, after their transforms.
      batch_views: the same after the batch transforms; equal to `views` without any.
      batch_label: classes and weights after the batch transforms.
      evaluated: the image after `data.eval_transform`.
    """

    position: int
    name: str
    label: str
    original: np.ndarray
    views: list[np.ndarray]
    batch_views: list[np.ndarray]
    batch_label: str
    evaluated: np.ndarray


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a config makes of its data.

    Attributes:
      source, split: the dataset and its split.
      size: number of examples of the split.
      class_names: names of the K classes.
      shown: the first examples in the order of training.
      unreadable: what is wrong with those that can't be read.
      chosen: position of the example whose stages are shown.
      stages: `{config key: stages}` of that example.
    """

    source: str
    split: str
    size: int
    class_names: tuple[str, ...]
    shown: list[Shown]
    unreadable: list[str]
    chosen: int
    stages: dict[str, list[Stage]]


def read_examples(config: ConfigDict, count: int, chosen: int) -> Examples:
    """Reads the first examples of training, which form one batch, and the stages of one.

    Args:
      config: complete config.
      count: number of examples.
      chosen: position of the example whose stages are shown.

    Raises:
      ConfigError: a setting of the data that can't work, or there is no readable example.
    """
    load_plugins(config)
    replace_missing_splits(config)
    source = open_split(config, config.data.train_split, open_data(config))
    trains = balance(config, create_reader(config, source, train=True))
    evaluates = create_reader(config, source, train=False)
    read, problems = [], []
    for position in range(count):
        try:
            example = trains.example(position)
            index = int(example["index"])
            original = next(iter(trains.stages(index, position)))
            read.append((position, original, example, evaluates.example(index)["image"]))
        except DataError as e:
            problems.append(str(e))
    if not read:
        raise ConfigError(f"none of the first {count} examples can be read: {problems[0]}")
    batch = {key: np.stack([example[key] for _, _, example, _ in read]) for key in read[0][2]}
    mixed = _apply_batch_transforms(config, trains, batch)
    keys = ["image", *(f"image{n}" for n in range(2, VIEWS[config.data.views] + 1))]
    shown = [
        Shown(
            position=position,
            name=source.name(int(example["index"])),
            label=_describe(example["label"], source.class_names),
            original=original,
            views=[example[key] for key in keys],
            batch_views=[mixed[key][row] for key in keys],
            batch_label=_describe(mixed["label"][row], source.class_names),
            evaluated=evaluated,
        )
        for row, (position, original, example, evaluated) in enumerate(read)
    ]
    index = int(trains.example(chosen)["index"])
    return Examples(
        source=config.data.source,
        split=config.data.train_split,
        size=len(source),
        class_names=tuple(source.class_names),
        shown=shown,
        unreadable=problems,
        chosen=chosen,
        stages={
            key: _stages(config, key, reader, index, position)
            for key, reader, position in (
                ("train_transform", trains, chosen),
                ("eval_transform", evaluates, index),
            )
        },
    )


def _stages(config: ConfigDict, key: str, reader: Reader, index: int, position: int) -> list[Stage]:
    """The record after each transform of a recipe, with the random numbers of its position."""
    calls = spec.calls(config.data[key], f"config.data.{key}")
    names = ["decoded", *(_write_call(*call) for call in calls)]
    images: Iterator[np.ndarray] = reader.stages(index, position)
    return [Stage(name, image) for name, image in zip(names, images, strict=True)]


def _write_call(name: str, args: list, kwargs: dict) -> str:
    parts = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{name}({', '.join(parts)})" if parts else name


def _apply_batch_transforms(config: ConfigDict, reader: Reader, batch: dict) -> dict:
    """The batch of the first step after its transforms, images as 0 to 255 again."""
    fns = create_batch_transforms(config)
    if not fns:
        return batch
    outputs = create_objective(config, describe(config, reader)).num_outputs
    if config.data.device_resident:
        batch = batch | {"epoch": np.zeros(len(batch["index"]), np.int32)}

    @jax.jit
    def apply(batch):
        key, _ = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 0))
        batch = batch_transforms.normalize_batch(batch, config)
        return batch_transforms.apply(batch, key, fns, outputs)

    mixed = jax.device_get(apply(batch))
    mean, std = np.array(config.data.mean), np.array(config.data.std)
    return {
        key: (value * std + mean) * 255 if key.startswith("image") else value
        for key, value in mixed.items()
    }


def _describe(label: np.ndarray, class_names: tuple[str, ...]) -> str:
    """A label in words: `cat`, `cat + dog` of several, `0.7 cat + 0.3 dog` of a mixed one."""
    if not label.ndim:
        return class_names[int(label)]
    weights = np.atleast_1d(label).astype(float)
    if len(weights) == 1 < len(class_names):  # One logit: the second class.
        weights = np.array([1 - weights[0], weights[0]])
    order = [i for i in np.argsort(-weights, kind="stable")[:NAMED] if weights[i] > 0.005]
    if all(weights[i] == 1 for i in order):
        return " + ".join(class_names[i] for i in order) or "none"
    return " + ".join(f"{weights[i]:.2f} {class_names[i]}" for i in order)

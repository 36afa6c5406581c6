"""Builds the data pipeline of a config: source, reader, loaders, batch transforms."""

import dataclasses

from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.data.decode.gray import MAX_BITS, MIN_BITS
from imgcls.data.info import DataInfo
from imgcls.data.loading import resident
from imgcls.data.loading.batch_loader import BatchLoader, BatchPlan
from imgcls.data.loading.loader import Loader
from imgcls.data.loading.order import SAMPLINGS, count_classes, create_balanced
from imgcls.data.loading.reader import Reader
from imgcls.data.loading.views import PARTNERS, VIEWS, create_partners
from imgcls.data.sources.cached import CachedSource
from imgcls.data.sources.open import open_dataset, open_examples
from imgcls.data.sources.source import Dataset, Source
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import BATCH_TRANSFORMS, TRANSFORMS, takes_videos

# OpenCV takes no more.
MAX_CHANNELS = 512


def open_data(config: ConfigDict, *, write_classes: bool = False) -> Dataset:
    """Opens the dataset `config.data.source`; for `write_classes` see `SourceOptions`."""
    c = config.data
    check_choice("data.on_error", c.on_error, ("fail", "skip"))
    options = dict(on_error=c.on_error, multi_label=c.multi_label, separator=c.separator)
    options |= dict(question=c.question, label_columns=tuple(c.label_columns))
    videos = takes_videos(c.eval_transform, "config.data.eval_transform")
    options |= dict(write_classes=write_classes, videos=videos)
    return open_dataset(c.source, data_dir=c.dir, seed=c.split_seed, **options)


def open_split(config: ConfigDict, split: str, data: Dataset | None = None) -> Source:
    """Opens one split of `config.data.source`, which is `data` if it is open already."""
    c = config.data
    if c.cache_gb < 0:
        raise ConfigError(f"config.data.cache_gb={c.cache_gb}: must be 0 or more")
    source = open_examples(data or open_data(config), c.source, split)
    return CachedSource(source, c.cache_gb * 1e9) if c.cache_gb else source


def create_reader(config: ConfigDict, source: Source, *, train: bool) -> Reader:
    """Builds the reader of a source: the config's host transforms, in training or eval order."""
    c = config.data
    check_choice("data.on_error", c.on_error, ("fail", "skip"))
    if not 1 <= c.channels <= MAX_CHANNELS:
        raise ConfigError(
            f"config.data.channels={c.channels}: must be 1 (gray), 3 (RGB), 4 (RGBA), or the "
            f"number of bands of TIFF or .npy files, up to {MAX_CHANNELS}"
        )
    if c.bits is not None and not MIN_BITS <= c.bits <= MAX_BITS:
        raise ConfigError(f"config.data.bits={c.bits}: must be {MIN_BITS} to {MAX_BITS}")
    if not 0 <= c.max_skipped <= 1:
        raise ConfigError(f"config.data.max_skipped={c.max_skipped}: must be a fraction in 0..1")
    if config.seed < 0:
        raise ConfigError(f"config.seed={config.seed}: must be 0 or more")
    for key in ("threads", "workers", "prefetch"):
        if (c[key] or 0) < 0:
            raise ConfigError(f"config.data.{key}={c[key]}: must be 0 or more")
    check_choice("data.sampling", c.sampling, SAMPLINGS)
    check_choice("data.views", c.views, VIEWS)
    check_choice("data.partners", c.partners, PARTNERS)
    if c.views == "one" and c.train_transform2 is not None:
        raise ConfigError("config.data.train_transform2: needs a second view; set data.views='two'")

    def parse(key: str) -> list:
        return spec.parse(c[key], TRANSFORMS, f"config.data.{key}")

    if not train:
        transforms = parse("eval_transform")
        return Reader(source, transforms, config.seed, False, c.on_error, c.channels, bits=c.bits)
    transforms = parse("train_transform")
    if c.device_resident:
        resident.check(config)
    other_transforms = transforms if c.train_transform2 is None else parse("train_transform2")
    partners = create_partners(c.views, c.partners, source)
    views = (c.views, other_transforms, partners, None, c.bits)
    return Reader(source, transforms, config.seed, True, c.on_error, c.channels, *views)


def create_train_loader(
    config: ConfigDict, reader: Reader, mesh: Mesh, first: int, last: int
) -> BatchLoader:
    """Creates the loader of the steps `first` to `last - 1`, in the order of `data.sampling`.

    Args:
      config: training config.
      reader: training reader built by `create_reader`.
      mesh: device mesh.
      first, last: range of steps.
    """
    plan = BatchPlan(balance(config, reader), mesh, config.batch_size, first, last)
    if config.data.device_resident:
        c = config.data
        return resident.ResidentLoader(plan, threads=c.threads, prefetch=c.prefetch)
    return _create_loader(config, plan)


def balance(config: ConfigDict, reader: Reader) -> Reader:
    """The reader with the order of `data.sampling`; apart, because it may read every label."""
    if config.data.sampling != "balanced":
        return reader
    balanced = create_balanced(reader.source.labels(), config.seed)
    return dataclasses.replace(reader, balanced=balanced)


def create_eval_loader(
    config: ConfigDict, source: Source, mesh: Mesh, batch_size: int
) -> BatchLoader:
    """Creates a loader of every example once, in order; the last batch is padded with mask 0."""
    reader = create_reader(config, source, train=False)
    steps = -(-len(source) // batch_size)
    return _create_loader(config, BatchPlan(reader, mesh, batch_size, 0, steps))


def describe(config: ConfigDict, reader: Reader) -> DataInfo:
    """Returns the classes, image shape and size of the training data.

    Raises:
      ConfigError: the length of `data.mean` or `data.std` is not the number of channels.
    """
    source, image = reader.source, reader.spec["image"]
    shape = image.shape
    for key in ("mean", "std"):
        value = config.data[key]
        if len(value) not in (1, shape[-1]):
            raise ConfigError(
                f"config.data.{key}={value}: the images have {shape[-1]} channel(s); write one "
                "number per channel, or one for all"
            )
    names = tuple(source.class_names)
    auto = config.objective.get("class_weights") == "auto"
    counts = count_classes(source.labels(), len(names)) if auto else ()
    size, dtype = len(source), image.dtype.name
    return DataInfo(names, source.multi_label, shape, size, counts, dtype)


def create_batch_transforms(config: ConfigDict) -> list:
    """Creates the transforms that run inside the training step."""
    key = "config.data.batch_transform"
    return spec.parse(config.data.batch_transform, BATCH_TRANSFORMS, key)


def _create_loader(config: ConfigDict, plan: BatchPlan) -> Loader:
    c = config.data
    return Loader(plan, threads=c.threads, workers=c.workers, prefetch=c.prefetch)

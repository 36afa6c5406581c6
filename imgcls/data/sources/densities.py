"""Density maps as classes, with any number of simulated views of each.

    densities:/data/maps|resample((6, 6, 6))|pad3d(32)|center_crop3d(32)|rotate3d

The path is a folder of MRC or CCP4 maps, all of them or those in braces: `FOLDER/{a.mrc,b.map.gz}`.
The transforms of volumes after it make the views. What they draw depends only on seed, split and
position: an example is the same in every epoch, and no rotation of the test split is trained on.
"""

import collections
import os
import re

import numpy as np

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.mrc import EXTENSIONS
from imgcls.data.decode.npz import write_npz
from imgcls.data.decode.volume import decode_volume, is_volume
from imgcls.data.decode.voxels import Volume
from imgcls.data.files import read_file
from imgcls.data.sources.plain import PlainSource
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.splits import parse_split, stratified_slice
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS, SpacingTransform, check_rank

# Views of each map in a split.
VIEWS = {"train": 1000, "val": 50, "test": 100}


@register_source("densities", "FOLDER|TRANSFORMS", is_files=True)
def open_densities(path: str, options: SourceOptions) -> Dataset:
    """Opens density maps, each of them a class named like its file.

    Raises:
      ConfigError: no such folder or map, two maps of the same name, an invalid transform, or
        `resample` and a map that states no voxel size.
    """
    folder, _, recipe = path.partition("|")
    where = f"config.data.source=densities:{folder}"
    files = _list_maps(os.path.expanduser(folder), where)
    names = [_class_name(file) for file in files]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(
            f"{where}: has two maps named {twice[0]}; choose files, such as FOLDER/{{a.mrc,b.mrc}}"
        )
    maps = [_read_map(file, recipe, where) for file in files]
    return Dataset(
        tuple(VIEWS),
        lambda split: DensitySource(maps, tuple(names), recipe, split, options.seed),
        labels_in_memory=True,
    )


class DensitySource(PlainSource):
    """Views of maps; see `imgcls.data.sources.source.Source`.

    An example is the bytes of a `.npz` with float32 voxels, not yet scaled to 0 to 255, and their
    spacing. Classes alternate.

    Args:
      maps: map of each class, resampled.
      class_names: names of the K classes.
      recipe: transforms that make a view; leading `resample` is done.
      split: name of a split, with an optional slice.
      seed: seed of the views and slices.

    Raises:
      ConfigError: unknown split.
    """

    multi_label = False
    splits = tuple(VIEWS)

    def __init__(
        self, maps: list[Volume], class_names: tuple[str, ...], recipe: str, split: str, seed: int
    ):
        self._arguments = (maps, class_names, recipe, split, seed)
        self._maps, self.class_names, self._seed = maps, class_names, seed
        self._transforms = _parse(recipe)[1]
        self._split, first, last = parse_split(split)
        if self._split not in VIEWS:
            raise ConfigError(f"split {split!r}: densities: has the splits {', '.join(VIEWS)}")
        labels = np.arange(len(maps) * VIEWS[self._split]) % len(maps)
        self._indices = stratified_slice(labels, first, last, seed)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        number = int(self._indices[index])
        label = number % len(self._maps)
        rng = np.random.default_rng((self._seed, self.splits.index(self._split), number))
        voxels, spacing = self._maps[label].voxels, self._maps[label].spacing
        for transform in self._transforms:
            check_rank(transform, voxels)
            voxels = transform(voxels, rng)
        return {"image": write_npz(Volume(voxels, spacing)), "label": label}

    def labels(self) -> np.ndarray:
        return self._indices % len(self._maps)

    def name(self, index: int) -> str:
        view, label = divmod(int(self._indices[index]), len(self._maps))
        return f"{self._split}/{self.class_names[label]}/{view}"

    def __reduce__(self) -> tuple:
        # Transforms can't be pickled.
        return type(self), self._arguments


def _parse(recipe: str) -> tuple[list, list]:
    """Transforms that depend on the spacing, and those after them."""
    transforms = spec.parse(recipe, TRANSFORMS, "config.data.source")
    count = next(
        (i for i, t in enumerate(transforms) if not isinstance(t, SpacingTransform)),
        len(transforms),
    )
    if any(isinstance(t, SpacingTransform) for t in transforms[count:]):
        raise ConfigError("config.data.source: write resample before the other transforms")
    return transforms[:count], transforms[count:]


def _list_maps(path: str, where: str) -> list[str]:
    """Paths of the maps of a folder, or of those in braces."""
    chosen = re.fullmatch(r"(.*)/\{([^{}]*)\}", path)
    folder = chosen[1] if chosen else path
    if not os.path.isdir(folder):
        raise ConfigError(f"{where}: no such folder; write densities:FOLDER|TRANSFORMS")
    names = sorted(os.listdir(folder))
    if chosen:
        wanted = [name.strip() for name in chosen[2].split(",")]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ConfigError(f"{where}: has no map {missing[0]}")
        names = sorted(set(wanted))
    else:
        names = [name for name in names if name.lower().endswith(EXTENSIONS)]
    if len(names) < 2:
        raise ConfigError(
            f"{where}: has {len(names)} maps ({', '.join(EXTENSIONS)}), and each is a class"
        )
    return [os.path.join(folder, name) for name in names]


def _class_name(file: str) -> str:
    name = os.path.basename(file)
    endings = sorted((end for end in EXTENSIONS if name.lower().endswith(end)), key=len)
    return name[: -len(endings[-1])] if endings else os.path.splitext(name)[0]


def _read_map(file: str, recipe: str, where: str) -> Volume:
    """A map as float32, resampled."""
    try:
        data = read_file(file)
        if not is_volume(data, file):
            raise DataError(f"{file}: is not a volume")
        volume = decode_volume(data, file)
        voxels, spacing = volume.voxels.astype(np.float32), volume.spacing
        for transform in _parse(recipe)[0]:
            if spacing is None:
                raise DataError(f"{file}: states no voxel size, which resample needs")
            voxels, spacing = transform.fn(voxels, spacing)
    except DataError as e:
        raise ConfigError(f"{where}: {e}; leave it out, or correct its header") from e
    return Volume(voxels, spacing)

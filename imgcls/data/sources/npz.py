"""Datasets in one `.npz` file: MedMNIST's images and volumes, and ModelNet10 as voxels.

The arrays of a split are read when it is opened, and stay in memory as uint8.
"""

import dataclasses
import os
import re
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.decode.npy import read_npy
from imgcls.data.sources.plain import PlainSource
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.splits import parse_split, stratified_slice

# Yang et al. 2023, arXiv:2110.14795, and github MedMNIST/MedMNIST, medmnist/info.py.
_MEDMNIST_CLASSES = {
    "organmnist3d": (
        *("liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder", "heart"),
        *("lung-right", "lung-left", "spleen", "pancreas"),
    ),
    "nodulemnist3d": ("benign", "malignant"),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": (
        *("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
    ),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
}
_MODELNET10_CLASSES = (
    *("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table"),
    "toilet",
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Names of the arrays in a file.

    Attributes:
      kind: name of the source, for messages.
      splits: names of the splits.
      images, labels: name of an array, with the split as `{}`.
      to_uint8: converts the images of a split `[N, ...]`.
    """

    kind: str
    splits: tuple[str, ...]
    images: str
    labels: str
    to_uint8: Callable[[np.ndarray], np.ndarray]


def _keep_uint8(images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8:
        raise ValueError(f"images of type {images.dtype}, not uint8")
    return images


def _from_occupancy(voxels: np.ndarray) -> np.ndarray:
    """0 for empty voxels, 255 for others."""
    return np.multiply(voxels != 0, 255, dtype=np.uint8)


_MEDMNIST = Layout(
    "medmnist", ("train", "val", "test"), "{}_images", "{}_labels", to_uint8=_keep_uint8
)
_MODELNET10 = Layout("modelnet10", ("train", "test"), "X_{}", "y_{}", to_uint8=_from_occupancy)


@register_source("medmnist", "FILE.npz", is_files=True)
def open_medmnist(path: str, options: SourceOptions) -> Dataset:
    """Opens a file of MedMNIST, of images or volumes, with its own splits train, val and test."""
    name = re.sub(r"_\d+$", "", os.path.splitext(os.path.basename(path))[0])
    return _open(_MEDMNIST, path, options, _MEDMNIST_CLASSES.get(name))


@register_source("modelnet10", "FILE.npz", is_files=True)
def open_modelnet10(path: str, options: SourceOptions) -> Dataset:
    """Opens shapes of ModelNet10 (Wu et al. 2015, arXiv:1406.5670) as occupancy grids 0 and 1.

    The arrays are `X_train` and `X_test` `[N, D, H, W]`, `y_train` and `y_test` `[N]`; the classes
    are in alphabetical order.
    """
    return _open(_MODELNET10, path, options, _MODELNET10_CLASSES)


class NpzSource(PlainSource):
    """One split, or a slice of one.

    Args:
      layout: names of the arrays.
      path: the file.
      class_names: names of the K classes.
      split: name of the split, with an optional slice.
      seed: seed of slices.

    Raises:
      ConfigError: unknown split, or arrays that do not fit.
    """

    def __init__(
        self, layout: Layout, path: str, class_names: tuple[str, ...], split: str, seed: int
    ):
        self._arguments = (layout, path, class_names, split, seed)
        self.class_names, self.splits = class_names, layout.splits
        spec, (name, first, last) = f"{layout.kind}:{path}", parse_split(split)
        if name not in layout.splits:
            raise ConfigError(f"split {split!r}: {spec} has the splits {', '.join(layout.splits)}")
        images = layout.images.format(name)
        labels = _read_labels(layout, path, name)
        self.multi_label = labels.ndim == 2
        try:
            pixels = _add_channels(layout.to_uint8(_read(path, images, spec)))
        except ValueError as e:
            raise ConfigError(f"{spec}: {images}: {one_line(e)}") from e
        if len(pixels) != len(labels):
            raise ConfigError(
                f"{spec}: {images} has {len(pixels):,} rows, its labels {len(labels):,}"
            )
        indices = np.arange(len(labels))
        if first or last:
            # Slices of multi-label splits are not stratified.
            strata = np.zeros(len(labels), int) if self.multi_label else labels
            indices = stratified_slice(strata, first, last, seed)
            pixels, labels = pixels[indices], labels[indices]
        self._name, self._indices, self._images, self._labels = name, indices, pixels, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict:
        return {"image": self._images[index], "label": self._labels[index]}

    def labels(self) -> np.ndarray:
        return self._labels

    def name(self, index: int) -> str:
        return f"{self._name}/{self._indices[index]}"

    def __reduce__(self) -> tuple:
        # Worker processes read the file again.
        return type(self), self._arguments


def _open(
    layout: Layout, path: str, options: SourceOptions, class_names: tuple[str, ...] | None
) -> Dataset:
    """Checks the labels of all splits; the images are read when a split is opened."""
    path = os.path.expanduser(path)
    labels = {split: _read_labels(layout, path, split) for split in layout.splits}
    shapes = {values.shape[1:] for values in labels.values()}
    if len(shapes) > 1:
        raise ConfigError(f"{layout.kind}:{path}: its splits have labels of different shapes")
    ((*multi_hot,),) = shapes
    count = multi_hot[0] if multi_hot else 1 + max(int(v.max(initial=0)) for v in labels.values())
    if class_names is None:
        class_names = tuple(map(str, range(count)))
    if count > len(class_names):
        raise ConfigError(
            f"{layout.kind}:{path}: has {count} classes, and {os.path.basename(path)} should have "
            f"{len(class_names)}: {', '.join(class_names)}"
        )
    return Dataset(
        layout.splits, lambda split: NpzSource(layout, path, class_names, split, options.seed)
    )


def _read_labels(layout: Layout, path: str, split: str) -> np.ndarray:
    """Labels int64 `[N]`, or multi-hot uint8 `[N, K]`."""
    spec, member = f"{layout.kind}:{path}", layout.labels.format(split)
    labels = _read(path, member, spec)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    wrong = labels.ndim not in (1, 2) or labels.dtype.kind not in "iu" or (labels < 0).any()
    if wrong or (labels.ndim == 2 and (labels > 1).any()):
        raise ConfigError(
            f"{spec}: {member} is a {labels.dtype} array {list(labels.shape)}; labels are whole "
            "numbers [N] from 0 on, or 0 and 1 [N, K]"
        )
    return labels.astype(np.int64 if labels.ndim == 1 else np.uint8)


def _add_channels(images: np.ndarray) -> np.ndarray:
    """`[N, H, W]` or `[N, D, H, W]` with one channel added; `[N, H, W, 3]` as it is."""
    if images.ndim == 4 and images.shape[-1] == 3:
        return images
    if images.ndim not in (3, 4) or not images[:1].size:
        raise ValueError(
            f"shape {list(images.shape)}; write [N, H, W], [N, H, W, 3] or [N, D, H, W]"
        )
    return images[..., None]


def _read(path: str, name: str, spec: str) -> np.ndarray:
    """An array of the file.

    Raises:
      ConfigError: no such file or array, or a broken one.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"{spec}: no such file; write the path of the dataset's .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                there = ", ".join(n.removesuffix(".npy") for n in archive.namelist()[:8])
                raise ConfigError(f"{spec}: has no array {name}; it has {there or 'none'}")
            member = archive.getinfo(f"{name}.npy")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ConfigError(f"{spec}: unsupported compression; write it with NumPy's savez")
            with archive.open(member) as file:
                return read_npy(file, member.file_size, f"{spec}: {name}")
    except DataError as e:
        raise ConfigError(str(e)) from e
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, zlib.error) as e:
        raise ConfigError(f"{spec}: can't be read ({one_line(e)}); check the file") from e

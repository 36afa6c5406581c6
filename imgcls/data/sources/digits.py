"""scikit-learn's handwritten digits: real data that needs no download."""

import functools
import importlib.util
import os

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.sources.plain import PlainSource
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.splits import parse_split, stratified_slice

# Slice of the examples in each split.
_BOUNDS = {"train": ("", "80%"), "test": ("80%", "")}


@register_source("digits", path="")
def open_digits(path: str, options: SourceOptions) -> Dataset:
    """Opens scikit-learn's 1,797 handwritten digits."""
    open_split = functools.partial(DigitsSource, seed=options.seed)
    return Dataset(DigitsSource.splits, open_split, labels_in_memory=True)


class DigitsSource(PlainSource):
    """1,797 grayscale images uint8 `[8, 8, 1]` of ten classes; 80% train, 20% test, stratified.

    Source: scikit-learn `load_digits` (UCI optical recognition of handwritten digits), with pixels
    scaled from 0..16 to 0..255.
    """

    class_names = tuple("0123456789")
    multi_label = False
    splits = tuple(_BOUNDS)

    def __init__(self, split: str, seed: int):
        name, first, last = parse_split(split)
        if name not in _BOUNDS:
            raise ConfigError(f"split {split!r}: digits has the splits {', '.join(_BOUNDS)}")
        pixels, labels = _load()
        members = stratified_slice(labels, *_BOUNDS[name], seed)
        indices = members[stratified_slice(labels[members], first, last, seed)]
        self._ids = indices
        self._images = np.round(pixels[indices] * (255 / 16)).astype(np.uint8)
        self._labels = labels[indices]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict:
        return {"image": self._images[index], "label": int(self._labels[index])}

    def labels(self) -> np.ndarray:
        return self._labels

    def name(self, index: int) -> str:
        return f"digit {self._ids[index]}"


@functools.cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels float64 `[N, 8, 8, 1]` from 0 to 16, and labels int64 `[N]`.

    Reads the file of `load_digits` directly, because importing scikit-learn is slow.
    """
    sklearn = importlib.util.find_spec("sklearn")
    if sklearn is None or not sklearn.submodule_search_locations:
        raise ConfigError(
            "config.data.source='digits': scikit-learn is not installed; run `pip install "
            "scikit-learn`"
        )
    (folder,) = sklearn.submodule_search_locations
    rows = np.loadtxt(os.path.join(folder, "datasets", "data", "digits.csv.gz"), delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8, 1), rows[:, -1].astype(int)

"""scikit-learn's handwritten digits: real data for a first run without any download."""

import functools
import importlib.util
import os

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.splits import parse_split, stratified_slice

SPLITS = {"train": ("", "80%"), "test": ("80%", "")}


@register_source("digits", path="")
def open_digits(path: str, options: SourceOptions) -> Dataset:
    """scikit-learn's 1,797 handwritten digits."""
    return Dataset(DigitsSource.splits, functools.partial(DigitsSource, seed=options.seed))


class DigitsSource:
    """1,797 grey images uint8 `[8, 8, 1]` of ten classes; 80 % train, 20 % test, stratified.

    Source: scikit-learn `load_digits` (UCI optical recognition of handwritten digits). Pixels are
    0..16 there and 0..255 here.
    """

    class_names = tuple("0123456789")
    multi_label = False
    splits = tuple(SPLITS)

    def __init__(self, split: str, seed: int):
        name, first, last = parse_split(split)
        if name not in SPLITS:
            raise ConfigError(f"split {split!r}: digits has the splits {', '.join(SPLITS)}")
        pixels, labels = _load()
        members = stratified_slice(labels, *SPLITS[name], seed)
        chosen = members[stratified_slice(labels[members], first, last, seed)]
        self._ids = chosen
        self._images = np.round(pixels[chosen] * (255 / 16)).astype(np.uint8)
        self._labels = labels[chosen]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict:
        return {"image": self._images[index], "label": int(self._labels[index])}

    def labels(self) -> np.ndarray:
        return self._labels

    def name(self, index: int) -> str:
        return f"digit {self._ids[index]}"

    def group(self, index: int) -> None:
        return None

    def metadata(self, index: int) -> dict:
        return {}


@functools.cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    """Pixels float64 `[N, 8, 8, 1]` from 0 to 16, and labels int64 `[N]`.

    What `load_digits` reads; importing scikit-learn for it would take longer than all the rest.
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

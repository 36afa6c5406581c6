"""scikit-learn's handwritten digits: real data for a first run without any download."""

import numpy as np

from imgcls.data.sources import parse_split, stratified_slice
from imgcls.errors import ConfigError

SPLITS = {"train": ("", "80%"), "test": ("80%", "")}


class DigitsSource:
    """1,797 grey images uint8 `[8, 8, 1]` of ten classes; 80 % train, 20 % test, stratified.

    Source: scikit-learn `load_digits` (UCI optical recognition of handwritten digits). Pixels are
    0..16 there and 0..255 here.
    """

    class_names = tuple("0123456789")
    multi_label = False
    splits = tuple(SPLITS)

    def __init__(self, split: str, seed: int):
        from sklearn.datasets import load_digits

        name, first, last = parse_split(split)
        if name not in SPLITS:
            raise ConfigError(f"split {split!r}: digits has the splits {', '.join(SPLITS)}")
        data = load_digits()
        members = stratified_slice(data.target, *SPLITS[name], seed)
        chosen = members[stratified_slice(data.target[members], first, last, seed)]
        self._ids = chosen
        self._images = np.round(data.images[chosen, :, :, None] * (255 / 16)).astype(np.uint8)
        self._labels = data.target[chosen]

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

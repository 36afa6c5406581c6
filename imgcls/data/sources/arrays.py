"""Images in memory."""

import dataclasses
from typing import Any

import numpy as np

from imgcls.data.sources.plain import PlainSource


@dataclasses.dataclass(frozen=True)
class ArraySource(PlainSource):
    """Images and labels in memory, as a source of one split.

    Attributes:
      images: uint8 `[N, ..., C]`.
      targets: int `[N]`, or multi-hot uint8 `[N, K]`.
      class_names: names of the K classes.
      splits: name of the split.
    """

    images: np.ndarray
    targets: np.ndarray
    class_names: tuple[str, ...]
    splits: tuple[str, ...] = ("all",)

    @property
    def multi_label(self) -> bool:
        return self.targets.ndim == 2

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": self.targets[index]}

    def labels(self) -> np.ndarray:
        return self.targets

    def name(self, index: int) -> str:
        return f"{self.splits[0]}/{index}"

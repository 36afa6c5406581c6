"""A subset of a source."""

import dataclasses

import numpy as np

from imgcls.data.sources.source import Source


@dataclasses.dataclass(frozen=True)
class Subset:
    """A source of some of the examples of another, in the order of `indices`, int `[N]`."""

    source: Source
    indices: np.ndarray

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def multi_label(self) -> bool:
        return self.source.multi_label

    @property
    def splits(self) -> tuple[str, ...]:
        return self.source.splits

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        return self.source[int(self.indices[index])]

    def labels(self) -> np.ndarray:
        return self.source.labels()[self.indices]

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def group(self, index: int) -> str | None:
        return self.source.group(int(self.indices[index]))

    def metadata(self, index: int) -> dict:
        return self.source.metadata(int(self.indices[index]))

"""A source that passes on another, as the base of those that change a part of it."""

from typing import Any

import numpy as np

from imgcls.data.sources.source import Source


class View:
    """A source with the examples of another; subclasses override what differs."""

    def __init__(self, source: Source):
        self.source = source

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
        return len(self.source)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return self.source[index]

    def labels(self) -> np.ndarray:
        return self.source.labels()

    def name(self, index: int) -> str:
        return self.source.name(index)

    def group(self, index: int) -> str | None:
        return self.source.group(index)

    def metadata(self, index: int) -> dict[str, Any]:
        return self.source.metadata(index)

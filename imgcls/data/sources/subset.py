"""A subset of a source."""

from typing import Any

import numpy as np

from imgcls.data.sources.source import Source
from imgcls.data.sources.view import View


class Subset(View):
    """A source of some of the examples of another, in the order of `indices`, int `[N]`."""

    def __init__(self, source: Source, indices: np.ndarray):
        super().__init__(source)
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return self.source[int(self.indices[index])]

    def labels(self) -> np.ndarray:
        return self.source.labels()[self.indices]

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def group(self, index: int) -> str | None:
        return self.source.group(int(self.indices[index]))

    def metadata(self, index: int) -> dict[str, Any]:
        return self.source.metadata(int(self.indices[index]))

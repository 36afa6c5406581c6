"""Keeps what a source reads in memory: encoded images, as they were on the disk."""

import threading
from typing import Any

import numpy as np

from imgcls.data.sources.source import Source


class CachedSource:
    """A source whose examples are read once, as long as there is room.

    Every epoch visits every example once, so what fits is kept for good: an example that was
    replaced would be lost before its next turn. Each process has its own cache, which is empty
    after pickling.

    Args:
      source: source to read from.
      capacity: number of bytes of images to keep.
    """

    def __init__(self, source: Source, capacity: float):
        self.class_names, self.multi_label = source.class_names, source.multi_label
        self.splits = source.splits
        self._source, self._capacity = source, capacity
        self._kept: dict[int, dict[str, Any]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._kept.get(index)
        if example is None:
            example = self._source[index]
            self._keep(index, example)
        return example

    def labels(self) -> np.ndarray:
        return self._source.labels()

    def name(self, index: int) -> str:
        return self._source.name(index)

    def group(self, index: int) -> str | None:
        return self._source.group(index)

    def metadata(self, index: int) -> dict[str, Any]:
        return self._source.metadata(index)

    def _keep(self, index: int, example: dict[str, Any]) -> None:
        size = len(memoryview(example["image"]).cast("B"))
        with self._lock:
            if index not in self._kept and self._size + size <= self._capacity:
                self._kept[index] = example
                self._size += size

    def __reduce__(self) -> tuple[type, tuple[Source, float]]:
        return type(self), (self._source, self._capacity)

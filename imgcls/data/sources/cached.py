"""Caches a source in memory: its encoded images, as they are on disk."""

import threading
from typing import Any

from imgcls.data.sources.source import Source
from imgcls.data.sources.view import View


class CachedSource(View):
    """A source whose examples are read once, as long as they fit into the cache.

    Nothing is evicted: every epoch visits every example once, so an evicted example would always
    miss. Each process has its own cache, which is empty after pickling.

    Args:
      source: source to read from.
      capacity: number of bytes of images to keep.
    """

    def __init__(self, source: Source, capacity: float):
        super().__init__(source)
        self._capacity = capacity
        self._cache: dict[int, dict[str, Any]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        example = self._cache.get(index)
        if example is None:
            example = self.source[index]
            self._add(index, example)
        return example

    def _add(self, index: int, example: dict[str, Any]) -> None:
        size = len(memoryview(example["image"]).cast("B"))
        with self._lock:
            if index not in self._cache and self._size + size <= self._capacity:
                self._cache[index] = example
                self._size += size

    def __reduce__(self) -> tuple[type, tuple[Source, float]]:
        return type(self), (self.source, self._capacity)

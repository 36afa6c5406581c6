"""Keeps what a source reads in memory: encoded pictures, as they were on the disk."""

import threading

from imgcls.data.sources.source import Source


class CachedSource:
    """A source whose examples are read once, as long as there is room.

    Every epoch visits every example once, so what fits is kept for good: to replace it would lose
    it before its next turn. Each process has a cache of its own.

    Args:
      source: what is read; see `imgcls.data.sources.source.Source`.
      capacity: bytes of pictures to keep.
    """

    def __init__(self, source: Source, capacity: float):
        self._source, self._capacity = source, capacity
        self._kept: dict[int, dict] = {}
        self._size = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict:
        example = self._kept.get(index)
        if example is None:
            example = self._source[index]
            self._keep(index, example)
        return example

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source, name)

    def _keep(self, index: int, example: dict) -> None:
        size = len(memoryview(example["image"]).cast("B"))
        with self._lock:
            if index not in self._kept and self._size + size <= self._capacity:
                self._kept[index] = example
                self._size += size

    def __getstate__(self) -> dict:
        return {"_source": self._source, "_capacity": self._capacity}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["_source"], state["_capacity"])

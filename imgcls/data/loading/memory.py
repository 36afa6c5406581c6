"""Reuse of the memory of batches, to save page faults."""

import collections
import math
import weakref

import numpy as np

# In bytes. On a CPU, JAX uses arrays with this alignment without a copy.
_ALIGNMENT = 64


class Memory:
    """Allocates arrays in memory that is reused once they are deleted.

    JAX may read from an array later, on a CPU for as long as the `jax.Array` lives; it keeps a
    reference to the array until then.
    """

    def __init__(self):
        self._free: dict[int, collections.deque] = collections.defaultdict(collections.deque)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of undefined values."""
        size = math.prod(shape) * dtype.itemsize
        try:
            memory = self._free[size].pop()
        except IndexError:
            memory = np.empty(size + _ALIGNMENT, np.uint8)
        # From a memoryview, so that views keep a reference to `array`, not to `memory` alone.
        start = -memory.ctypes.data % _ALIGNMENT
        array = np.frombuffer(memory.data[start : start + size], dtype)
        weakref.finalize(array, self._free[size].append, memory).atexit = False
        return array.reshape(shape)

    def copy(self, array: np.ndarray) -> np.ndarray:
        """A copy of an array."""
        copy = self.empty(array.shape, array.dtype)
        np.copyto(copy, array)
        return copy

"""The training order: the example at a position depends only on (seed, position).

`config.data.sampling` sets how training examples are drawn:

- `uniform`: every epoch is a permutation of all examples;
- `balanced`: every class with examples is drawn equally often, regardless of its size. An epoch
  still has as many draws as there are examples.
"""

import dataclasses
import functools

import grain
import numpy as np

SAMPLINGS = ("uniform", "balanced")

# Largest permutation that is computed as an array. Grain's index_shuffle is slow for small ones: it
# walks through 65,536 indices for a valid one, in 1 ms for 10 examples and 0.1 ms for 400.
_MAX_ARRAY = 4096


def example_at(seed: int, position: int, length: int) -> int:
    """Returns the example at a position of the uniform order: a new permutation every epoch."""
    epoch, offset = divmod(position, length)
    if length <= _MAX_ARRAY:
        return int(_permutation(seed, epoch, length)[offset])
    return grain.experimental.index_shuffle(
        offset, max_index=length - 1, seed=_mix(seed, epoch), rounds=4
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Balanced:
    """An order that draws every class equally often.

    With C classes, block b is the C positions from b * C on. It has each class once, in a new
    order, with the class's b-th example. Each class has its own order, which visits all of its
    examples before it repeats one.

    Attributes:
      members: int `[M]`, the examples of the first class, then those of the second, and so on. A
        multi-label example is a member of each of its classes.
      first: int `[C + 1]`, start of each of the C classes in `members`, and M.
      seeds: int `[C + 1]`, seeds of the order within each class, and of the order of the classes.
    """

    members: np.ndarray
    first: np.ndarray
    seeds: np.ndarray

    def index(self, position: int, attempt: int = 0) -> int:
        """Returns the example at a position.

        Args:
          position: position in the training order.
          attempt: number of examples that were unreadable at this position. They are replaced by
            the next examples of the class, then by those of the next class.
        """
        classes = len(self.first) - 1
        label, block = example_at(int(self.seeds[-1]), position, classes), position // classes
        first, last = self.first[label : label + 2].tolist()
        size = last - first
        offset = example_at(int(self.seeds[label]), block, size)
        offset = (offset + attempt) % size if attempt < size else attempt
        return int(self.members[(first + offset) % len(self.members)])


def create_balanced(labels: np.ndarray, seed: int) -> Balanced:
    """Creates the balanced order of examples.

    Args:
      labels: int `[N]`, or multi-hot `[N, K]`; examples without a label form one more class.
      seed: seed of the order.
    """
    labels = np.asarray(labels)
    if labels.ndim == 1:
        members, classes = np.arange(len(labels)), labels
    else:
        unlabeled = ~labels.any(axis=1, keepdims=True)
        members, classes = np.nonzero(np.concatenate([labels, unlabeled], axis=1))
    order = np.argsort(classes, kind="stable")
    _, first = np.unique(classes[order], return_index=True)
    # With a third number, so that they differ from the seeds of epochs.
    seeds = [_mix(seed, number, 1) for number in range(len(first) + 1)]
    return Balanced(members[order], np.append(first, len(members)), np.array(seeds))


def count_classes(labels: np.ndarray, num_classes: int) -> tuple[int, ...]:
    """Counts the examples of each class, `[K]`, in labels int `[N]` or multi-hot `[N, K]`."""
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=num_classes) if labels.ndim == 1 else np.sum(labels, 0)
    return tuple(counts.tolist())


@functools.lru_cache(maxsize=4096)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    # NumPy guarantees the same numbers in all versions for SeedSequence, not for Generator.
    numbers = np.random.SeedSequence((seed, epoch)).generate_state(length, np.uint64)
    return np.argsort(numbers, kind="stable").astype(np.int32)


@functools.lru_cache(maxsize=4096)
def _mix(*numbers: int) -> int:
    # Mixed, not added: epoch 0 of seed 1 must not equal epoch 1 of seed 0.
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])

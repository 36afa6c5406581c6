"""Which example stands at a position of the training order: a function of (seed, position) alone.

`config.data.sampling` says how training examples are drawn:

- `uniform`: every epoch is a permutation of all examples;
- `balanced`: every class that has examples is drawn equally often, however many it has. An epoch is
  still as many draws as there are examples.
"""

import dataclasses
import functools

import grain
import numpy as np

SAMPLINGS = ("uniform", "balanced")

# Up to here a permutation is laid out whole: Grain's walks through 65,536 places for one that it
# can use, which takes a millisecond for an index below ten and 0.1 ms below 400.
_LAID_OUT = 4096


def example_at(seed: int, position: int, length: int) -> int:
    """The example at a position of the training order: a permutation anew for every epoch."""
    epoch, offset = divmod(position, length)
    if length <= _LAID_OUT:
        return int(_permutation(seed, epoch, length)[offset])
    return grain.experimental.index_shuffle(
        offset, max_index=length - 1, seed=_mix(seed, epoch), rounds=4
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Balanced:
    """An order that takes every class equally often.

    Of C classes, block b holds each once, in an order anew: these are the positions from b * C on.
    It takes the b-th example of each class, in the class's own order, which visits all of its
    examples before any again.

    Attributes:
      members: int `[M]`, the examples of the first class, then those of the second, and so on. Of
        multi-label data an example is a member of each of its classes.
      first: int `[C + 1]`, where in `members` each of the C classes begins, and M.
      seeds: int `[C + 1]`, of the order within each class, and of the classes.
    """

    members: np.ndarray
    first: np.ndarray
    seeds: np.ndarray

    def index(self, position: int, attempt: int = 0) -> int:
        """The example at a position.

        Args:
          position: of the training order.
          attempt: how many examples were unreadable here before: these are replaced by the next
            ones of the class, then by those of the next class.
        """
        classes = len(self.first) - 1
        label, block = example_at(int(self.seeds[-1]), position, classes), position // classes
        first, last = self.first[label : label + 2].tolist()
        size = last - first
        place = example_at(int(self.seeds[label]), block, size)
        place = (place + attempt) % size if attempt < size else attempt
        return int(self.members[(first + place) % len(self.members)])


def create_balanced(labels: np.ndarray, seed: int) -> Balanced:
    """The balanced order of examples.

    Args:
      labels: int `[N]`, or multi-hot `[N, K]`, where examples without any label are one more class.
      seed: of the order.
    """
    labels = np.asarray(labels)
    if labels.ndim == 1:
        members, classes = np.arange(len(labels)), labels
    else:
        none = ~labels.any(axis=1, keepdims=True)
        members, classes = np.nonzero(np.concatenate([labels, none], axis=1))
    order = np.argsort(classes, kind="stable")
    _, first = np.unique(classes[order], return_index=True)
    # A third number, so that these are not the seeds of epochs.
    seeds = [_mix(seed, number, 1) for number in range(len(first) + 1)]
    return Balanced(members[order], np.append(first, len(members)), np.array(seeds))


def count_classes(labels: np.ndarray, num_classes: int) -> tuple[int, ...]:
    """Examples of each class, `[K]`, of labels int `[N]` or multi-hot `[N, K]`."""
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=num_classes) if labels.ndim == 1 else np.sum(labels, 0)
    return tuple(counts.tolist())


@functools.lru_cache(maxsize=4096)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    # Of numbers that no version of NumPy changes, as it may those of a Generator.
    numbers = np.random.SeedSequence((seed, epoch)).generate_state(length, np.uint64)
    return np.argsort(numbers, kind="stable").astype(np.int32)


@functools.lru_cache(maxsize=4096)
def _mix(*numbers: int) -> int:
    # Mixed, not added: seed 1 must not repeat the epochs of seed 0 one later.
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])

"""How many pictures each class has in each split."""

import dataclasses

import numpy as np

from imgcls.audit.reading import Pictures

# A class with fewer pictures in all splits together can't be learnt or judged.
FEW = 10
# The largest class has so many times the pictures of the smallest: worth a note, and a finding.
UNEVEN, VERY_UNEVEN = 5.0, 20.0


@dataclasses.dataclass(frozen=True)
class Balance:
    """Counts by split and class.

    Attributes:
      counts: int `[S, K]`.
      absent: (class, split) numbers where a class that others splits have is missing.
      few: numbers of the classes with fewer than `FEW` pictures in all.
      ratio: pictures of the largest class over those of the smallest that has any.
      unlabelled: pictures without a class (multi-label).
    """

    counts: np.ndarray
    absent: list[tuple[int, int]]
    few: list[int]
    ratio: float
    unlabelled: int


def count_classes(pictures: Pictures) -> Balance:
    """Counts every readable picture; in multi-label data for each of its classes."""
    targets = pictures.targets()
    counts = np.stack([targets[pictures.split == s].sum(0) for s in range(len(pictures.splits))])
    total = counts.sum(0)
    absent = [(int(c), int(s)) for s, c in np.argwhere(counts == 0) if total[c]]
    some = total[total > 0]
    return Balance(
        counts=counts,
        absent=sorted(absent),
        few=[int(c) for c in np.flatnonzero(total < FEW)],
        ratio=float(some.max() / some.min()) if len(some) else 1.0,
        unlabelled=int((~targets.any(1)).sum()),
    )

"""The number of images of each class in each split."""

import dataclasses

import numpy as np

from imgcls.audit.reading import ImageTable

# A class with fewer images in all splits together can be neither learned nor evaluated.
FEW = 10
# Ratios of the largest to the smallest class that give a note and a finding.
UNEVEN, VERY_UNEVEN = 5.0, 20.0


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """Counts by split and class.

    Attributes:
      counts: int `[S, K]`, images of each class in each split.
      absent: (class, split) numbers of the classes that occur in other splits but not in this one.
      few: numbers of the classes with fewer than `FEW` images in all splits together.
      ratio: images of the largest class divided by those of the smallest class that has any.
      unlabelled: number of images without a class (multi-label data).
    """

    counts: np.ndarray
    absent: list[tuple[int, int]]
    few: list[int]
    ratio: float
    unlabelled: int


def count_classes(images: ImageTable) -> ClassCounts:
    """Counts the readable images; a multi-label image counts for each of its classes."""
    targets = images.targets()
    counts = np.stack([targets[images.split == s].sum(0) for s in range(len(images.splits))])
    total = counts.sum(0)
    absent = [(int(c), int(s)) for s, c in np.argwhere(counts == 0) if total[c]]
    some = total[total > 0]
    return ClassCounts(
        counts=counts,
        absent=sorted(absent),
        few=[int(c) for c in np.flatnonzero(total < FEW)],
        ratio=float(some.max() / some.min()) if len(some) else 1.0,
        unlabelled=int((~targets.any(1)).sum()),
    )

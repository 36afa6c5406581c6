"""The dataset of a run in a few lines, logged before training: its classes, splits and oddities."""

import numpy as np

from imgcls.core import log
from imgcls.data.sources.source import Dataset, Source
from imgcls.data.table.names import describe_alike, find_alike

# Number of classes that are named.
_NAMED = 10


def log_dataset(data: Dataset, source: Source, train_split: str) -> None:
    """Logs the classes and the size of each split; warns of classes that are alike or not trained.

    Args:
      data: the dataset.
      source: its examples that are trained on.
      train_split: name of these.
    """
    log.info(describe_classes(source.class_names))
    log.info(describe_splits(data, source, train_split))
    for warning in find_oddities(data, source, train_split):
        log.warning(warning)


def describe_classes(names: tuple[str, ...]) -> str:
    """'2 classes: cat, dog': the first ten."""
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names):,} {'class' if len(names) == 1 else 'classes'}: " + (
        ", ".join(names[:_NAMED]) + more
    )


def describe_splits(data: Dataset, source: Source, train_split: str) -> str:
    """'splits: train 80, val 10, test 10; training on train[:90%] 72'."""
    sizes = [
        f"{split} {len(data.open(split)):,}" if data.labels_in_memory else split
        for split in data.splits
    ]
    return f"splits: {', '.join(sizes)}; training on {train_split} {len(source):,}"


def find_oddities(data: Dataset, source: Source, train_split: str) -> list[str]:
    """Warnings: classes alike, and classes that only other splits have.

    The labels are read only if that reads no image.
    """
    found = []
    names = source.class_names
    if alike := find_alike(names):
        found.append(f"class names alike: {describe_alike(alike)}")
    if data.labels_in_memory:
        trained = _count(source)
        others = {split: _count(data.open(split)) for split in data.splits}
        total = sum(others.values())
        for number in np.flatnonzero((trained == 0) & (total > 0))[:_NAMED]:
            where = ", ".join(f"{s} {c[number]:,}" for s, c in others.items() if c[number])
            found.append(
                f"class {names[number]!r} has no example in {train_split}, only in {where}"
            )
    return found


def _count(source: Source) -> np.ndarray:
    """Number of examples of each class, int `[K]`."""
    labels = source.labels()
    if source.multi_label:
        return labels.sum(0, dtype=int)
    return np.bincount(labels, minlength=len(source.class_names))

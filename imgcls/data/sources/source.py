"""Where examples come from: sources with a length and random access by index.

A source is named by one string in the config:

    digits                       scikit-learn's 1,797 handwritten digits, 8x8, grey
    folder:/path                 class folders, or a zip of them (folder.py)
    manifest:/path/all.csv       a table of paths and labels: .csv, .tsv or .jsonl (formats/)
    darwin:/path                 Darwin JSON 2.0 files, as V7 exports them
    labelstudio:/path/all.json   Label Studio's JSON or JSON-MIN
    coco:/path/all.json          COCO; a picture's classes are those of its annotations
    records:/path                what `python -m imgcls.convert` writes (records.py)
    tfds:imagenet2012:5.1.0      a TFDS data set prepared as ArrayRecord (tfds_source.py)

and a split by a TFDS-like string: `train`, `train[:99%]`, `test[100:200]`.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from imgcls.core.errors import ConfigError


class Source(Protocol):
    """Examples by index. Reading is thread-safe, and a source can be sent to worker processes.

    Attributes:
      class_names: of the K classes, in the order of the labels.
      multi_label: labels are multi-hot `[K]`.
      splits: names of the data set's splits, of which this source is one or a part of one.
    """

    class_names: tuple[str, ...]
    multi_label: bool
    splits: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict:
        """`{'image': encoded bytes or uint8 [..., C], 'label': int or multi-hot uint8 [K]}`."""

    def labels(self) -> np.ndarray:
        """All labels, int `[N]` or multi-hot uint8 `[N, K]`, without decoding a picture."""

    def name(self, index: int) -> str:
        """What a person finds the example by: a path, or a record's name."""

    def group(self, index: int) -> str | None:
        """What the example belongs to, such as a patient; a group is never divided."""

    def metadata(self, index: int) -> dict:
        """What else is known of the example, ready for JSON."""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set of which no split is open yet.

    Attributes:
      splits: their names.
      open: the source of a split, or of a slice of one such as `train[:10%]`.
    """

    splits: tuple[str, ...]
    open: Callable[[str], Source]


def check_classes(found: tuple[str, ...], expected: tuple[str, ...], where: str) -> None:
    """Raises a ConfigError that names the first difference unless both have the same classes."""
    if tuple(found) == tuple(expected):
        return
    if len(found) != len(expected):
        raise ConfigError(
            f"{where} has {len(found)} classes, the model {len(expected)}; give data of the same "
            "classes"
        )
    i = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if len(set(pair)) > 1)
    raise ConfigError(f"{where}: class {i} is {found[i]!r}, the model's is {expected[i]!r}")

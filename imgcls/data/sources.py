"""Where examples come from: sources with a length and random access by index.

A source is named by one string in the config:

    digits                       scikit-learn's 1,797 handwritten digits, 8x8, grey
    folder:/path                 class folders, or a zip of them (folder.py)
    tfds:imagenet2012:5.1.0      a TFDS data set prepared as ArrayRecord (tfds_source.py)

and a split by a TFDS-like string: `train`, `train[:99%]`, `test[100:200]`.
"""

import re
from typing import Protocol

import numpy as np

from imgcls.errors import ConfigError


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


def create_source(
    spec: str,
    split: str,
    *,
    data_dir: str | None = None,
    seed: int = 0,
    on_error: str = "fail",
    multi_label: bool | None = None,
    separator: str = "|",
) -> Source:
    """The examples of one split of the source that `spec` names.

    Args:
      spec: `'digits'`, `'folder:PATH'` or `'tfds:NAME[:VERSION]'`.
      split: a split's name with an optional slice by number or percent.
      data_dir: where TFDS data sets live (`None`: TFDS's own default).
      seed: of the stratified split, for a source that comes without splits of its own.

    Raises:
      ConfigError: unknown kind, missing data, a split that is not there, or an empty one.
    """
    kind, _, rest = spec.partition(":")
    if kind == "digits" and not rest:
        from imgcls.data.digits import DigitsSource

        source = DigitsSource(split, seed)
    elif kind == "folder" and rest:
        from imgcls.data.folder import FolderSource

        source = FolderSource(rest, split, seed)
    elif kind == "tfds" and rest:
        from imgcls.data.tfds_source import TfdsSource

        source = TfdsSource(rest, split, data_dir)
    else:
        raise ConfigError(
            f"config.data.source={spec!r}: unknown; write digits, folder:PATH or "
            "tfds:NAME[:VERSION]"
        )
    if not len(source):
        raise ConfigError(f"config.data.source={spec}, split {split!r}: holds no examples")
    return source


def parse_split(split: str) -> tuple[str, str, str]:
    """`'train[:90%]'` -> `('train', '', '90%')`: name, first and last bound ('' where open).

    Raises:
      ConfigError: not of that form.
    """
    match = re.fullmatch(r"(\w+)(?:\[(\d*%?):(\d*%?)\])?", split.replace(" ", ""))
    if not match or any((bound or "").startswith("%") for bound in match.groups()[1:]):
        raise ConfigError(f"split {split!r}: not understood; write train, train[:90%] or test[10:]")
    return match[1], match[2] or "", match[3] or ""


def stratified_slice(labels: np.ndarray, first: str, last: str, seed: int) -> np.ndarray:
    """Indices of a slice that holds every class in the proportion of the whole.

    The examples are laid in one seeded order in which every class is spread evenly, and the slice
    is cut from that order, so `[:80%]` and `[80%:]` are disjoint and complete.

    Args:
      labels: int `[N]`.
      first, last: bounds as in `parse_split`.
      seed: of the order.

    Returns:
      Sorted int64 indices into `labels`.
    """
    rng = np.random.default_rng(seed)
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # Where in 0..1 the class's examples come; the shift keeps classes from rounding alike.
        rank[rng.permutation(members)] = (np.arange(len(members)) + rng.random()) / len(members)
    order = np.argsort(rank, kind="stable")
    start = _bound(first, len(labels), 0)
    stop = _bound(last, len(labels), len(labels))
    return np.sort(order[start:stop])


def _bound(text: str, length: int, default: int) -> int:
    if not text:
        return default
    number = int(text.rstrip("%"))
    return min(round(length * number / 100) if text.endswith("%") else number, length)

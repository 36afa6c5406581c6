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
import functools
import re
from collections.abc import Callable
from typing import Protocol

import numpy as np

from imgcls.errors import ConfigError

FILE_KINDS = ("folder", "manifest", "darwin", "labelstudio", "coco")


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


def create_source(spec: str, split: str, **options) -> Source:
    """The examples of one split of the source that `spec` names.

    Args:
      spec: a kind and what it reads, as above.
      split: a split's name with an optional slice by number or percent.
      options: of `open_data_set`.

    Raises:
      ConfigError: unknown kind, missing data, a split that is not there, or an empty one.
    """
    source = open_data_set(spec, **options).open(split)
    if not len(source):
        raise ConfigError(f"config.data.source={spec}, split {split!r}: holds no examples")
    return source


def open_data_set(
    spec: str,
    *,
    data_dir: str | None = None,
    seed: int = 0,
    on_error: str = "fail",
    multi_label: bool | None = None,
    separator: str = "|",
) -> DataSet:
    """The data set that `spec` names, checked.

    Args:
      spec: a kind and what it reads, as above.
      data_dir: where TFDS data sets live (`None`: TFDS's own default), or the directory or zip of
        the pictures that a file names (`None`: the file's own directory).
      seed: of the stratified split, for a source that comes without splits of its own.
      on_error: entries that are wrong: 'fail' names them, 'skip' leaves them out.
      multi_label: any number of labels each; None is as the data says. Of folders and files.
      separator: between the labels of one picture in a manifest; '' divides nothing.

    Raises:
      ConfigError: unknown kind, missing data, or entries that are wrong with `on_error='fail'`.
    """
    kind, _, path = spec.partition(":")
    if kind == "digits" and not path:
        from imgcls.data.digits import DigitsSource

        return DataSet(DigitsSource.splits, functools.partial(DigitsSource, seed=seed))
    if kind == "tfds" and path:
        from imgcls.data.tfds_source import open_tfds

        return open_tfds(path, data_dir)
    if kind == "records" and path:
        from imgcls.data.records import open_records

        return open_records(path, seed)
    if kind in FILE_KINDS and path:
        from imgcls.data.formats import read_table
        from imgcls.data.table import settle

        table, files = read_table(kind, path, data_dir, multi_label, separator)
        return settle(table, files, seed=seed, on_error=on_error)
    raise ConfigError(
        f"config.data.source={spec!r}: unknown; write digits, folder:PATH or tfds:NAME[:VERSION], "
        "or manifest:, darwin:, labelstudio:, coco: or records: with a PATH"
    )


def parse_split(split: str) -> tuple[str, str, str]:
    """`'train[:90%]'` -> `('train', '', '90%')`: name, first and last bound ('' where open).

    Raises:
      ConfigError: not of that form.
    """
    match = re.fullmatch(r"(\w+)(?:\[(\d*%?):(\d*%?)\])?", split.replace(" ", ""))
    if not match or any((bound or "").startswith("%") for bound in match.groups()[1:]):
        raise ConfigError(f"split {split!r}: not understood; write train, train[:90%] or test[10:]")
    return match[1], match[2] or "", match[3] or ""


def splits_overlap(one: str, other: str) -> bool:
    """Whether two splits may have examples in common: `train[:90%]` and `train[90%:]` have none."""
    (name, first, last), (other_name, other_first, other_last) = map(parse_split, (one, other))
    apart = (last and last == other_first) or (first and first == other_last)
    return name == other_name and not apart


def stratified_slice(
    labels: np.ndarray, first: str, last: str, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Indices of a slice that holds every class in the proportion of the whole.

    The examples are laid in one seeded order in which every class is spread evenly, and the slice
    is cut from that order, so `[:80%]` and `[80%:]` are disjoint and complete.

    Args:
      labels: int `[N]`.
      first, last: bounds as in `parse_split`.
      seed: of the order.
      groups: int `[N]`, examples that stay together; a group counts for its most frequent class,
        and belongs to the slice that its first example falls into.

    Returns:
      Sorted int64 indices into `labels`.
    """
    labels, sizes, unit = _units(np.asarray(labels), groups)
    rng = np.random.default_rng(seed)
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        shift = rng.random()
        members = rng.permutation(np.flatnonzero(labels == label))
        before = np.cumsum(sizes[members]) - sizes[members]
        # Where in 0..1 the class's examples come; the shift keeps classes from rounding alike.
        rank[members] = (before + shift) / sizes[members].sum()
    order = np.argsort(rank, kind="stable")
    place = np.empty(len(labels), int)
    place[order] = np.cumsum(sizes[order]) - sizes[order]
    start = _bound(first, len(unit), 0)
    stop = _bound(last, len(unit), len(unit))
    return np.flatnonzero(((place >= start) & (place < stop))[unit])


def _units(labels: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Class and size of each group `[G]`, and the group of each example `[N]`."""
    if groups is None:
        return labels, np.ones(len(labels), int), np.arange(len(labels))
    _, unit = np.unique(groups, return_inverse=True)
    pairs, counts = np.unique(np.stack([unit, labels], axis=1), axis=0, return_counts=True)
    # The most frequent label of each group comes first; of equally frequent ones the lowest.
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))
    _, firsts = np.unique(pairs[order, 0], return_index=True)
    return pairs[order[firsts], 1], np.bincount(unit), unit


def _bound(text: str, length: int, default: int) -> int:
    if not text:
        return default
    number = int(text.rstrip("%"))
    return min(round(length * number / 100) if text.endswith("%") else number, length)

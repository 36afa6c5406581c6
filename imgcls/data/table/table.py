"""A table of examples, the common form of folders and label files.

A folder, a manifest and a labeling tool's file that describe the same dataset give the same checked
table: sorted by path, with the same classes, labels and splits.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from imgcls.data.table import problems as kinds
from imgcls.data.table.names import normalize
from imgcls.data.table.problems import Problems

# Names of splits, in any case: of folders, of label files and in the column `split` of a manifest.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval"),
    "test": ("test", "testing"),
}
SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}
# Words that may follow: `training_set`, `test_images`.
_NEUTRAL_WORDS = {"set", "data", "dataset", "split", "images", "imgs"}
# Slices of a dataset without splits, which is divided by seed and stratified by class.
FRACTIONS = {"train": ("", "80%"), "val": ("80%", "90%"), "test": ("90%", "")}


class Segment(NamedTuple):
    """A part of a video, in seconds since its first frame; None is its start or end."""

    start: float | None
    end: float | None

    def of(self, name: str) -> str:
        """The name of the part of a video, as a media fragment (W3C): `a.mp4#t=1.5,4`."""
        times = ",".join("" if time is None else f"{time:g}" for time in self)
        fragment = f"#t={times}"
        return name if name.endswith(fragment) else name + fragment


class Item(NamedTuple):
    """One example of a table.

    Attributes:
      path: path of the image, relative to the root of the files.
      labels: names of its classes.
      split: its split, if the source has any.
      group: its group, if any.
      metadata: other information, ready for JSON.
      segment: the part of a video, see `Segment`; None for all of it.
    """

    path: str
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    metadata: dict = {}
    segment: Segment | None = None


@dataclasses.dataclass
class Table:
    """Examples as read from a folder or label file, unchecked.

    Attributes:
      spec: the source as the user wrote it, for messages.
      classes_file: path of the file with the order of the classes.
      shared_classes_file: path of a file that is read if there is no `classes_file`; '' for none.
      multi_label, separator, question, label_columns: see
        `imgcls.data.sources.source.SourceOptions`.
      items: examples, with paths as in the label file.
      problems: invalid entries found so far.
      classes: classes declared by the source, in addition to those of the examples.
      parents: those of `classes` that only group others; they are classes if examples have them.
      listed: whether the source has lists of labels, and so is multi-label by default.
      by_name: whether to search by file name for an image that is not at its path.
      videos: whether the examples are videos, of which an example may be a part.
    """

    spec: str
    classes_file: str
    multi_label: bool | None = None
    separator: str = "|"
    question: str | None = None
    label_columns: tuple[str, ...] = ()
    items: list[Item] = dataclasses.field(default_factory=list)
    problems: Problems = dataclasses.field(default_factory=Problems)
    classes: set[str] = dataclasses.field(default_factory=set)
    parents: set[str] = dataclasses.field(default_factory=set)
    shared_classes_file: str = ""
    listed: bool = False
    by_name: bool = False
    videos: bool = False

    def add(
        self,
        path: str,
        labels: Iterable[str],
        split: str | None = None,
        group: str | None = None,
        metadata: dict | None = None,
        segment: Segment | None = None,
    ) -> None:
        """Adds an example, with its labels stripped and without duplicates."""
        names = _clean(tuple(labels))
        if not is_line(" ".join(names)):
            self.problems.add(kinds.MALFORMED, f"{path} has a label that is not a line of text")
            return
        group = None if group is None else normalize(group)
        self.items.append(Item(path, names, split, group, metadata or {}, segment))


@functools.lru_cache(maxsize=4096)
def split_of(name: str) -> str | None:
    """The split of a name: 'train' for `Training` or `training_set`; None for other names."""
    words = re.findall("[a-z]+", name.lower())
    if words and words[0] in SPLITS and set(words[1:]) <= _NEUTRAL_WORDS:
        return SPLITS[words[0]]
    return None


def splits_in(name: str) -> set[str]:
    """The splits among the words of a name: `{'val'}` for `instances_val2017`."""
    return {SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLITS}


@functools.lru_cache(maxsize=4096)
def _clean(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(normalize(name) for name in map(str.strip, labels) if name))


def is_line(text: str) -> bool:
    """Whether a text can be written as one line of UTF-8, like the classes in `classes.txt`.

    The name of a folder may not be valid UTF-8, and JSON may have unpaired surrogates.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in text and "\r" not in text

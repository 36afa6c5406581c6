"""One table of examples, whatever names them: checked, put in order and split, then a source.

A folder, a manifest and a labelling tool's file that describe the same data set end here in the
same table: sorted by path, with the same classes, labels and splits.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import NamedTuple

from imgcls.data.table import problems as kinds
from imgcls.data.table.problems import Problems

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLITS = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
# What comes without splits is divided by seed, every class alike.
FRACTIONS = {"train": ("", "80%"), "val": ("80%", "90%"), "test": ("90%", "")}


class Item(NamedTuple):
    """One example: where its picture is, and what is known of it.

    Attributes:
      path: of the picture, from the root of the files.
      labels: names of its classes.
      split, group: where there are any.
      metadata: all else, ready for JSON.
    """

    path: str
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    metadata: dict = {}


@dataclasses.dataclass
class Table:
    """What a reader found.

    Attributes:
      spec: the source in the user's words, for messages.
      classes_file: where the order of the classes is kept.
      items: the examples, with paths as the file writes them.
      problems: met so far.
      classes: declared ones, beside those that occur.
      listed: labels come as lists, so that there may be any number of them.
      by_name: a picture that is not where its path says is looked for by its file name.
      multi_label, separator: what the user wants, see `imgcls.data.sources.open.open_dataset`.
    """

    spec: str
    classes_file: str
    multi_label: bool | None = None
    separator: str = "|"
    items: list[Item] = dataclasses.field(default_factory=list)
    problems: Problems = dataclasses.field(default_factory=Problems)
    classes: set[str] = dataclasses.field(default_factory=set)
    listed: bool = False
    by_name: bool = False

    def add(
        self,
        path: str,
        labels: Iterable[str],
        split: str | None = None,
        group: str | None = None,
        metadata: dict | None = None,
    ) -> None:
        """Adds an example; its labels are stripped, and each counts once."""
        names = _clean(tuple(labels))
        if not _is_line(" ".join(names)):
            self.problems.add(kinds.MALFORMED, f"{path} has a label that is no line of text")
            return
        self.items.append(Item(path, names, split, group, metadata or {}))


@functools.lru_cache(maxsize=4096)
def _clean(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(str.strip, labels))))


def _is_line(text: str) -> bool:
    """Whether it can be written as one line, as classes are.

    A folder's name may hold bytes that are no UTF-8, and JSON half a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in text and "\r" not in text

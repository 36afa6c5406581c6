"""Names of classes and files: one Unicode form, and names that are probably one class."""

import collections
import unicodedata
from collections.abc import Iterable

# Texts that programs write for a missing value.
_MISSING = {"nan", "null", "n/a", "#n/a", "<na>", "nat"}


def normalize(name: str) -> str:
    """A name in Unicode's form NFC: macOS writes `é` as two characters, other systems as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def find_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ only in case, spacing or the form of a number, in order.

    A text for a missing value, such as `nan`, is a group of its own.
    """
    groups = collections.defaultdict(list)
    for name in names:
        groups[_key(name)].append(name)
    return [tuple(g) for key, g in groups.items() if len(g) > 1 or key in _MISSING]


def describe_alike(groups: Iterable[tuple[str, ...]], most: int = 5) -> str:
    """The groups in words: "'Cat' and 'cat'; 'nan' (a missing value?)"."""
    words = [
        " and ".join(map(repr, group)) + (" (a missing value?)" if len(group) == 1 else "")
        for group in groups
    ]
    return "; ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _key(name: str) -> str | float:
    folded = "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c not in " _-")
    if folded in _MISSING:
        return folded
    try:
        return float(name)
    except ValueError:
        return folded

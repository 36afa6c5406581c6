"""Invalid entries of a dataset, counted by kind; the first ones are named."""

import collections

MAX_NAMES = 100

MISSING = "missing image"
AMBIGUOUS = "file name of several images"
UNKNOWN = "unknown label"
UNLABELED = "image without a label"
DUPLICATE = "image listed twice"
CONFLICT = "image listed twice with different labels"
TIE = "tied vote"
TWO_SPLITS = "group in two splits"
MALFORMED = "malformed entry"
UNREADABLE = "unreadable image"
NO_CLASS = "image in no class folder"
NO_IMAGE = "folder without an image"


class Problems:
    """Problems by kind, in order of first occurrence.

    Attributes:
      counts: `{kind: number}`; the kinds are this module's constants.
      names: `{kind: the first 100 names}`.
      passed_over: `{type: number}` of annotations that are not labels, such as boxes; these are not
        problems.
      other_files: `{extension: number}` of files in the folders that are not decoded as images.
      hints: `{kind: how to fix it}`.
    """

    def __init__(self):
        self.counts: collections.Counter[str] = collections.Counter()
        self.names: dict[str, list[str]] = {}
        self.passed_over: collections.Counter[str] = collections.Counter()
        self.other_files: collections.Counter[str] = collections.Counter()
        self.hints: dict[str, str] = {}

    def add(self, kind: str, name: str) -> None:
        """Counts a problem of `kind` with the entry `name`."""
        self.counts[kind] += 1
        names = self.names.setdefault(kind, [])
        if len(names) < MAX_NAMES:
            # Names may hold surrogates, which can't be printed or written as UTF-8.
            names.append(name.encode(errors="backslashreplace").decode())

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """One line: each kind with its count and first three names."""
        return "; ".join(self.lines())

    def lines(self) -> list[str]:
        """One line per kind."""
        return [self._describe(kind) for kind in self.counts]

    def _describe(self, kind: str) -> str:
        more = ", ..." if self.counts[kind] > 3 else ""
        hint = f" [{self.hints[kind]}]" if kind in self.hints else ""
        return f"{self.counts[kind]:,} x {kind} ({', '.join(self.names[kind][:3])}{more}){hint}"

"""What is wrong with the entries of a data set: counted, and the first ones named."""

import collections

NAMED = 100

MISSING = "missing picture"
AMBIGUOUS = "file name that several pictures have"
UNKNOWN = "unknown label"
UNLABELLED = "picture without a label"
DUPLICATE = "picture named twice"
CONFLICT = "picture named twice with different labels"
TIE = "tied vote"
TWO_SPLITS = "group in two splits"
MALFORMED = "malformed entry"
UNREADABLE = "unreadable picture"


class Problems:
    """Problems by kind, in the order in which they were met.

    Attributes:
      counts: `{kind: number}`; the kinds are this module's constants.
      names: `{kind: the first 100 names}`.
      passed_over: `{what: number}` of things that hold no label and are no mistake, such as boxes.
      hints: `{kind: what mends it}`.
    """

    def __init__(self):
        self.counts: collections.Counter[str] = collections.Counter()
        self.names: dict[str, list[str]] = {}
        self.passed_over: collections.Counter[str] = collections.Counter()
        self.hints: dict[str, str] = {}

    def add(self, kind: str, name: str) -> None:
        """Counts a problem of `kind` with what `name` says."""
        self.counts[kind] += 1
        names = self.names.setdefault(kind, [])
        if len(names) < NAMED:
            # What is no text can't be printed everywhere.
            names.append(name.encode(errors="backslashreplace").decode())

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """One line: each kind with its count and first three names."""
        return "; ".join(self.lines())

    def lines(self) -> list[str]:
        """A line for each kind."""
        return [self._tell(kind) for kind in self.counts]

    def _tell(self, kind: str) -> str:
        more = ", ..." if self.counts[kind] > 3 else ""
        hint = f" [{self.hints[kind]}]" if kind in self.hints else ""
        return f"{self.counts[kind]:,} x {kind} ({', '.join(self.names[kind][:3])}{more}){hint}"

"""What the answers to an image amount to: its labels and its status."""

import collections
import dataclasses
from collections.abc import Sequence

# Of an answer: none of these classes, not sure, and skipped.
FLAGS = ("none", "unsure", "skip")
STATUSES = ("new", "in_progress", "review", "done")


@dataclasses.dataclass(frozen=True)
class Vote:
    """The answer of a user: the classes that it names today, and its flag."""

    user: int
    classes: frozenset[int]
    flag: str | None

    @property
    def decides(self) -> bool:
        """Whether it counts: it names classes, or says that none of them is right."""
        return self.flag == "none" or (self.flag is None and bool(self.classes))


@dataclasses.dataclass(frozen=True)
class Settled:
    """Attributes: labels: class ids; status: see STATUSES; disputed: whether taggers disagree."""

    labels: frozenset[int]
    status: str
    disputed: bool


def settle(
    votes: Sequence[Vote],
    *,
    kind: str,
    taggers: int,
    reviewed_by: int | None = None,
    in_review: bool = False,
) -> Settled:
    """Derives labels and status from all answers to an image.

    `taggers` decisions settle an image by majority. Ties, and answers that are not sure where
    decisions are missing, go to review. The reviewer's own answer wins; a reviewer without one has
    confirmed the majority.
    """
    decisions = [vote for vote in votes if vote.decides]
    disputed = len({vote.classes for vote in decisions}) > 1
    winners = majority([vote.classes for vote in decisions], kind)
    if reviewed_by is not None:
        own = [vote.classes for vote in decisions if vote.user == reviewed_by]
        return Settled(own[0] if own else winners or frozenset(), "done", disputed)
    enough = len(decisions) >= taggers
    labels = winners if enough and winners is not None else frozenset()
    unsure = any(vote.flag == "unsure" for vote in votes)
    if in_review or (enough and winners is None) or (unsure and not enough):
        status = "review"
    elif enough:
        status = "done"
    else:
        status = "in_progress" if any(vote.flag or vote.classes for vote in votes) else "new"
    return Settled(labels, status, disputed)


def majority(choices: Sequence[frozenset[int]], kind: str) -> frozenset[int] | None:
    """What most choose; None for a tie, or without choices.

    Single-label: the choice with most votes. Multi-label: each class that more than half name; a
    tie is a class that exactly half name, or no class without that most say so.
    """
    if not choices:
        return None
    if kind == "single":
        (first, votes), *rest = collections.Counter(choices).most_common(2)
        return None if rest and rest[0][1] == votes else first
    counts = collections.Counter(c for choice in choices for c in choice)
    if any(2 * n == len(choices) for n in counts.values()):
        return None
    winners = frozenset(c for c, n in counts.items() if 2 * n > len(choices))
    empty = sum(not choice for choice in choices)
    return winners if winners or 2 * empty > len(choices) else None

"""What every checkpoint records about its run."""

import dataclasses


@dataclasses.dataclass
class Record:
    """What every checkpoint tells of the run up to its step.

    Attributes:
      shift: steps by which the data order was moved on: step s trains on the batch of s + shift.
        Not 0: the run has gone back, and does so only once.
      skipped: updates left out.
      in_a_row: how many of these came last, one after the other.
      useful_seconds: see `imgcls.runs.goodput`.
    """

    shift: int = 0
    skipped: int = 0
    in_a_row: int = 0
    useful_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Steps in a row whose updates were left out; one more than may be."""

    first: int
    last: int

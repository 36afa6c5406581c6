"""The history of a run, which every checkpoint records."""

import dataclasses


@dataclasses.dataclass
class Record:
    """History of a run up to the step of a checkpoint.

    Attributes:
      shift: offset of the data order: step s trains on batch s + shift. It is not 0 after a
        rollback, of which a run has at most one.
      skipped: number of skipped updates.
      in_a_row: number of consecutive updates skipped up to this step.
      useful_seconds: useful time of the run, see `imgcls.runs.goodput`.
    """

    shift: int = 0
    skipped: int = 0
    in_a_row: int = 0
    useful_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Stretch:
    """First and last of the consecutive skipped updates that exceed `config.guard.skip`."""

    first: int
    last: int

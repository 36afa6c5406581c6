"""Values that all processes agree on, and a check that they were started in the same way."""

import json

import jax
import numpy as np
from jax.experimental import multihost_utils

from imgcls.core.errors import ConfigError
from imgcls.distributed.peers import Peers


def agree(ok: bool) -> bool:
    """Whether `ok` is true on all processes. All processes call it at the same point."""
    if jax.process_count() == 1:
        return ok
    return bool(multihost_utils.process_allgather(np.array(ok)).all())


def from_first(value: int) -> int:
    """The value of process 0. All processes call it at the same point."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.array(value, np.int32)))


class Agreement:
    """Compares the processes of a run through JAX's coordination service.

    Args:
      peers: processes of the run.
    """

    def __init__(self, peers: Peers):
        self._peers, self._checks = peers, 0

    def check_same(self, what: str, mine: dict) -> None:
        """Compares each process with process 0, which collects the differences for all to read.

        Args, raises: see `processes.check_same`.
        """
        mine = json.loads(json.dumps(mine, default=str))
        self._checks += 1  # The same values are checked again after a rollback.
        root = f"imgcls/same/{self._checks}"
        client, place, get = self._peers.client, self._peers.place, self._peers.get
        if place.index == 0:
            client.key_value_set(f"{root}/first", json.dumps(mine))
            differences = [get(f"{root}/{i}") for i in range(1, place.count)]
            client.key_value_set(f"{root}/verdict", "; ".join(filter(None, differences)))
        else:
            difference = _describe_difference(place.index, mine, json.loads(get(f"{root}/first")))
            client.key_value_set(f"{root}/{place.index}", difference)
        verdict = get(f"{root}/verdict")
        if verdict:
            raise ConfigError(
                f"the processes differ from process 0 in their {what}: {verdict}. Start the same "
                "command, code and data on each"
            )


def _describe_difference(index: int, mine: dict, first: dict) -> str:
    """Describes how a process's values differ from those of process 0; '' if they don't."""
    parts = [
        f"{key} is {_short(mine.get(key))}, not {_short(first.get(key))}"
        for key in {**first, **mine}
        if first.get(key) != mine.get(key)
    ]
    return f"of process {index}, {', '.join(parts)}" if parts else ""


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."

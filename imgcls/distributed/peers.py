"""The connected processes of a run, and the service through which they exchange text."""

import dataclasses
from typing import Protocol

from imgcls.distributed.cluster import Place


class Client(Protocol):
    """The methods used of the client of JAX's coordination service, which process 0 hosts."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str: ...

    def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int) -> None: ...


@dataclasses.dataclass(frozen=True)
class Peers:
    """The connected processes of a run.

    Attributes:
      place: place of this process.
      client: client of JAX's coordination service.
      timeout: seconds without a beat after which a process is lost.
    """

    place: Place
    client: Client
    timeout: float

    @property
    def turn(self) -> float:
        """Seconds between two beats; the service needs about 100 microseconds per process."""
        return max(1.0, self.place.count / 100)

    def get(self, key: str) -> str:
        """Waits for a value that another process sets."""
        return self.client.blocking_key_value_get(key, self._patience)

    def wait(self, name: str) -> None:
        """Waits until all processes have reached the barrier `name`."""
        self.client.wait_at_barrier(name, self._patience)

    @property
    def _patience(self) -> int:
        """Milliseconds to wait: long enough that the beats detect a lost process first."""
        return int(self.timeout * 1000) + 60_000

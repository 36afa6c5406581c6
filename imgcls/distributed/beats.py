"""Heartbeats of the processes of a run, which detect lost and stuck processes.

Each process writes a beat about every second and reads those of the others. Beats go through JAX's
coordination service, so they continue while a collective operation hangs. When one process ends,
all end: with its error, or with `EXIT_AGAIN` if it was lost.
"""

import json
import socket
import threading
import time

import jax

from imgcls.core.errors import EXIT_AGAIN
from imgcls.distributed.ending import AGAIN, FOLDER, Ending
from imgcls.distributed.peers import Peers

# Beats that a peer may miss before it counts as lost, once an error has made that likely.
SUSPECT = 5


class Beats:
    """Threads that write this process's beats and watch those of the others.

    Args:
      peers: processes of the run.
      ending: ends this process.
      stall: seconds without a step, while others wait, after which a process counts as stuck; at
        least the timeout of `peers` is used, and 0 means never.

    Attributes:
      step: current step of this process.
    """

    def __init__(self, peers: Peers, ending: Ending, stall: float):
        self.step = 0
        self._peers, self._ending = peers, ending
        self._stall = stall and max(stall, peers.timeout)
        self._over = self._suspicious = self._answered = False
        # Turns are counted, not seconds, so that no process is lost if all are frozen for a while.
        others = set(range(peers.place.count)) - {peers.place.index}
        self._silent = dict.fromkeys(others, 0)
        self._behind = dict.fromkeys(others, 0)

    def start(self) -> None:
        """Starts the threads."""
        threading.Thread(target=self._watch, daemon=True).start()
        threading.Thread(target=self._watch_coordinator, daemon=True).start()

    def close(self) -> None:
        """Stops the threads; from then on no process counts as lost."""
        self._over = True

    def suspect(self) -> None:
        """Waits until a lost process would be detected; call it after an error that one may cause.

        If a process is lost, this process ends here.
        """
        self._suspicious = True
        # Turn by turn, so that the time for which this process is frozen does not count.
        for _ in range(SUSPECT + 3):
            time.sleep(self._peers.turn)

    def check_coordinator(self) -> None:
        """Ends this process if the coordinator is gone; call it when JAX aborts.

        JAX aborts as soon as the coordinator is gone; requests of the watching thread then hang.
        """
        host, _, port = self._peers.place.coordinator.rpartition(":")
        for _ in range(3):
            try:
                socket.create_connection((host.strip("[]"), int(port)), 2).close()
            except OSError:
                self._lose(0)
            time.sleep(1)
        if self._ending.begun:
            threading.Event().wait()  # Until the process ends with its own code.

    def _watch(self) -> None:
        """Writes this process's beat and reads those of the others, once per turn."""
        beat, last = 0, {}
        while not self._over:
            beat += 1
            try:
                entries = self._exchange(f"{beat} {self.step}")
            except jax.errors.JaxRuntimeError:
                self._lose(0)
                return
            self._answered = True
            for peer in self._silent:
                if end := entries.get(f"{FOLDER}/{peer}/end"):
                    self._ending.end(*json.loads(end))
                new = entries.get(f"{FOLDER}/{peer}/beat")
                self._compare_beats(peer, new, last.get(peer))
                last[peer] = new
            time.sleep(self._peers.turn)

    def _exchange(self, beat: str) -> dict[str, str]:
        """Writes a beat; returns the beats and ends of all processes."""
        client = self._peers.client
        client.key_value_set(f"{FOLDER}/{self._peers.place.index}/beat", beat, True)
        return dict(client.key_value_dir_get(FOLDER))

    def _compare_beats(self, peer: int, new: str | None, last: str | None) -> None:
        """Counts the consecutive turns without a beat of a peer."""
        self._silent[peer] = self._silent[peer] + 1 if new == last else 0
        if self._silent[peer] >= self._patience():
            self._lose(peer)
        if self._stall and new:
            self._compare_steps(peer, _step_of(new), _step_of(last))

    def _compare_steps(self, peer: int, step: int, last: int) -> None:
        """Counts the consecutive turns in which a peer stays at a step that this one has passed.

        All processes wait for the slowest one at every step, so none is ahead by more than the two
        or so steps that are dispatched in advance.
        """
        stays = step == last and step < self.step
        self._behind[peer] = self._behind[peer] + 1 if stays else 0
        if self._behind[peer] * self._peers.turn >= self._stall:
            self._ending.end(
                EXIT_AGAIN,
                f"process {peer} hangs: no step after {step} within {self._stall:.0f} s, while the "
                f"others wait; {AGAIN}",
            )

    def _watch_coordinator(self) -> None:
        """Counts the turns without an answer, as requests to a frozen coordinator never return."""
        turns = 0
        while not self._over and self._peers.place.index != 0:
            self._answered = False
            time.sleep(self._peers.turn)
            turns = 0 if self._answered else turns + 1
            if turns >= self._patience():
                self._lose(0)

    def _patience(self) -> float:
        """Turns without a beat until a peer is lost; below the timeout, as beats may be late."""
        turns = max(self._peers.timeout / self._peers.turn - 4, 2)
        return min(turns, SUSPECT) if self._suspicious else turns

    def _lose(self, peer: int) -> None:
        if not self._over:
            self._ending.end(EXIT_AGAIN, f"process {peer} was lost: it ended or hangs; {AGAIN}")


def _step_of(beat: str | None) -> int:
    """The step in a beat; 0 if there is no beat yet or it has no step."""
    return int((beat or "").partition(" ")[2] or 0)

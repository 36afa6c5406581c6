"""Runs of several processes, which connect, check that they are the same, and stop together.

They communicate through JAX's coordination service, which process 0 hosts: `beats` detects lost and
stuck processes, `signals` handles SIGTERM, `agreement` compares processes, `ending` ends one.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from jax.experimental import multihost_utils

from imgcls.core.errors import ConfigError, UserError
from imgcls.distributed.agreement import Agreement
from imgcls.distributed.beats import Beats
from imgcls.distributed.cluster import Place
from imgcls.distributed.ending import Ending
from imgcls.distributed.meeting import meet
from imgcls.distributed.peers import Peers
from imgcls.distributed.signals import Signals

_session: "_Session | None" = None


@contextlib.contextmanager
def session(
    place: Place | None, timeout: float, stall: float = 0.0, interruptible: bool = False
) -> Iterator[None]:
    """Context in which this process takes part in a run, and SIGTERM stops the run gracefully.

    Args:
      place: place of this process; None if it is the only one.
      timeout: seconds without a sign of life after which a process is lost.
      stall: seconds without a step, while others wait, after which a process counts as stuck; at
        least `timeout` is used, and 0 means never.
      interruptible: whether SIGINT stops the run gracefully too; for a process alone.

    Raises:
      ConfigError: the coordinator's port is taken, or `timeout` or `stall` is out of range.
    """
    global _session
    if timeout < 5:
        raise ConfigError(f"config.processes.timeout={timeout}: must be at least 5 seconds")
    if stall < 0:
        raise ConfigError(f"config.processes.stall={stall}: must be 0 or more seconds")
    _session = _Session(interruptible)
    try:
        if place:
            _session.join(place, timeout, stall)
        yield
        _session.finish()
    except BaseException as e:
        _session.fail(e)
        raise
    finally:
        _session.close()
        _session = None


def stop_asked(step: int) -> bool:
    """Whether to save and stop after this step; call it at every step on every process.

    It is true after SIGTERM to any process, and the same on all processes.
    """
    return _session is not None and _session.stop_asked(step)


def check_same(what: str, mine: dict) -> None:
    """Checks that all processes have the same values; call it on every process.

    Args:
      what: description of the values, for the error.
      mine: values of this process, `{name: value}`, serializable as JSON.

    Raises:
      ConfigError: a process differs from process 0; raised on all, and names the differences.
    """
    if _session is not None:
        _session.check_same(what, mine)


class _Others(NamedTuple):
    """The parts of a session that need other processes."""

    peers: Peers
    beats: Beats
    agreement: Agreement


class _Session:
    """The part of this process in a run, alone until it joins others."""

    def __init__(self, interruptible: bool):
        self._ending = Ending()
        self._signals = Signals(self._ending, interruptible)
        self._others: _Others | None = None

    def join(self, place: Place, timeout: float, stall: float) -> None:
        peers = meet(place, timeout, self._ending)
        self._ending.peers = peers
        beats = Beats(peers, self._ending, stall)
        self._others = _Others(peers, beats, Agreement(peers))
        self._signals.replace_jax_handlers(on_abort=beats.check_coordinator)
        beats.start()

    def stop_asked(self, step: int) -> bool:
        self._signals.started = step > 0
        if self._others is None:
            return self._signals.asked
        self._others.beats.step = step
        return multihost_utils.reached_preemption_sync_point(step)

    def check_same(self, what: str, mine: dict) -> None:
        if self._others is not None:
            self._others.agreement.check_same(what, mine)

    def finish(self) -> None:
        """Waits for the others, while lost processes are still detected."""
        if self._others is not None:
            self._others.peers.wait("imgcls/finish")

    def fail(self, error: BaseException) -> None:
        # An error that is not a UserError is probably a failed collective operation, because
        # another process was lost.
        if self._others is not None and not isinstance(error, UserError):
            self._others.beats.suspect()
        self._ending.fail(error)

    def close(self) -> None:
        if self._others is not None:
            self._others.beats.close()
        self._signals.close()

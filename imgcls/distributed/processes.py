"""One run of many processes: they meet, check that they are the same, and stop together.

JAX's coordination service, which process 0 hosts, carries all of it: `beats` notices a process that
is lost or hangs, `signals` takes SIGTERM, `agreement` compares, and `ending` ends the process.
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
def session(place: Place | None, timeout: float, stall: float = 0.0) -> Iterator[None]:
    """Context in which this process takes part in a run, and SIGTERM stops it in order.

    Args:
      place: place of this process among many; None if it is alone.
      timeout: seconds after which a process that is silent, or does not come, is lost.
      stall: seconds after which a process hangs that makes no step though others wait for it; at
        least the timeout is used, and 0 means never.

    Raises:
      ConfigError: the coordinator's port is taken, or a wrong timeout or stall.
    """
    global _session
    if timeout < 5:
        raise ConfigError(f"config.processes.timeout={timeout}: must be at least 5 seconds")
    if stall < 0:
        raise ConfigError(f"config.processes.stall={stall}: must be 0 or more seconds")
    _session = _Session()
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
    """Whether to save after this step and stop; call it at every step, on every process.

    SIGTERM to any of them asks. All processes get the same answer at the same step.
    """
    return _session is not None and _session.stop_asked(step)


def check_same(what: str, mine: dict) -> None:
    """Checks that something is the same in all processes; call it on every one.

    Args:
      what: its name, for the error.
      mine: this process's values, as JSON can write them: `{part: value}`.

    Raises:
      ConfigError: on every process, if one differs from process 0; names it and the parts.
    """
    if _session is not None:
        _session.check_same(what, mine)


class _Others(NamedTuple):
    """What a process has once it has met the others."""

    peers: Peers
    beats: Beats
    agreement: Agreement


class _Session:
    """This process's part in a run: alone, until it joins others."""

    def __init__(self):
        self._ending = Ending()
        self._signals = Signals(self._ending)
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
        """Waits for the others; one that is lost meanwhile is still noticed."""
        if self._others is not None:
            self._others.peers.wait("imgcls/finish")

    def fail(self, error: BaseException) -> None:
        # An error that is not a user's is most likely a collective operation that failed, as
        # another process was lost.
        if self._others is not None and not isinstance(error, UserError):
            self._others.beats.suspect()
        self._ending.fail(error)

    def close(self) -> None:
        if self._others is not None:
            self._others.beats.close()
        self._signals.close()

"""One run of many processes: how they meet, check that they are alike, stop, and miss one another.

JAX's coordination service, which process 0 hosts, carries all of it, so that it also works while a
collective on the devices hangs. A thread writes this process's beat there every second and reads
the others'. What ends one process ends all: with its error, or `EXIT_AGAIN` when one was lost.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax._src import distributed
from jax.experimental import multihost_utils

from imgcls.core import log
from imgcls.core.errors import (
    EXIT_AGAIN,
    EXIT_CRASH,
    ConfigError,
    UserError,
    one_line,
)
from imgcls.distributed.cluster import Place

FOLDER = "imgcls/peers"
AGAIN = "type the same command again to continue"
EXIT_TERMINATED = 128 + signal.SIGTERM
# Beats that a peer may miss before it is taken for lost, once an error has made that likely.
SUSPECT = 5

_session: "_Session | None" = None


@contextlib.contextmanager
def session(place: Place | None, timeout: float, stall: float = 0.0) -> Iterator[None]:
    """Within it, this process is one of its run's, and SIGTERM ends it in order.

    Args:
      place: of this process among many; None if it is alone.
      timeout: seconds after which a process that is silent, or does not come, is lost.
      stall: seconds after which a process hangs that makes no step though others wait for it; not
        less than the timeout, and 0 lets it.

    Raises:
      ConfigError: the coordinator's port is taken, or a time can't be.
    """
    global _session
    if timeout < 5:
        raise ConfigError(f"config.processes.timeout={timeout}: must be at least 5 seconds")
    if stall < 0:
        raise ConfigError(f"config.processes.stall={stall}: must be 0 or more seconds")
    _session = _Session(place, timeout, stall)
    try:
        if place:
            _session.connect()
        yield
        _session.finish()
    except BaseException as e:
        _session.fail(e)
        raise
    finally:
        _session.close()
        _session = None


def stop_asked(step: int) -> bool:
    """Whether to save after this step and end; call it at every step, on every process.

    SIGTERM to any of them asks. All processes get the same answer at the same step.
    """
    return _session is not None and _session.stop_asked(step)


def check_same(what: str, mine: dict) -> None:
    """Checks that something is alike in all processes; call it on every one.

    Args:
      what: its name; each is checked once.
      mine: this process's, as JSON can write it: `{part: value}`.

    Raises:
      ConfigError: on every process, if one differs from process 0; names it and the parts.
    """
    if _session is not None and _session.place:
        _session.check_same(what, json.loads(json.dumps(mine, default=str)))


class _Session:
    """Two threads watch: one over SIGTERM, one over the other processes."""

    def __init__(self, place: Place | None, timeout: float, stall: float):
        self.place, self._timeout = place, timeout
        self._stall = stall and max(stall, timeout)
        self._step = 0  # that this process has come to
        self._asked = self._over = self._suspicious = False
        self._ending, self._forward = threading.Lock(), None
        self._checks = 0
        # The coordinator answers a request of each process's in a hundred microseconds or so.
        self._poll = max(1.0, place.count / 100) if place else 1.0
        # A signal is handled while the main thread compiles, or waits for a device.
        self._pipe, self._written = os.pipe()
        os.set_blocking(self._written, False)
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._wakeup = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
            self._handler = signal.signal(signal.SIGTERM, lambda *_: None)
        self._start(self._listen)

    def connect(self) -> None:
        """Meets the other processes."""
        place = self.place
        met = threading.Event()
        self._start(lambda: self._await_others(met))
        try:
            with _lost_coordinator_aborts():
                # JAX's own measures are a last resort: they end in a stack trace.
                jax.distributed.initialize(
                    *place[:3],
                    place.devices,
                    cluster_detection_method="deactivate",
                    initialization_timeout=10 * int(self._timeout),
                    heartbeat_timeout_seconds=10 * int(self._timeout),
                    shutdown_timeout_seconds=int(self._timeout),
                )
        except jax.errors.JaxRuntimeError as e:
            port = place.coordinator.rpartition(":")[2]
            raise ConfigError(
                f"--coordinator={place.coordinator}: {one_line(e)}; is port {port} free?"
            ) from e
        finally:
            met.set()
        self._client = distributed.global_state.client
        self._take_signals()
        self._start(self._watch)

    def stop_asked(self, step: int) -> bool:
        self._step = step
        if self.place:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked

    def check_same(self, what: str, mine: dict) -> None:
        """Each process compares with process 0, which gathers what differs and tells all."""
        self._checks += 1  # A run that goes back checks again.
        root, (_, count, index, _) = f"imgcls/same/{self._checks}", self.place
        if index == 0:
            self._client.key_value_set(f"{root}/first", json.dumps(mine))
            told = [self._get(f"{root}/{i}") for i in range(1, count)]
            self._client.key_value_set(f"{root}/verdict", "; ".join(filter(None, told)))
        else:
            first = json.loads(self._get(f"{root}/first"))
            parts = [
                f"{key} is {_short(mine.get(key))}, not {_short(first.get(key))}"
                for key in {**first, **mine}
                if first.get(key) != mine.get(key)
            ]
            difference = f"of process {index}, {', '.join(parts)}" if parts else ""
            self._client.key_value_set(f"{root}/{index}", difference)
        verdict = self._get(f"{root}/verdict")
        if verdict:
            raise ConfigError(
                f"the processes differ from process 0 in their {what}: {verdict}. Start the same "
                "command, code and data on each"
            )

    def finish(self) -> None:
        """Waits until all have come so far; who is lost meanwhile is still noticed."""
        if self.place:
            self._client.wait_at_barrier("imgcls/finish", int(self._timeout * 1000) + 60_000)

    def fail(self, error: BaseException) -> None:
        """Tells the others what ends this process, and sees that it does end."""
        if not self.place or not hasattr(self, "_client"):
            return
        if isinstance(error, UserError):
            code, told = error.exit_code, one_line(error)
        else:
            # A collective that failed, most likely: who is lost will be noticed soon.
            self._suspicious = True
            for _ in range(SUSPECT + 3):  # In turns as well, or a freeze would let it run ahead.
                time.sleep(self._poll)
            code, told = EXIT_CRASH, f"{type(error).__name__}: {one_line(error)}"
        # From here on, the error is this process's own.
        self._ending.acquire()
        self._publish(code, f"process {self.place.index} ended with {told}")
        # The end of the program would wait for the others, which wait for this one.
        atexit.register(_leave, code)
        leave = threading.Timer(30, _leave, (code,))
        leave.daemon = True
        leave.start()

    def close(self) -> None:
        """Gives the signals back."""
        self._over = True
        if self._main:
            signal.set_wakeup_fd(self._wakeup)
            signal.signal(signal.SIGTERM, self._handler)
        os.close(self._written)

    def _await_others(self, met: threading.Event) -> None:
        # In turns, as a process that is frozen for a while is not to blame.
        for _ in range(round(self._timeout)):
            if met.wait(1):
                return
        index, address = self.place.index, self.place.coordinator
        self._end(
            EXIT_AGAIN,
            f"process {index} of {self.place.count} did not meet all others at {address} within "
            f"{self._timeout:.0f} s: is each running, with the same --coordinator and "
            "--num_processes, and can it reach that port?",
        )

    def _start(self, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        return thread

    def _take_signals(self) -> None:
        """Stands before JAX's own handlers of SIGTERM and of an abort."""
        libc = ctypes.CDLL(None)
        libc.signal.restype = ctypes.c_void_p
        libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
        self._forward = handler(libc.signal(signal.SIGTERM, None))
        signal.signal(signal.SIGTERM, lambda *_: None)
        self._abort = handler(self._aborted)
        libc.signal(signal.SIGABRT, ctypes.cast(self._abort, ctypes.c_void_p))

    def _listen(self) -> None:
        while received := os.read(self._pipe, 1):
            if received[0] == signal.SIGTERM:
                self._terminate()
        os.close(self._pipe)

    def _terminate(self) -> None:
        if self._asked:
            self._end(EXIT_TERMINATED, "a second SIGTERM: ended at once")
        elif not self._step:
            self._end(EXIT_AGAIN, f"SIGTERM before the first step; {AGAIN}")
        elif self._forward:
            self._forward(signal.SIGTERM)
        self._asked = True

    def _watch(self) -> None:
        """Counts the turns in which a peer was silent: if all are frozen for a while, nobody is."""
        place, beat = self.place, 0
        self._silent = dict.fromkeys(set(range(place.count)) - {place.index}, 0)
        self._behind = dict(self._silent)
        last: dict[int, str | None] = {}
        self._start(self._watch_coordinator)
        while not self._over:
            beat += 1
            try:
                told = f"{beat} {self._step}"
                self._client.key_value_set(f"{FOLDER}/{place.index}/beat", told, True)
                found = dict(self._client.key_value_dir_get(FOLDER))
            except jax.errors.JaxRuntimeError:
                self._lose(0)
            self._answered = True
            for peer in self._silent:
                if end := found.get(f"{FOLDER}/{peer}/end"):
                    self._end(*json.loads(end))
                new = found.get(f"{FOLDER}/{peer}/beat")
                self._silent[peer] = self._silent[peer] + 1 if new == last.get(peer) else 0
                if self._silent[peer] >= self._patience():
                    self._lose(peer)
                if self._stall and new:
                    self._compare_steps(peer, _step_of(new), _step_of(last.get(peer)))
                last[peer] = new
            time.sleep(self._poll)

    def _compare_steps(self, peer: int, step: int, before: int) -> None:
        """Counts the turns in which a peer stands still at a step that this process has behind it.

        Steps wait for all: who is slow is waited for, and no process comes further ahead than the
        two or so that devices are given in advance.
        """
        stands = step == before and step < self._step
        self._behind[peer] = self._behind[peer] + 1 if stands else 0
        if self._behind[peer] * self._poll >= self._stall:
            self._end(
                EXIT_AGAIN,
                f"process {peer} hangs: no step after {step} within {self._stall:.0f} s, and the "
                f"others wait; {AGAIN}",
            )

    def _watch_coordinator(self) -> None:
        """A request to a process that was frozen does not return."""
        turns = 0
        while not self._over and self.place.index != 0:
            self._answered = False
            time.sleep(self._poll)
            turns = 0 if self._answered else turns + 1
            if turns >= self._patience():
                self._lose(0)

    def _patience(self) -> float:
        """How many turns a peer may be silent: less than the timeout, as its last may be late."""
        turns = max(self._timeout / self._poll - 4, 2)
        return min(turns, SUSPECT) if self._suspicious else turns

    def _lose(self, peer: int) -> None:
        if not self._over:
            self._end(EXIT_AGAIN, f"process {peer} was lost: it ended or hangs; {AGAIN}")

    def _aborted(self, _) -> None:
        """JAX aborts as soon as the coordinator is gone; the watch's requests then never return."""
        host, _, port = self.place.coordinator.rpartition(":")
        for _ in range(3):
            try:
                socket.create_connection((host.strip("[]"), int(port)), 2).close()
            except OSError:
                self._lose(0)
            time.sleep(1)
        if self._ending.locked():
            threading.Event().wait()  # until the process is ended with its own code

    def _end(self, code: int, message: str) -> None:
        """Ends this process, whatever its main thread does; the others follow."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()
        log.error(message)
        self._publish(code if code != EXIT_TERMINATED else EXIT_AGAIN, message)
        _leave(code)

    def _publish(self, code: int, message: str) -> None:
        """Writes how this process ended for the others to read, if anything still takes it."""
        if not hasattr(self, "_client"):
            return

        def write() -> None:
            key, value = f"{FOLDER}/{self.place.index}/end", json.dumps((code, message))
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._client.key_value_set(key, value, True)

        self._start(write).join(2 * self._poll)
        if self.place.index == 0:
            time.sleep(2.5 * self._poll)  # Its service ends with it, and all are to read this.

    def _get(self, key: str) -> str:
        return self._client.blocking_key_value_get(key, int(self._timeout * 1000) + 60_000)


@contextlib.contextmanager
def _lost_coordinator_aborts() -> Iterator[None]:
    """Within it, JAX is given a callback for a lost coordinator.

    Without one it leaves with code 1. With one it aborts, as it can't hand over its argument; an
    abort can be caught.
    """
    module, name = distributed._jax, "get_distributed_runtime_client"
    original = getattr(module, name)
    setattr(module, name, functools.partial(original, missed_heartbeat_callback=lambda *_: None))
    try:
        yield
    finally:
        setattr(module, name, original)


def _leave(code: int) -> None:
    """Ends the process and the loader's, without what else the end of a program waits for."""
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _step_of(beat: str | None) -> int:
    """0 if there is none yet, or if it is of other code, which is about to be told."""
    return int((beat or "").partition(" ")[2] or 0)


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."

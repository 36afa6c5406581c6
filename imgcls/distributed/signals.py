"""Handles SIGTERM: the first one asks the run to save and stop, the second ends the process.

In a notebook or script, Ctrl-C (SIGINT) may ask for the same; the second one is a
KeyboardInterrupt as usual.
"""

import ctypes
import os
import signal
import threading
from collections.abc import Callable

from imgcls.core import log
from imgcls.core.errors import EXIT_AGAIN
from imgcls.distributed.ending import AGAIN, EXIT_TERMINATED, Ending

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
# References to handlers that C code may call until the process ends.
_kept: list = []


class Signals:
    """A thread that handles SIGTERM, also while the main thread compiles or waits for a device.

    Args:
      ending: ends this process.
      interruptible: whether SIGINT asks the run to save and stop too.

    Attributes:
      asked: whether SIGTERM, or SIGINT if it counts, was received.
      started: whether the run has done a step. Before that there is nothing to save, so SIGTERM
        ends the process.
    """

    def __init__(self, ending: Ending, interruptible: bool = False):
        self.asked = self.started = False
        self._ending = ending
        self._forward: Callable[[int], None] | None = None
        self._pipe, self._written = os.pipe()
        os.set_blocking(self._written, False)
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._wakeup = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
            self._handler = signal.signal(signal.SIGTERM, lambda *_: None)
            self._interrupt = signal.getsignal(signal.SIGINT)
            if interruptible:
                signal.signal(signal.SIGINT, self._interrupted)
        threading.Thread(target=self._listen, daemon=True).start()

    def replace_jax_handlers(self, on_abort: Callable[[], None]) -> None:
        """Replaces the handler of SIGTERM that JAX installs, and forwards the first SIGTERM to it.

        Args:
          on_abort: called when JAX aborts the process.
        """
        libc = ctypes.CDLL(None)
        libc.signal.restype = ctypes.c_void_p
        libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
        self._forward = _Handler(libc.signal(signal.SIGTERM, None))
        signal.signal(signal.SIGTERM, lambda *_: None)
        _kept.append(_Handler(lambda _: on_abort()))
        libc.signal(signal.SIGABRT, ctypes.cast(_kept[-1], ctypes.c_void_p))

    def close(self) -> None:
        """Restores the handler of SIGTERM and ends the thread."""
        if self._main:
            signal.set_wakeup_fd(self._wakeup)
            signal.signal(signal.SIGTERM, self._handler)
            signal.signal(signal.SIGINT, self._interrupt)
        os.close(self._written)

    def _interrupted(self, *_) -> None:
        """Stops the run after its step; before the first there is nothing to save."""
        if self.asked or not self.started:
            raise KeyboardInterrupt
        log.info("interrupted: saving and stopping; interrupt again to end at once")
        self.asked = True

    def _listen(self) -> None:
        while received := os.read(self._pipe, 1):
            if received[0] == signal.SIGTERM:
                self._terminate()
        os.close(self._pipe)

    def _terminate(self) -> None:
        if self.asked:
            self._ending.end(EXIT_TERMINATED, "a second SIGTERM: ended at once")
        elif not self.started:
            self._ending.end(EXIT_AGAIN, f"SIGTERM before the first step; {AGAIN}")
        elif self._forward is not None:
            self._forward(signal.SIGTERM)
        self.asked = True

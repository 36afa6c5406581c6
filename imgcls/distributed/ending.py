"""Ends a process whatever its main thread does, and tells the others why."""

import atexit
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time

import jax

from imgcls.core import log
from imgcls.core.errors import EXIT_AGAIN, EXIT_CRASH, UserError, one_line
from imgcls.distributed.peers import Peers

AGAIN = "type the same command again to continue"
EXIT_TERMINATED = 128 + signal.SIGTERM
FOLDER = "imgcls/peers"


class Ending:
    """Ends this process. The first cause counts; later ones wait until the process ends.

    Attributes:
      peers: processes of the run, which read the cause; None until they are connected.
    """

    def __init__(self):
        self.peers: Peers | None = None
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        """Whether the process is about to end."""
        return self._lock.locked()

    def end(self, code: int, message: str) -> None:
        """Ends this process at once; the others end with the same message.

        Args:
          code: exit code.
          message: cause, which is logged.
        """
        if not self._lock.acquire(blocking=False):
            threading.Event().wait()
        log.error(message)
        self._publish(code if code != EXIT_TERMINATED else EXIT_AGAIN, message)
        leave(code)

    def fail(self, error: BaseException) -> None:
        """Publishes an error that ends the main thread, and ensures that the process ends."""
        if self.peers is None:
            return
        if isinstance(error, UserError):
            code, cause = error.exit_code, one_line(error)
        else:
            code, cause = EXIT_CRASH, f"{type(error).__name__}: {one_line(error)}"
        self._lock.acquire()
        self._publish(code, f"process {self.peers.place.index} ended with {cause}")
        # A normal exit would wait for the other processes, which wait for this one.
        atexit.register(leave, code)
        timer = threading.Timer(30, leave, (code,))
        timer.daemon = True
        timer.start()

    def _publish(self, code: int, message: str) -> None:
        """Writes the cause for the others to read, if the service still answers."""
        peers = self.peers
        if peers is None:
            return

        def write() -> None:
            key, value = f"{FOLDER}/{peers.place.index}/end", json.dumps((code, message))
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                peers.client.key_value_set(key, value, True)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        thread.join(2 * peers.turn)
        if peers.place.index == 0:
            # The service ends with this process, so the others need time to read the message.
            time.sleep(2.5 * peers.turn)


def leave(code: int) -> None:
    """Ends the process and the loader's workers immediately."""
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)

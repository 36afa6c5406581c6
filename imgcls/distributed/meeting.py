"""Connects the processes of a run through JAX's coordination service."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import jax
from jax._src import distributed

from imgcls.core.errors import EXIT_AGAIN, ConfigError, one_line
from imgcls.distributed.cluster import Place
from imgcls.distributed.ending import Ending
from imgcls.distributed.peers import Peers


def meet(place: Place, timeout: float, ending: Ending) -> Peers:
    """Connects to the coordination service and waits until all processes are connected.

    Args:
      place: place of this process.
      timeout: seconds to wait, after which the process ends.
      ending: ends this process.

    Raises:
      ConfigError: the coordinator's port is taken.
    """
    met = threading.Event()
    watch = functools.partial(_end_if_late, met, place, timeout, ending)
    threading.Thread(target=watch, daemon=True).start()
    try:
        with _lost_coordinator_aborts():
            # JAX's own timeouts are a last resort, as they end in a stack trace.
            jax.distributed.initialize(
                place.coordinator,
                place.count,
                place.index,
                place.devices,
                cluster_detection_method="deactivate",
                initialization_timeout=10 * int(timeout),
                heartbeat_timeout_seconds=10 * int(timeout),
                shutdown_timeout_seconds=int(timeout),
            )
    except jax.errors.JaxRuntimeError as e:
        port = place.coordinator.rpartition(":")[2]
        raise ConfigError(
            f"--coordinator={place.coordinator}: {one_line(e)}; is port {port} free?"
        ) from e
    finally:
        met.set()
    client = distributed.global_state.client
    assert client is not None  # Set by `initialize`.
    return Peers(place, client, timeout)


def _end_if_late(met: threading.Event, place: Place, timeout: float, ending: Ending) -> None:
    """Ends this process unless all processes are connected within the timeout."""
    # Second by second, so that the time for which this process is frozen does not count.
    for _ in range(round(timeout)):
        if met.wait(1):
            return
    ending.end(
        EXIT_AGAIN,
        f"process {place.index} of {place.count} did not meet all others at {place.coordinator} "
        f"within {timeout:.0f} s: check that each is running with the same --coordinator and "
        "--num_processes, and can reach that port",
    )


@contextlib.contextmanager
def _lost_coordinator_aborts() -> Iterator[None]:
    """Context in which JAX is created with a callback for a lost coordinator.

    Without a callback, JAX exits with code 1 when the coordinator is lost. With one, it aborts, as
    it can't pass the callback's argument to Python, and an abort can be handled.
    """
    module: Any = distributed._jax  # pyright: ignore[reportPrivateImportUsage]
    original = module.get_distributed_runtime_client
    module.get_distributed_runtime_client = functools.partial(
        original, missed_heartbeat_callback=lambda *_: None
    )
    try:
        yield
    finally:
        module.get_distributed_runtime_client = original
